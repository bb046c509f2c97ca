"""Sequence numbers up to 2147483647 and what comes then, on two ZooKeeper servers side by side.

usage: zookeeper_overflow.py write DIRECTORY        adds a log to the data of a server that is not running: /d with a child that
                                                    was created as number 2147483644
       zookeeper_overflow.py compare PORT PORT      names and stats of what is created next
"""
import sys
import zlib
from pathlib import Path

from zookeeper_wire import Connection, Reader, acls, buffer, flag, i32, i64, text

OPEN = [(31, "world", "anyone")]
CREATE, GET, CHILDREN2, MULTI = 1, 4, 12, 14


def entry(zxid, path, parent_cversion):
    header = i64(0) + i32(0) + i64(zxid) + i64(1600000000000) + i32(CREATE)
    record = header + text(path) + buffer(b"") + acls(OPEN) + flag(False) + i32(parent_cversion)
    return i64(zlib.adler32(record)) + buffer(record) + b"B"


def write(directory):
    log = b"ZKLG" + i32(2) + i64(0) + entry(1, "/d", 1) + entry(2, "/d/first", 2147483644)
    Path(directory, "version-2", "log.1").write_bytes(log)


def outcomes(port):
    connection = Connection(port)
    found = []

    def call(opcode, body):
        zxid, err, data, _ = connection.call(opcode, body)
        return zxid, err, data

    create = text("/d/s-") + buffer(b"") + acls(OPEN) + i32(2)
    for _ in range(5):
        zxid, err, data = call(CREATE, create)
        found.append((zxid, err, Reader(data).text() if not err else None))
    # Within one transaction, and at the root of a name.
    part = i32(CREATE) + flag(False) + i32(-1)
    found.append(call(MULTI, part + create + part + text("/d/") + buffer(b"") + acls(OPEN) + i32(2) + i32(-1) + flag(True) + i32(-1)))
    for path in ("/d", "/d/first"):
        zxid, err, data = call(CHILDREN2, text(path) + flag(False))
        reader = Reader(data)
        names = sorted(reader.text() for _ in range(reader.i32()))
        stat = reader.stat()
        stat["ctime"] = stat["mtime"] = None
        found.append((zxid, err, names, stat))
    return found


def main():
    if sys.argv[1] == "write":
        write(sys.argv[2])
        return
    first, second = (outcomes(port) for port in sys.argv[2:4])
    for one, other in zip(first, second):
        if one != other:
            sys.exit(f"first:  {one}\nsecond: {other}")
    print(*first)


main()
