"""ZooKeeper's client protocol, bare: frames and records, for tests that must see every byte."""
import socket
import struct

EVENT_XID, PING_XID, AUTH_XID, SET_WATCHES_XID = -1, -2, -4, -8
STAT = struct.Struct(">qqqqiiiqiiq")
STAT_FIELDS = ("czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "owner", "length", "children", "pzxid")
HEADER = struct.Struct(">iqi")


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def flag(value):
    return b"\1" if value else b"\0"


def buffer(value):
    return i32(-1) if value is None else i32(len(value)) + value


def text(value):
    return buffer(value.encode())


def vector(items, write):
    return i32(-1) if items is None else i32(len(items)) + b"".join(write(item) for item in items)


def acls(entries):
    return vector(entries, lambda entry: i32(entry[0]) + text(entry[1]) + text(entry[2]))


def texts(items):
    return vector(items, text)


class Reader:
    """Reads records."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise EOFError(f"{count} bytes wanted at {self.at} of {self.data!r}")
        self.at += count
        return part

    def i32(self):
        return struct.unpack(">i", self.take(4))[0]

    def i64(self):
        return struct.unpack(">q", self.take(8))[0]

    def flag(self):
        return self.take(1) != b"\0"

    def buffer(self):
        length = self.i32()
        return None if length == -1 else self.take(length)

    def text(self):
        data = self.buffer()
        return None if data is None else data.decode()

    def vector(self, read):
        return [read() for _ in range(self.i32())]

    def stat(self):
        return dict(zip(STAT_FIELDS, STAT.unpack(self.take(STAT.size))))

    def acl(self):
        return (self.i32(), self.text(), self.text())

    def rest(self):
        return self.data[self.at :]


class Closed(Exception):
    """The server closed the connection."""


class Connection:
    """One connection with its session."""

    def __init__(self, port, session=0, password=b"\0" * 16, timeout_ms=40000, last_zxid=0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.next_xid = 1
        self.frame(i32(0) + i64(last_zxid) + i32(timeout_ms) + i64(session) + buffer(password) + flag(False))
        reply = Reader(self.receive())
        reply.i32()
        self.timeout_ms, self.session, self.password = reply.i32(), reply.i64(), reply.buffer()

    def frame(self, body):
        try:
            self.socket.sendall(i32(len(body)) + body)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Closed from error

    def exactly(self, count):
        while len(self.received) < count:
            try:
                part = self.socket.recv(65536)
            except ConnectionResetError as error:
                raise Closed from error
            if not part:
                raise Closed
            self.received += part
        part, self.received = self.received[:count], self.received[count:]
        return part

    def receive(self):
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def send(self, opcode, body=b"", xid=None):
        if xid is None:
            xid, self.next_xid = self.next_xid, self.next_xid + 1
        self.frame(i32(xid) + i32(opcode) + body)
        return xid

    def await_reply(self, xid):
        """(zxid, err, body, events that came before)."""
        events = []
        while True:
            frame = self.receive()
            got, zxid, err = HEADER.unpack(frame[:16])
            if got == EVENT_XID:
                event = Reader(frame[16:])
                events.append((event.i32(), event.i32(), event.text()))
            else:
                assert got == xid, f"xid {got} where {xid} was due"
                return zxid, err, frame[16:], events

    def call(self, opcode, body=b"", xid=None):
        return self.await_reply(self.send(opcode, body, xid))

    def close(self):
        self.socket.close()
