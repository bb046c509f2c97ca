"""The same random operations on two ZooKeeper servers, side by side: replies, errors, stats, events, final tree.

usage: zookeeper_differential.py PORT PORT SEED COUNT

Both servers must be fresh. Everything is compared as it is, zxids included; only times and session ids are mapped.
Ends with 1 at the first difference, naming seed, step and operation.
"""
import random
import sys

from zookeeper_wire import AUTH_XID, PING_XID, SET_WATCHES_XID, Closed, Connection, Reader
from zookeeper_wire import acls, buffer, flag, i32, i64, text, texts

CREATE, DELETE, EXISTS, GET, SET, GET_ACL, SET_ACL, CHILDREN, SYNC, PING = 1, 2, 3, 4, 5, 6, 7, 8, 9, 11
CHILDREN2, CHECK, MULTI, CREATE2, CHECK_WATCHES, REMOVE_WATCHES, CONTAINER, TTL, MULTI_READ = 12, 13, 14, 15, 17, 18, 19, 21, 22
AUTH, SET_WATCHES, EPHEMERALS, COUNT, SET_WATCHES2, ADD_WATCH, WHO_AM_I, CLOSE = 100, 101, 103, 104, 105, 106, 107, -11
CONNECTIONS = 3
OPEN = [(31, "world", "anyone")]
PATHS = ["/d", "/d/a", "/d/a/b", "/d/a/b/c", "/d/b", "/d/c", "/e", "/e/a", "/e/b", "/d/ü"]
# Paths that have a quota, and the znodes that say so.
QUOTAS = ["/zookeeper/quota/e", "/zookeeper/quota/e/zookeeper_limits", "/zookeeper/quota/e/zookeeper_stats"]
LIMITS = [b"count=2,bytes=20", b"count=-1,bytes=-1=;byteHardLimit=30;countHardLimit=-1", b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=3", b"count=1,bytes=-1=;byteHardLimit=100;countHardLimit=2", b""]
ODD_PATHS = ["", "x", "x/y", "/", "/d/", "/d//a", "/d/./a", "/d/..", "/no/where", "/zookeeper", "/zookeeper/config", "/zookeeper/quota", "/d/\x01", "/d/\0", "/d/\ue000"]
ACLS = [OPEN] * 6 + [
    [(1, "world", "anyone")],
    [(30, "world", "anyone")],
    [(31, "auth", "")],
    [(31, "digest", "bob:X7cxMSiJkwl6oDCcmnDGUvRCDr4=")],
    [(31, "ip", "127.0.0.1")],
    [(31, "ip", "127.0.0.0/8"), (1, "world", "anyone")],
    [(31, "ip", "10.0.0.0/8")],
    [(31, "world", "anyone"), (31, "world", "anyone")],
    [(255, "world", "anyone")],
    [],
    None,
    [(31, "world", "me")],
    [(31, "digest", "nohash")],
    [(31, "ip", "1.2.3")],
    [(31, "nosuch", "x")],
    [(31, "x509", "CN=someone")],
    [(31, "sasl", "someone")],
    [(31, "super", "")],
    [(31, "ip", "127.0.0.1/33")],
    [(31, "ip", "127.0.0.0/")],
    [(31, "ip", "::1")],
    [(31, "digest", "bob:")],
    [(31, "auth", "ignored"), (31, "digest", "bob:X7cxMSiJkwl6oDCcmnDGUvRCDr4=")],
    [(0, "world", "anyone")],
]


class Side:
    """One of the two servers."""

    def __init__(self, port):
        self.port = port
        self.sessions = {}
        self.connections = [None] * CONNECTIONS
        for index in range(CONNECTIONS):
            self.open(index)

    def open(self, index):
        connection = Connection(self.port)
        self.sessions[connection.session] = f"session {len(self.sessions)}"
        self.connections[index] = connection
        return connection.timeout_ms

    def reattach(self, index, last_zxid):
        old = self.connections[index]
        old.close()
        self.connections[index] = new = Connection(self.port, old.session, old.password, last_zxid=last_zxid)
        new.next_xid = old.next_xid
        return new.timeout_ms, new.session == old.session, new.password == old.password

    def stat(self, reader):
        stat = reader.stat()
        stat["owner"] = self.sessions.get(stat["owner"], stat["owner"])
        for field in ("ctime", "mtime"):
            stat[field] = stat[field] > 0
        return stat

    def result(self, opcode, reader):
        if opcode == CREATE:
            return reader.text()
        if opcode in (CREATE2, CONTAINER, TTL):
            return reader.text(), self.stat(reader)
        if opcode in (EXISTS, SET, SET_ACL):
            return self.stat(reader)
        if opcode == GET:
            return reader.buffer(), self.stat(reader)
        if opcode == GET_ACL:
            # `auth` becomes the connection's ids, in the order of a Java set.
            return sorted(reader.vector(reader.acl)), self.stat(reader)
        if opcode == CHILDREN:
            return sorted(reader.vector(reader.text))
        if opcode == CHILDREN2:
            return sorted(reader.vector(reader.text)), self.stat(reader)
        if opcode == EPHEMERALS:
            return sorted(reader.vector(reader.text))
        if opcode == WHO_AM_I:
            return sorted((reader.text(), reader.text()) for _ in range(reader.i32()))
        if opcode in (MULTI, MULTI_READ):
            results = []
            while True:
                kind, done, err = reader.i32(), reader.flag(), reader.i32()
                if done:
                    return results
                results.append((kind, err, reader.i32() if kind == -1 else self.result(kind, reader)))
        return b""

    def call(self, index, opcode, body, xid):
        """The reply, and the events that every connection has got by then."""
        connection = self.connections[index]
        xid = connection.send(opcode, body, xid)
        try:
            zxid, err, data, events = connection.await_reply(xid)
        except Closed:
            return ("closed",)
        reader = Reader(data)
        result = self.result(opcode, reader) if data else None
        # In which order a session's ephemerals vanish is open.
        ordered = sorted if opcode in (CLOSE, SET_WATCHES, SET_WATCHES2) else list
        outcome = [zxid, err, result, reader.rest(), ordered(events)]
        if opcode == CLOSE:
            try:
                connection.receive()
            except Closed:
                outcome.append("then closed")
            self.open(index)
        # Events of a transaction come before the reply to whatever is asked later.
        pings = [other.send(PING, xid=PING_XID) for other in self.connections]
        for other, ping in zip(self.connections, pings):
            zxid, err, data, events = other.await_reply(ping)
            outcome.append((zxid, err, data, ordered(events)))
        return tuple(outcome)

    def tree(self):
        """Everything, as one that may see everything sees it."""
        found, todo = {}, ["/"]
        connection = self.connections[0]
        while todo:
            path = todo.pop()
            entry = []
            for opcode, body in ((GET, text(path) + flag(False)), (GET_ACL, text(path)), (CHILDREN2, text(path) + flag(False))):
                _, err, data, _ = connection.call(opcode, body)
                entry.append(self.result(opcode, Reader(data)) if not err else err)
            found[path] = entry
            if not isinstance(entry[2], int):
                todo += [path.rstrip("/") + "/" + name for name in entry[2][0]]
        return found


class Generator:
    """Random operations."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.last_zxid = 0

    def path(self):
        return self.random.choice(ODD_PATHS if self.random.random() < 0.06 else PATHS)

    def version(self):
        return self.random.choice([-1, -1, -1, 0, 1, 2, -2])

    def data(self):
        return self.random.choice([None, b"", b"x", b"some data", b"y" * 300])

    def operation(self, depth=0):
        """(opcode, body, description)."""
        r = self.random
        opcode = r.choice(
            [CREATE] * 8 + [CREATE2] * 6 + [CONTAINER, CONTAINER, TTL, TTL] + [DELETE] * 6 + [SET] * 6 + [CHECK] * (4 if depth else 0)
            if depth
            else [CREATE] * 8 + [CREATE2] * 6 + [CONTAINER, TTL] + [DELETE] * 7 + [SET] * 7 + [SET_ACL] * 3 + [GET_ACL] * 3
            + [EXISTS] * 6 + [GET] * 6 + [CHILDREN] * 3 + [CHILDREN2] * 5 + [SYNC, MULTI, MULTI, MULTI, MULTI, MULTI_READ, MULTI_READ]
            + [EPHEMERALS, COUNT, WHO_AM_I, ADD_WATCH, ADD_WATCH, CHECK_WATCHES, CHECK_WATCHES, REMOVE_WATCHES, REMOVE_WATCHES, AUTH, SET_WATCHES, SET_WATCHES2, CLOSE, PING]
        )
        path = self.path()
        if opcode in (CREATE, SET) and r.random() < 0.03:
            path = r.choice(QUOTAS)
            data = r.choice(LIMITS)
            if opcode == CREATE:
                return opcode, text(path) + buffer(data) + acls(OPEN) + i32(0), [path, data]
            return opcode, text(path) + buffer(data) + i32(-1), [path, data]
        if opcode in (CREATE, CREATE2, CONTAINER, TTL):
            flags = r.choice([0, 0, 0, 1, 1, 2, 3] + (([4] if depth else [4, 5, 7, -1]) if r.random() < 0.2 else []))
            if flags in (2, 3) and r.random() < 0.3:
                path += "/s-" if r.random() < 0.5 else "/"
            data, acl = self.data(), r.choice(ACLS)
            if opcode == CONTAINER:
                flags = r.choice([4, 4, 4, 0, 1, 2])
            if opcode == TTL:
                flags, ttl = r.choice([5, 6]), r.choice([1, 5000000, 1099511627775, 0, 1099511627776])
            body = text(path) + buffer(data) + acls(acl) + i32(flags)
            description = [path, data, acl, flags]
            if opcode == TTL:
                body += i64(ttl)
                description.append(ttl)
        elif opcode in (DELETE, CHECK):
            version = self.version()
            body, description = text(path) + i32(version), [path, version]
        elif opcode == SET:
            data, version = self.data(), self.version()
            body, description = text(path) + buffer(data) + i32(version), [path, data, version]
        elif opcode == SET_ACL:
            acl, version = r.choice(ACLS), self.version()
            body, description = text(path) + acls(acl) + i32(version), [path, acl, version]
        elif opcode in (EXISTS, GET, CHILDREN, CHILDREN2):
            watch = depth == 0 and r.random() < 0.5
            body, description = text(path) + flag(watch), [path, watch]
        elif opcode in (MULTI, MULTI_READ):
            parts, body = [], b""
            for _ in range(r.randrange(5)):
                if opcode == MULTI:
                    kind, part, description = self.operation(depth=1)
                else:
                    kind, path = r.choice([GET, CHILDREN]), self.path()
                    part, description = text(path) + flag(False), [path]
                body += i32(kind) + flag(False) + i32(-1) + part
                parts.append((kind, description))
            body += i32(-1) + flag(True) + i32(-1)
            description = parts
        elif opcode == ADD_WATCH:
            mode = r.choice([0, 1, 1, 2])
            body, description = text(path) + i32(mode), [path, mode]
        elif opcode in (CHECK_WATCHES, REMOVE_WATCHES):
            if opcode == CHECK_WATCHES and not path.startswith("/"):
                # Where there are recursive watches the original falls over a path without a slash.
                path = "/" + path
            kind = r.choice([1, 2, 3, 3, 3, 0, 4])
            body, description = text(path) + i32(kind), [path, kind]
        elif opcode == AUTH:
            scheme, auth = r.choice([("digest", b"bob:secret"), ("digest", b"alice:a"), ("ip", b"")])
            body, description = i32(0) + text(scheme) + buffer(auth), [scheme, auth]
        elif opcode in (SET_WATCHES, SET_WATCHES2):
            lists = [r.sample(PATHS, r.randrange(3)) for _ in range(5 if opcode == SET_WATCHES2 else 3)]
            zxid = r.choice([0, self.last_zxid, max(0, self.last_zxid - r.randrange(50))])
            body, description = i64(zxid) + b"".join(texts(paths) for paths in lists), [zxid, lists]
        elif opcode in (WHO_AM_I, CLOSE, PING):
            body, description = b"", []
        else:
            body, description = text(path), [path]
        if depth == 0 and body and opcode not in (AUTH, SYNC) and r.random() < 0.01:
            body, description = body[: r.randrange(len(body))], [*description, "cut short"]
        return opcode, body, description


def corners(side):
    """What a random stream seldom finds: outcomes by name."""
    found = {}

    def note(name, call):
        try:
            found[name] = call()
        except Closed:
            found[name] = "closed"

    def raw(opcode, body=b"", xid=None):
        """On a connection of its own: the reply, and whether the connection lives on."""
        connection = Connection(side.port)
        zxid, err, data, _ = connection.call(opcode, body, xid)
        try:
            connection.call(PING, xid=PING_XID)
            lives = True
        except Closed:
            lives = False
        if lives:
            connection.call(CLOSE)
        connection.close()
        return zxid, err, data, lives

    def attach(**options):
        connection = Connection(side.port, **options)
        answer = connection.timeout_ms, connection.session == 0, connection.password == b"\0" * 16
        if connection.session:
            connection.call(CLOSE)
        connection.close()
        return answer

    some = side.connections[0]
    for opcode in (4711, 0, 10, -1):
        # The original's reply may be lost with the connection.
        note(f"opcode {opcode}", lambda opcode=opcode: raw(opcode)[3] and "lives on")
        found[f"opcode {opcode}"] = found[f"opcode {opcode}"] or "closed"
    note("sasl", lambda: raw(102, buffer(b"")))
    note("reconfig", lambda: raw(16, text("server.1=a:1:2") + text("") + text("") + i64(-1)))
    note("auth of an unknown scheme", lambda: raw(AUTH, i32(0) + text("nosuch") + buffer(b"x"), AUTH_XID))
    note("auth as world", lambda: raw(AUTH, i32(0) + text("world") + buffer(b"anyone"), AUTH_XID))
    note("auth without a colon", lambda: raw(AUTH, i32(0) + text("digest") + buffer(b"abc"), AUTH_XID))
    note("check that fails", lambda: raw(CHECK, text("/none") + i32(0)))
    note("check of no watch", lambda: raw(CHECK_WATCHES, text("/none") + i32(3)))
    note("check of an unknown kind", lambda: raw(CHECK_WATCHES, text("/none") + i32(9)))
    note("removal of an unknown kind", lambda: raw(REMOVE_WATCHES, text("/none") + i32(9)))
    note("a read in a multi", lambda: raw(MULTI, i32(GET) + flag(False) + i32(-1) + text("/") + flag(False) + i32(-1) + flag(True) + i32(-1)))
    note("a multi without an end", lambda: raw(MULTI, i32(CHECK) + flag(False) + i32(-1) + text("/") + i32(0)))
    note("an empty multi", lambda: raw(MULTI, i32(-1) + flag(True) + i32(-1)))
    note("trailing bytes", lambda: raw(GET, text("/zookeeper") + flag(False) + b"more"))
    note("ephemerals of nobody", lambda: raw(EPHEMERALS, text("")))
    note("znodes below", lambda: raw(COUNT, text("/zookeeper")))
    note("a client from the future", lambda: attach(last_zxid=1 << 40))
    note("a wrong password", lambda: attach(session=some.session, password=b"x" * 16))
    note("an unknown session", lambda: attach(session=77, password=b"x" * 16))
    note("a short timeout", lambda: attach(timeout_ms=1))
    note("a long timeout", lambda: attach(timeout_ms=10**9))
    for path in ("/zookeeper/quota/d", "/zookeeper/quota/d/zookeeper_limits", "/zookeeper/quota/d/zookeeper_stats"):
        data = b"count=3,bytes=10=;byteHardLimit=1000;countHardLimit=500" if path.endswith("limits") else b"count=0,bytes=0"
        note(f"create {path}", lambda path=path, data=data: raw(CREATE, text(path) + buffer(data) + acls(OPEN) + i32(0)))
    null = i32(-1)
    for name, opcode, body in (
        ("create", CREATE, null + buffer(b"") + acls(OPEN) + i32(0)),
        ("delete", DELETE, null + i32(-1)),
        ("exists", EXISTS, null + flag(False)),
        ("get", GET, null + flag(False)),
        ("set", SET, null + buffer(b"") + i32(-1)),
        ("get ACL", GET_ACL, null),
        ("set ACL", SET_ACL, null + acls(OPEN) + i32(-1)),
        ("children", CHILDREN2, null + flag(False)),
        ("ephemerals", EPHEMERALS, null),
        ("count", COUNT, null),
    ):
        note(f"{name} of null", lambda opcode=opcode, body=body: raw(opcode, body))
    limit = 0xFFFFF
    for size in (limit - 200, limit, limit + 1, 2 * limit):
        # Header, path, length and version are part of the frame.
        path = f"/size{size}"
        note(f"create {path}", lambda path=path: raw(CREATE, text(path) + buffer(b"x") + acls(OPEN) + i32(0)))
        data = b"s" * (size - 8 - len(text(path)) - 8)
        note(f"a frame of {size} bytes", lambda path=path, data=data: raw(SET, text(path) + buffer(data) + i32(-1))[1::2])
        note(f"what a frame of {size} bytes left", lambda path=path: len(raw(GET, text(path) + flag(False))[2]))
    for name, ids in (
        ("many", b"".join(i32(GET) + flag(False) + i32(-1) + text("/") + flag(False) for _ in range(2000))),
        ("wrong", i32(CREATE) + flag(False) + i32(-1) + text("/x") + buffer(b"") + acls(OPEN) + i32(0)),
        ("unfinished", i32(GET) + flag(False) + i32(-1) + text("/") + flag(False)),
    ):
        end = b"" if name == "unfinished" else i32(-1) + flag(True) + i32(-1)
        note(f"a multiRead of {name}", lambda ids=ids, end=end: sized(raw(MULTI_READ, ids + end)))
    # The owner's connection is cut by the original where a wrong password is tried: begin anew.
    for index in range(CONNECTIONS):
        side.connections[index].close()
        side.open(index)
    return found


def sized(outcome):
    """The outcome with the size of what it holds alone; nobody reads what follows an error."""
    zxid, err, data, lives = outcome
    return zxid, err, 0 if err else len(data), lives


def differ(seed, step, what, first, second):
    print(f"seed {seed}, step {step}: {what}\n  first:  {first}\n  second: {second}", flush=True)
    sys.exit(1)


def is_later_rule(opcode, outcomes):
    """Since 3.8.4 exists needs READ of a znode that is there (CVE-2024-23944); Debian's 3.8.0 asks for nothing."""
    return opcode == EXISTS and [outcome[1] for outcome in outcomes] == [-102, 0]


def main():
    ports, seed, count = sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])
    first, second = (Side(int(port)) for port in ports)
    found = [corners(side) for side in (first, second)]
    different = {name: (found[0][name], found[1][name]) for name in found[0] if found[0][name] != found[1][name]}
    if different:
        differ(seed, "before the first", ", ".join(different), *zip(*different.values()))
    generator = Generator(seed)
    last_zxid = 0
    errors = {}
    for step in range(count):
        index = generator.random.randrange(CONNECTIONS)
        if generator.random.random() < 0.01:
            outcomes = [side.reattach(index, last_zxid) for side in (first, second)]
            what, opcode = f"reattach {index}", None
        else:
            opcode, body, description = generator.operation()
            xid = {AUTH: AUTH_XID, SET_WATCHES: SET_WATCHES_XID, SET_WATCHES2: SET_WATCHES_XID, PING: PING_XID}.get(opcode)
            outcomes = [side.call(index, opcode, body, xid) for side in (first, second)]
            what = f"connection {index}: {opcode} {description}"
            last_zxid = max(last_zxid, outcomes[0][0] if isinstance(outcomes[0][0], int) else 0)
            generator.last_zxid = last_zxid
            if len(outcomes[0]) > 1:
                key = (opcode, outcomes[0][1])
                errors[key] = errors.get(key, 0) + 1
        if outcomes[0] != outcomes[1] and is_later_rule(opcode, outcomes):
            # The second has set a watch if asked to, the first has not: neither has one now.
            for side in (first, second):
                side.call(index, REMOVE_WATCHES, text(description[0]) + i32(2), None)
        elif outcomes[0] != outcomes[1]:
            differ(seed, step, what, *outcomes)
    trees = [side.tree() for side in (first, second)]
    for path in sorted(trees[0].keys() | trees[1].keys()):
        entries = [tree.get(path) for tree in trees]
        if entries[0] != entries[1]:
            differ(seed, count, f"the tree at {path}", *entries)
    print(f"seed {seed}: {count} operations alike, {len(errors)} kinds of outcome, {len(trees[0])} znodes")


main()
