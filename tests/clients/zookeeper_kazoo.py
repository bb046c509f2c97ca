"""kazoo against a ZooKeeper server.

usage: zookeeper_kazoo.py PORT behaviour           everything a client does
       zookeeper_kazoo.py PORT fill                writes a tree of every kind of znode
       zookeeper_kazoo.py PORT dump                prints the tree as JSON: data, ACLs, stats
       zookeeper_kazoo.py PORT hold FILE           a session with an ephemeral znode and a watch; touches FILE when it is
                                                   there, then waits for the server to be restarted and checks that both live on
       zookeeper_kazoo.py PORT write FILE SECONDS  creates and sets from several sessions, each acknowledged one appended to FILE
       zookeeper_kazoo.py PORT check FILE          everything that `write` noted is there
"""
import json
import os
import sys
import threading
import time

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    BadVersionError,
    InvalidACLError,
    KazooException,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NoNodeError,
    NodeExistsError,
    NotEmptyError,
    RolledBackError,
)
from kazoo.protocol.states import WatchedEvent
from kazoo.recipe.barrier import Barrier, DoubleBarrier
from kazoo.recipe.election import Election
from kazoo.security import make_acl, make_digest_acl
from zookeeper_wire import Connection, acls, buffer, i32, text

PORT = sys.argv[1]
LIMIT = 20


def client(**options):
    options.setdefault("timeout", 6)
    one = KazooClient(f"127.0.0.1:{PORT}", **options)
    one.start(timeout=LIMIT)
    return one


def until(what, condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT} s for {what}"
        time.sleep(0.02)


def refused(error, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except error:
        return
    raise AssertionError(f"{call.__name__}{arguments} was not refused with {error.__name__}")


def creates(zk, other):
    assert zk.create("/c", b"x") == "/c"
    path, stat = zk.create("/c/two", b"12", include_data=True)
    assert (path, stat.version, stat.dataLength, stat.ephemeralOwner) == ("/c/two", 0, 2, 0)
    assert zk.create("/c/s-", sequence=True) == "/c/s-0000000001"
    assert zk.create("/c/e-", ephemeral=True, sequence=True) == "/c/e-0000000002"
    assert zk.exists("/c/e-0000000002").ephemeralOwner == zk.client_id[0]
    zk.create("/c/deep/er", makepath=True)
    refused(NodeExistsError, zk.create, "/c")
    refused(NoNodeError, zk.create, "/no/where")
    refused(NoChildrenForEphemeralsError, zk.create, "/c/e-0000000002/x")
    refused(NotEmptyError, zk.delete, "/c")
    refused(NoNodeError, zk.delete, "/c/none")
    children, stat = zk.get_children("/c", include_data=True)
    assert sorted(children) == ["deep", "e-0000000002", "s-0000000001", "two"] and stat.numChildren == 4
    zk.delete("/c", recursive=True)
    assert zk.exists("/c") is None


def versions(zk, other):
    zk.create("/v")
    first = zk.exists("/v")
    assert zk.set("/v", b"1", version=0).version == 1
    refused(BadVersionError, zk.set, "/v", b"2", version=0)
    refused(BadVersionError, zk.delete, "/v", version=0)
    data, stat = zk.get("/v")
    assert (data, stat.version) == (b"1", 1) and stat.mzxid > first.mzxid == stat.czxid and stat.mtime >= stat.ctime
    assert zk.sync("/v") == "/v"
    zk.delete("/v", version=1)


def watches(zk, other):
    seen = []
    zk.exists("/w", watch=seen.append)
    other.create("/w")
    until("the creation", lambda: len(seen) == 1)
    zk.get("/w", watch=seen.append)
    other.set("/w", b"1")
    other.set("/w", b"2")
    until("the change", lambda: len(seen) == 2)
    zk.get_children("/w", watch=seen.append)
    other.create("/w/child")
    until("the child", lambda: len(seen) == 3)
    other.delete("/w/child")
    zk.get("/w", watch=seen.append)
    zk.get_children("/w", watch=lambda event: seen.append(event))
    other.delete("/w")
    until("the end", lambda: len(seen) >= 5)
    kinds = [(event.type, event.path) for event in seen]
    assert kinds == [("CREATED", "/w"), ("CHANGED", "/w"), ("CHILD", "/w"), ("DELETED", "/w"), ("DELETED", "/w")], kinds
    assert isinstance(seen[0], WatchedEvent)


def authorization(zk, other):
    mine = make_digest_acl("ann", "secret", all=True)
    zk.create("/a", b"hidden", acl=[mine])
    refused(NoAuthError, zk.get, "/a")
    refused(NoAuthError, zk.set, "/a", b"")
    refused(NoAuthError, zk.get_children, "/a")
    zk.add_auth("digest", "ann:secret")
    assert zk.get("/a")[0] == b"hidden"
    refused(NoAuthError, other.get, "/a")
    zk.set_acls("/a", [mine, make_acl("world", "anyone", read=True)])
    assert other.get("/a")[0] == b"hidden"
    refused(NoAuthError, other.set_acls, "/a", [mine])
    acl, stat = zk.get_acls("/a")
    assert len(acl) == 2 and stat.aversion == 1
    masked, _ = other.get_acls("/a")
    assert [entry.id.id for entry in masked] == ["ann:x", "anyone"], masked
    zk.create("/a/auth", acl=[make_acl("auth", "", all=True)])
    assert zk.get_acls("/a/auth")[0] == [mine]
    zk.create("/a/ip", acl=[make_acl("ip", "10.0.0.0/8", all=True)])
    refused(NoAuthError, zk.get, "/a/ip")
    refused(InvalidACLError, zk.create, "/a/bad", acl=[make_acl("nosuch", "x")])
    zk.delete("/a/ip")
    zk.delete("/a", recursive=True)


def transactions(zk, other):
    zk.create("/t")
    good = zk.transaction()
    good.create("/t/a", b"1")
    good.create("/t/a/b")
    good.check("/t", 0)
    good.set_data("/t", b"2", 0)
    good.delete("/t/a/b")
    results = good.commit()
    assert results[0] == "/t/a" and results[1] == "/t/a/b" and results[3].version == 1, results
    before = zk.get("/t"), zk.get_children("/t")
    bad = zk.transaction()
    bad.create("/t/c")
    bad.check("/t", 7)
    bad.delete("/t/a")
    results = bad.commit()
    assert isinstance(results[0], RolledBackError) and isinstance(results[1], BadVersionError), results
    assert (zk.get("/t"), zk.get_children("/t")) == before
    zk.delete("/t", recursive=True)


def recipes(zk, other):
    order = []
    lock, rival = zk.Lock("/r/lock", "one"), other.Lock("/r/lock", "two")
    with lock:
        assert not rival.acquire(blocking=False)
        waiting = threading.Thread(target=lambda: (rival.acquire(timeout=LIMIT), order.append("two"), rival.release()))
        waiting.start()
        until("the rival to wait", lambda: len(lock.contenders()) == 2)
        order.append("one")
    waiting.join(LIMIT)
    assert order == ["one", "two"], order

    led = []
    elections = [Election(one, "/r/election", str(index)) for index, one in enumerate((zk, other))]
    threads = [threading.Thread(target=lambda one=one: one.run(lambda: led.append(1)), daemon=True) for one in elections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(led) == 2

    barrier = Barrier(zk, "/r/barrier")
    barrier.create()
    passed = []
    waiting = threading.Thread(target=lambda: passed.append(Barrier(other, "/r/barrier").wait(LIMIT)))
    waiting.start()
    barrier.remove()
    waiting.join(LIMIT)
    assert passed == [True]

    doubles = [DoubleBarrier(one, "/r/double", 2) for one in (zk, other)]
    # kazoo waits for ever if the others have left when it looks whether it may enter.
    entered = threading.Barrier(2)
    threads = [
        threading.Thread(target=lambda one=one: (one.enter(), entered.wait(LIMIT), one.leave()), daemon=True) for one in doubles
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "a double barrier does not open"

    queue = zk.Queue("/r/queue")
    for item in (b"1", b"2", b"3"):
        queue.put(item)
    assert [queue.get() for _ in range(3)] == [b"1", b"2", b"3"]
    counter = zk.Counter("/r/counter")
    counter += 2
    counter -= 1
    assert other.Counter("/r/counter").value == 1
    zk.delete("/r", recursive=True)


def sessions(zk, other):
    gone = client(timeout=2)
    gone.create("/gone", ephemeral=True)
    gone.stop()
    assert zk.exists("/gone") is None
    silent = Connection(int(PORT), timeout_ms=1000)
    silent.call(1, text("/silent") + buffer(b"") + acls([(31, "world", "anyone")]) + i32(1))
    seen = []
    assert zk.exists("/silent", watch=seen.append)
    # Without a goodbye: the server must notice by itself.
    silent.close()
    until("an abandoned session to end", lambda: seen and seen[0].type == "DELETED")


def behaviour():
    zk, other = client(), client()
    for part in (creates, versions, watches, authorization, transactions, recipes, sessions):
        part(zk, other)
        print(f"{part.__name__}: as it should be", flush=True)
    for one in (zk, other):
        one.stop()
        one.close()


def fill():
    zk = client()
    zk.create("/fill", b"root of all")
    for index in range(50):
        zk.create(f"/fill/n{index}", os.urandom(index * 7))
        zk.set(f"/fill/n{index // 2}", str(index).encode())
    for _ in range(3):
        zk.create("/fill/s-", sequence=True)
    zk.create("/fill/ü", b"", acl=[make_acl("world", "anyone", read=True, admin=True)])
    zk.create("/fill/guarded", b"1", acl=[make_digest_acl("ann", "secret", all=True), make_acl("world", "anyone", read=True)])
    zk.set_acls("/fill/n3", [make_acl("ip", "127.0.0.1", all=True)])
    zk.delete("/fill/n9")
    transaction = zk.transaction()
    transaction.create("/fill/m", b"")
    transaction.set_data("/fill/m", b"multi")
    transaction.delete("/fill/n10")
    transaction.commit()
    transaction = zk.transaction()
    transaction.create("/fill/m2")
    transaction.check("/fill", 99)
    transaction.commit()
    refused(NodeExistsError, zk.create, "/fill/m")
    zk.create("/fill/ephemeral", ephemeral=True)
    zk.stop()


def dump():
    zk = client()
    tree, todo = {}, ["/"]
    while todo:
        path = todo.pop()
        try:
            data, stat = zk.get(path)
        except NoAuthError:
            tree[path] = None
            continue
        acl, _ = zk.get_acls(path)
        tree[path] = [data.hex(), [[entry.perms, entry.id.scheme, entry.id.id] for entry in acl], list(stat)]
        todo += [path.rstrip("/") + "/" + name for name in zk.get_children(path)]
    zk.stop()
    print(json.dumps(tree, sort_keys=True))


def hold(file):
    states = []
    zk = client(timeout=20)
    zk.add_listener(states.append)
    session = zk.client_id
    zk.create("/held", b"", ephemeral=True)
    zk.create("/watched", b"")
    seen = []
    # Registers itself anew with the session.
    zk.DataWatch("/watched", lambda data, stat: seen.append(data))
    open(file, "w").close()
    until("the server to go and come back", lambda: states[-2:] == [KazooState.SUSPENDED, KazooState.CONNECTED])
    assert KazooState.LOST not in states, states
    assert zk.client_id == session
    assert zk.exists("/held").ephemeralOwner == session[0]
    other = client()
    other.set("/watched", b"1")
    until("the watch that was set before", lambda: seen[-1] == b"1")
    other.stop()
    zk.stop()


def write(file, seconds):
    """Each line: a path and the least version that it must have."""
    end = time.monotonic() + float(seconds)
    lock, out = threading.Lock(), open(file, "a")
    boot = client(timeout=20)
    boot.ensure_path("/load")
    boot.stop()

    def note(path, version):
        with lock:
            out.write(f"{path} {version}\n")
            out.flush()

    def writer(number):
        zk = client(timeout=20)
        index = 0
        while time.monotonic() < end:
            path = f"/load/{number}-{os.getpid()}-{index}"
            index += 1
            try:
                zk.create(path, b"0")
                note(path, 0)
                note(path, zk.set(path, b"1").version)
            except (KazooException, AssertionError, OSError):
                # Not acknowledged: may have happened or not.
                time.sleep(0.05)
        zk.stop()

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def check(file):
    zk = client()
    due = {}
    for line in open(file):
        path, version = line.split()
        due[path] = max(due.get(path, 0), int(version))
    missing = [path for path, version in due.items() if (stat := zk.exists(path)) is None or stat.version < version]
    zk.stop()
    assert not missing, f"{len(missing)} of {len(due)} acknowledged writes are lost: {missing[:5]}"
    assert len(due) > 100, f"only {len(due)} writes: that shows nothing"
    print(f"all {len(due)} acknowledged znodes are there")


globals()[sys.argv[2]](*sys.argv[3:])
