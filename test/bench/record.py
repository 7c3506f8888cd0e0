#!/usr/bin/env python3
"""Keeps what a client sends to a server, so that it can be sent again ready-made.

  record.py listen PORT SERVER_PORT FILE    a proxy on 127.0.0.1, until SIGTERM
  record.py redis FILE OUT                  the XADD commands of it, and what each event is as JSON
  record.py clickhouse FILE OUT             the bodies of its INSERTs, and where they went
  record.py rabbitmq FILE OUT               its messages: routing key, properties, body

OUT.commands, OUT.json (one event a line); OUT.N.body and OUT.N.path; OUT.messages (each part after
its length, four bytes, the first is the most significant).
"""
import asyncio
import re
import struct
import sys


async def pump(reader, writer, keep=None):
    while data := await reader.read(1 << 20):
        if keep:
            keep.write(data)
        writer.write(data)
        await writer.drain()
    writer.close()


async def listen(port, server_port, file):
    keep = open(file, "wb", buffering=0)

    async def serve(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", server_port)
        await asyncio.gather(pump(reader, back, keep), pump(there, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 22)
    async with server:
        await server.serve_forever()


def redis_commands(data):
    """Each command as (its bytes, its words)."""
    at = 0
    while at < len(data):
        start = at
        end = data.index(b"\r\n", at)
        words = []
        count, at = int(data[at + 1:end]), end + 2
        for _ in range(count):
            end = data.index(b"\r\n", at)
            length, at = int(data[at + 1:end]), end + 2
            words.append(data[at:at + length])
            at += length + 2
        yield data[start:at], words


def redis(file, out):
    with open(out + ".commands", "wb") as commands, open(out + ".json", "wb") as events:
        for raw, words in redis_commands(open(file, "rb").read()):
            if words[0] == b"XADD":
                commands.write(raw)
                events.write(words[words.index(b"data") + 1] + b"\n")


def clickhouse(file, out):
    data = open(file, "rb").read()
    at = n = 0
    while at < len(data):
        end = data.index(b"\r\n\r\n", at) + 4
        head = data[at:end].decode()
        length = int(re.search(r"(?im)^content-length: *(\d+)", head).group(1))
        path = head.split(" ")[1]
        if "query=INSERT" in path:
            # a name is for one request only
            path = re.sub(r"&?(query_id|insert_deduplication_token)=[^&]*", "", path)
            open(f"{out}.{n}.path", "w").write(path)
            open(f"{out}.{n}.body", "wb").write(data[end:end + length])
            n += 1
        at = end + length


def amqp_frames(data):
    """Each frame as (type, payload)."""
    at = 8                      # the protocol header
    while at < len(data):
        kind, _, length = struct.unpack_from(">BHI", data, at)
        yield kind, data[at + 7:at + 7 + length]
        at += 7 + length + 1


def rabbitmq(file, out):
    key, properties, body, left, ours = None, b"", b"", 0, False
    with open(out + ".messages", "wb") as messages:
        for kind, payload in amqp_frames(open(file, "rb").read()):
            if kind == 1 and payload[:4] == b"\0\x3c\0\x28":      # basic.publish
                at = 6 + 1 + payload[6]
                ours = payload[6] > 0                             # the default exchange is the nonce's
                key = payload[at + 1:at + 1 + payload[at]]
                continue
            if kind == 2:
                left, properties, body = struct.unpack_from(">Q", payload, 4)[0], payload[12:], b""
            elif kind == 3:
                body += payload
                left -= len(payload)
            if kind in (2, 3) and left == 0 and ours:
                for part in key, properties, body:
                    messages.write(struct.pack(">I", len(part)) + part)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "listen":
        asyncio.run(listen(int(rest[0]), int(rest[1]), rest[2]))
    else:
        {"redis": redis, "clickhouse": clickhouse, "rabbitmq": rabbitmq}[what](*rest)
