"""Clients of a ZooKeeper server whose disk becomes full, made with kazoo.

alone PORT DIRECTORY        fills DIRECTORY, sees writes refused and reads go on, empties it, and sees writes taken again;
                            prints the paths that were acknowledged
check PORT FILE             the tree has exactly the paths in FILE
ensemble HOSTS DIRECTORY    the same for the leader's directory: another leads, and nothing that was acknowledged is missing
"""

import os
import sys
import time

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, KazooException, NodeExistsError, SessionExpiredError, SystemZookeeperError
from kazoo.handlers.threading import KazooTimeoutError

LIMIT = 40


def client(hosts, timeout=20):
    one = KazooClient(hosts=hosts, timeout=timeout)
    one.start(LIMIT)
    return one


def until(what, condition):
    deadline = time.monotonic() + LIMIT
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {LIMIT} s for {what}"
        time.sleep(0.05)


def fill(directory):
    with open(os.path.join(directory, "filler"), "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


def empty(directory):
    os.remove(os.path.join(directory, "filler"))


def alone(port, directory):
    hosts = f"127.0.0.1:{port}"
    writer, reader = client(hosts), client(hosts)
    session = reader.client_id[0]
    reader.create("/ephemeral", ephemeral=True)
    writer.create("/full")
    acknowledged = []

    def write():
        path = f"/full/{write.number:06d}"
        write.number += 1
        writer.create(path, b"d" * 3000)
        acknowledged.append(path)

    write.number = 0
    for _ in range(20):
        write()
    events = []
    reader.get_children("/full", watch=events.append)
    write()
    until("the event", lambda: events)

    fill(directory)
    refused = 0
    while refused < 5:
        assert write.number < 5000, "the disk does not get full"
        try:
            write()
        except (SystemZookeeperError, ConnectionLoss):
            refused += 1
            until("the connection", lambda: writer.connected)
    unsure = [f"/full/{number:06d}" for number in range(write.number)]
    unsure = [path for path in unsure if path not in acknowledged]
    # Refused for certain, and at once.
    for _ in range(3):
        began = time.monotonic()
        try:
            write()
            raise AssertionError("a write was acknowledged on a full disk")
        except SystemZookeeperError:
            pass
        assert time.monotonic() - began < 2
    names = sorted(f"/full/{name}" for name in reader.get_children("/full"))
    assert names == acknowledged, (len(names), len(acknowledged), set(names) ^ set(acknowledged), unsure)
    assert reader.get(acknowledged[-1])[0] == b"d" * 3000
    assert reader.exists("/ephemeral") is not None

    empty(directory)

    def again():
        try:
            write()
            return True
        except SystemZookeeperError:
            return False

    until("writes to be taken again", again)
    for _ in range(20):
        write()
    names = sorted(f"/full/{name}" for name in reader.get_children("/full"))
    assert names == acknowledged, set(names) ^ set(acknowledged)
    assert reader.client_id[0] == session and reader.exists("/ephemeral") is not None
    for path in acknowledged:
        print(path)


def check(port, file):
    with open(file, encoding="utf-8") as lines:
        expected = [line.strip() for line in lines if line.startswith("/full/")]
    one = client(f"127.0.0.1:{port}")
    names = sorted(f"/full/{name}" for name in one.get_children("/full"))
    assert names == expected, set(names) ^ set(expected)
    one.stop()


def ensemble(hosts, directory):
    one = client(hosts, timeout=6)
    one.create("/full")
    acknowledged, number = [], 0

    def write_until(what, condition):
        nonlocal number
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline, f"waited {LIMIT} s for {what}"
            path = f"/full/{number:06d}"
            try:
                one.create(path, b"d" * 3000)
            except NodeExistsError:
                pass
            except (KazooException, KazooTimeoutError, SessionExpiredError):
                time.sleep(0.05)
                continue
            acknowledged.append(path)
            number += 1

    write_until("writes", lambda: len(acknowledged) > 30)
    fill(directory)
    before = len(acknowledged)
    began = time.monotonic()
    write_until("writes by another leader", lambda: len(acknowledged) > before + 300 and time.monotonic() > began + 3)
    empty(directory)
    one.stop()
    print("\n".join(acknowledged))


command, arguments = sys.argv[1], sys.argv[2:]
{"alone": alone, "check": check, "ensemble": ensemble}[command](*arguments)
