"""A client that asks for much and reads nothing: the server must stop reading it, and stay small.

usage: zookeeper_deaf.py PORT
"""
import socket
import sys

from zookeeper_wire import Connection, acls, buffer, flag, i32, text

port = int(sys.argv[1])
writer = Connection(port)
_, err, _, _ = writer.call(1, text("/large") + buffer(b"x" * 1_000_000) + acls([(31, "world", "anyone")]) + i32(0))
assert err == 0, err

deaf = Connection(port)
deaf.socket.settimeout(3)
sent = 0
try:
    while sent < 1_000_000:
        deaf.send(4, text("/large") + flag(False))
        sent += 1
except socket.timeout:
    pass
assert sent < 1_000_000, "the server reads on and on"

# Others are served meanwhile.
_, err, body, _ = writer.call(4, text("/large") + flag(False))
assert (err, len(body)) == (0, 4 + 1_000_000 + 68)
print(f"stopped after {sent} requests")
