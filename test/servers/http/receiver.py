"""A receiver of webhooks, for tests.

    receiver.py PORT [--cert FILE --key FILE] [--secret KEY] [--token TOKEN]

PORT takes the webhooks: it keeps what it answers with 2xx and, where a secret is
given, refuses with 401 what is not signed with it (Standard Webhooks).  PORT + 1
is for the test: GET /received, DELETE /received, GET /requests (how many came,
whatever became of them) and POST /behave with an object of

    status        answer with this one (times: only so often)
    retry_after   the header's value
    poison        refuse with poison_status (default 422) bodies that have this text
    delay         seconds before the answer
    close         take the request, and close the connection without an answer
    location      the header's value
"""
import argparse
import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
received = []
requests = []
behaviour = {}


def is_signed(headers, body):
    if options.secret is None:
        return True
    signed = ("%s.%s." % (headers.get("webhook-id"), headers.get("webhook-timestamp"))).encode() + body
    digest = hmac.new(options.secret.encode(), signed, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(digest).decode()
    fresh = abs(time.time() - int(headers.get("webhook-timestamp") or 0)) < 300
    return fresh and hmac.compare_digest(headers.get("webhook-signature") or "", wanted)


def is_let_in(headers):
    return options.token is None or headers.get("authorization") == "Bearer " + options.token


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length") or 0))


class Hook(Handler):
    def do_POST(self):
        body = self.body()
        with lock:
            now = dict(behaviour)
            requests.append(time.time())
            if "status" in now and "times" in now:
                behaviour["times"] -= 1
                if behaviour["times"] <= 0:
                    behaviour.clear()
        time.sleep(now.get("delay", 0))
        if now.get("close"):
            self.close_connection = True
            return
        headers = [(name, now[key]) for key, name in
                   (("retry_after", "Retry-After"), ("location", "Location")) if key in now]
        if "status" in now:
            self.answer(now["status"], b"as told, Bearer %s" % (options.token or "-").encode(), headers)
        elif not is_let_in(self.headers):
            self.answer(401, b"who are you?")
        elif not is_signed(self.headers, body):
            self.answer(401, b"wrong signature")
        elif "poison" in now and now["poison"].encode() in body:
            self.answer(now.get("poison_status", 422), b"poison")
        else:
            with lock:
                received.append({"path": self.path, "body": body.decode(),
                                 "headers": {k.lower(): v for k, v in self.headers.items()}})
            self.answer(204)


class Control(Handler):
    def do_GET(self):
        with lock:
            what = requests if self.path == "/requests" else received
            body = json.dumps(what).encode()
        self.answer(200, body)

    def do_DELETE(self):
        with lock:
            received.clear()
            requests.clear()
        self.answer(204)

    def do_POST(self):
        wanted = json.loads(self.body())
        with lock:
            behaviour.clear()
            behaviour.update(wanted)
        self.answer(204)


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--cert")
parser.add_argument("--key")
parser.add_argument("--secret")
parser.add_argument("--token")
options = parser.parse_args()

hook = ThreadingHTTPServer(("127.0.0.1", options.port), Hook)
if options.cert:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    hook.socket = context.wrap_socket(hook.socket, server_side=True, do_handshake_on_connect=False)
control = ThreadingHTTPServer(("127.0.0.1", options.port + 1), Control)
for server in hook, control:
    server.daemon_threads = True
threading.Thread(target=hook.serve_forever, daemon=True).start()
control.serve_forever()
