#!/usr/bin/python3
"""ClickHouse's HTTP interface in front of libchdb, for tests.

    chdb_http.py LIBCHDB.SO DATA_DIR PORT

libchdb is the current ClickHouse engine as a library, without a server.  This
program gives it the part of the HTTP interface that a client needs: POST
/?query=...&database=...&query_id=...&SETTING=..., a body that is the rest of
the query or the data of an INSERT, users by X-ClickHouse-User and -Key or by a
bearer token, errors with their status and X-ClickHouse-Exception-Code, and GET
/ping.  GET /encodings lists the Content-Encoding of each request.  One thread and one session of the engine per connection.

The engine has no query ids, so this program keeps the list of those that run:
a second query under a running id is refused with code 216, and the name
system.processes in a query stands for that list.

Environment: PST_CLICKHOUSE_PASSWORD is the password of the user "relay" (the
user "default" has none); PST_CLICKHOUSE_TOKEN is a bearer token that is let in;
PST_CLICKHOUSE_TLS is a folder with cert.pem and key.pem, for HTTPS on the port
above PORT.
"""
import ctypes
import gzip
import os
import re
import signal
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

USERS = {"default": "", "relay": os.environ.get("PST_CLICKHOUSE_PASSWORD", "relay-secret")}
TOKEN = os.environ.get("PST_CLICKHOUSE_TOKEN")

# what is said in the URL beside settings
NOT_SETTINGS = {"query", "database", "query_id", "user", "password", "wait_end_of_query",
                "buffer_size", "default_format", "session_id"}
STATUS = {60: 404, 81: 404, 62: 400, 26: 400, 27: 400, 36: 400, 115: 400, 117: 400, 53: 400,
          497: 403, 516: 403, 159: 408, 202: 503, 241: 500}


class EngineError(Exception):
    """An exception of the engine: its text begins with "Code: N."."""

    def __init__(self, text):
        super().__init__(text)
        self.text = text.strip()
        found = re.search(r"Code: (\d+)", self.text)
        self.code = int(found.group(1)) if found else 1002


class Engine:
    """The functions of libchdb that are used here."""

    def __init__(self, path):
        library = ctypes.CDLL(path)

        def bind(name, result, *arguments):
            function = getattr(library, name)
            function.restype = result
            function.argtypes = arguments
            return function

        pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
        self.connect = bind("chdb_connect", ctypes.POINTER(pointer), ctypes.c_int,
                            ctypes.POINTER(text))
        self.close = bind("chdb_close_conn", None, ctypes.POINTER(pointer))
        self.query = bind("chdb_query_n", pointer, pointer, text, size, text, size)
        self.buffer = bind("chdb_result_buffer", pointer, pointer)
        self.length = bind("chdb_result_length", size, pointer)
        self.error = bind("chdb_result_error", text, pointer)
        self.destroy = bind("chdb_destroy_query_result", None, pointer)
        self.insert = bind("chdb_stream_insert", pointer, pointer, text, text)
        self.insert_error = bind("chdb_stream_insert_error", text, pointer)
        self.append = bind("chdb_stream_append", ctypes.c_int, pointer, text, size)
        self.done = bind("chdb_stream_done", pointer, pointer)
        self.cancel = bind("chdb_stream_cancel_insert", None, pointer)
        self.destroy_insert = bind("chdb_destroy_insert_stream", None, pointer)


class Session:
    """One session of the engine: its current database and settings stay with it."""

    def __init__(self, engine, path):
        self.engine = engine
        words = [b"clickhouse", b"--path=" + path.encode()]
        self.handle = engine.connect(len(words), (ctypes.c_char_p * len(words))(*words))
        if not self.handle:
            raise EngineError("Code: 1002. DB::Exception: the engine does not open a session")

    def close(self):
        self.engine.close(self.handle)

    def take(self, result):
        """The bytes of a result; raises what the engine says went wrong."""
        engine = self.engine
        try:
            error = engine.error(result)
            if error:
                raise EngineError(error.decode(errors="replace"))
            length = engine.length(result)
            return ctypes.string_at(engine.buffer(result), length) if length else b""
        finally:
            engine.destroy(result)

    def run(self, sql, form="TabSeparated"):
        return self.take(self.engine.query(self.handle[0], sql, len(sql), form.encode(), len(form)))

    def send(self, sql, form, data):
        """INSERT of binary data."""
        engine = self.engine
        stream = engine.insert(self.handle[0], sql.encode(), form.encode())
        try:
            error = engine.insert_error(stream)
            if not error and engine.append(stream, data, len(data)) != 0:
                error = engine.insert_error(stream) or b"Code: 1002. DB::Exception: append"
            if error:
                engine.cancel(stream)
                raise EngineError(error.decode(errors="replace"))
            self.take(engine.done(stream))
        finally:
            engine.destroy_insert(stream)


class Running:
    """The ids of the queries that run."""

    def __init__(self):
        self.lock = threading.Lock()
        self.ids = []

    def enter(self, name):
        with self.lock:
            if name and name in self.ids:
                raise EngineError(f"Code: 216. DB::Exception: Query with id = {name} is already "
                                  "running. (QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING)")
            self.ids.append(name)

    def leave(self, name):
        with self.lock:
            self.ids.remove(name)

    def as_table(self):
        with self.lock:
            listed = ", ".join(quote(name) for name in self.ids)
        return f"(SELECT arrayJoin(CAST([{listed}], 'Array(String)')) AS query_id)"


def unpack_zstd(data):
    """One frame of zstd that says how long its contents are."""
    library = ctypes.CDLL("libzstd.so.1")
    size = ctypes.c_size_t
    library.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
    library.ZSTD_decompress.restype = size
    library.ZSTD_decompress.argtypes = ctypes.c_void_p, size, ctypes.c_char_p, size
    length = library.ZSTD_getFrameContentSize(data, size(len(data)))
    if length >= 1 << 32:       # an error, too
        raise EngineError("Code: 561. DB::Exception: not a frame of zstd (ZSTD_DECODER_FAILED)")
    buffer = ctypes.create_string_buffer(length)
    if library.ZSTD_decompress(buffer, length, data, len(data)) != length:
        raise EngineError("Code: 561. DB::Exception: broken zstd (ZSTD_DECODER_FAILED)")
    return buffer.raw


def quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


INSERT = re.compile(rb"\s*INSERT\s+INTO\s", re.I)
FORMAT = re.compile(rb"\sFORMAT\s+(\w+)\s*;?\s*$", re.I)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    rbufsize = 1024 * 1024
    session = None

    def setup(self):
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def finish(self):
        if self.session is not None:
            self.session.close()
        super().finish()

    def log_message(self, form, *arguments):
        pass

    def answer(self, status, body, code=None):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-ClickHouse-Server-Display-Name", "chdb")
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        self.end_headers()
        self.wfile.write(body)

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            return body if len(body) == length else None
        parts = []
        while True:
            length = int(self.rfile.readline() or b"0", 16)
            parts.append(self.rfile.read(length))
            self.rfile.readline()
            if length == 0:
                return b"".join(parts)

    def unpack(self, body):
        encoding = self.headers.get("Content-Encoding", "none")
        self.server.encodings.append(encoding)
        if encoding == "gzip":
            return gzip.decompress(body)
        return unpack_zstd(body) if encoding == "zstd" else body

    def check_user(self):
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer" and TOKEN and token == TOKEN:
            return
        user = self.headers.get("X-ClickHouse-User", "default")
        if scheme or USERS.get(user) != self.headers.get("X-ClickHouse-Key", ""):
            raise EngineError(f"Code: 516. DB::Exception: {user}: Authentication failed: password "
                              "is incorrect, or there is no user with such name. "
                              "(AUTHENTICATION_FAILED)")

    def execute(self, params, body):
        if self.session is None:
            self.session = Session(self.server.engine, self.server.path)
        session = self.session
        session.run(b"USE " + b"`" + params.get("database", "default").encode() + b"`")
        settings = {k: v for k, v in params.items() if k not in NOT_SETTINGS}
        query = params.get("query", "").encode()
        if INSERT.match(query) and (found := FORMAT.search(query)):
            clause = ", ".join(f"{k} = {quote(v)}" for k, v in settings.items())
            sql = query[:found.start()].decode() + (" SETTINGS " + clause if clause else "")
            session.send(sql, found.group(1).decode(), body)
            return b""
        for name, value in settings.items():
            session.run(f"SET {name} = {quote(value)}".encode())
        sql = query + b"\n" + body if query and body else query + body
        return session.run(sql.replace(b"system.processes", self.server.running.as_table().encode()))

    def do_POST(self):
        body = self.read_body()
        if body is None:        # cut short: nobody is there to be answered
            self.close_connection = True
            return
        params = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        name = params.get("query_id", "")
        try:
            self.check_user()
            body = self.unpack(body)
            self.server.running.enter(name)
            try:
                result = self.execute(params, body)
            finally:
                self.server.running.leave(name)
            self.answer(200, result)
        except EngineError as error:
            self.answer(STATUS.get(error.code, 500), error.text.encode() + b"\n", error.code)

    def do_GET(self):
        if urlsplit(self.path).path == "/ping":
            self.answer(200, b"Ok.\n")
        elif urlsplit(self.path).path == "/encodings":
            self.answer(200, "\n".join(self.server.encodings).encode())
        else:
            self.do_POST()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def main():
    library, path, port = sys.argv[1:]
    server = Server(("127.0.0.1", int(port)), Handler)
    server.engine = Engine(library)
    server.path = path
    server.running = Running()
    server.encodings = []
    if tls := os.environ.get("PST_CLICKHOUSE_TLS"):
        secure = Server(("127.0.0.1", int(port) + 1), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls + "/cert.pem", tls + "/key.pem")
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        secure.engine, secure.path = server.engine, path
        secure.running, secure.encodings = server.running, server.encodings
        threading.Thread(target=secure.serve_forever, daemon=True).start()
    # held all along: the engine stays open between connections
    server.keeper = Session(server.engine, path)
    # the engine does not end cleanly with threads of ours in it; its data is on disk
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
