"""Protobuf messages over libprocess, as v0 drivers speak them, with nothing but Python's library."""
import http.server
import struct
import threading


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def read(body):
    """The fields of a message: number to the list of values."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = body[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(body):
        key = number()
        if key & 7 == 0:
            value = number()
        else:
            length = {1: 8, 5: 4}.get(key & 7) or number()
            value = body[at:at + length]
            at += length
        fields.setdefault(key >> 3, []).append(value)
    return fields


def name_in(message):
    return read(message)[1][0].decode()


class Inbox(http.server.BaseHTTPRequestHandler):
    """Takes messages as libprocess sends them; `heard` is told the sender, the message's name and its fields."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    break
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        sender = self.headers.get("Libprocess-From", self.headers.get("User-Agent", ""))
        self.heard(sender, self.path.rsplit(".", 1)[1], read(body))

    def log_message(self, *_):
        pass


def serve(inbox, process):
    """Takes messages by this inbox from now on; what a process of this name is reached by."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), inbox)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return "%s@127.0.0.1:%d" % (process, server.server_port)


def headers(sender):
    """What a message carries beside its body."""
    return {"Libprocess-From": sender, "Content-Type": "application/octet-stream"}
