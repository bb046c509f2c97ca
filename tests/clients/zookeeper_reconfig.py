"""A client that changes a ZooKeeper ensemble, made with kazoo.

put HOST PATH TEXT      creates a znode
fill HOST PATH COUNT SIZE
                        creates so many znodes with data of so many bytes, and prints how many there are
get HOST PATH           prints a znode's text, after a sync
config HOST             prints the configuration that a client sees
reconfig HOST JOINING LEAVING MEMBERS VERSION
                        changes the ensemble as the super user and prints the configuration that is answered; "-" stands
                        for nothing
refused HOST JSON       asks for changes, each [JOINING, LEAVING, MEMBERS, VERSION], first as nobody and then as the super
                        user, and prints what each is answered, a line each
session HOST PATH       prints what a new session may do with znodes below a path, and what the server says of sessions
move HOST PATH OTHER    makes an ephemeral znode, goes on with the session at another server, and prints what there is
                        there before and after the session ends
refuses HOST            prints whether no session can be had
read-only HOST PATH     prints a znode's text as a read-only client, and what a write is answered

An error is printed by its name.
"""

import json
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState


def client(host, **options):
    made = KazooClient(hosts=host, timeout=10, **options)
    made.start(30)
    return made


def given(text):
    return None if text == "-" else text


def run(command, host, *arguments):
    if command == "put":
        path, text = arguments
        print(client(host).create(path, text.encode(), makepath=True))
    elif command == "fill":
        path, count, size = arguments
        connected = client(host)
        connected.ensure_path(path)
        made = [connected.create_async(f"{path}/{number}", b"x" * int(size)) for number in range(int(count))]
        for one in made:
            one.get(60)
        print(len(connected.get_children(path)))
    elif command == "get":
        connected = client(host)
        connected.sync(arguments[0])
        print(connected.get(arguments[0])[0].decode())
    elif command == "config":
        print(client(host).get("/zookeeper/config")[0].decode())
    elif command == "reconfig":
        joining, leaving, members, version = arguments
        connected = client(host, auth_data=[("digest", "super:admin")])
        data, stat = connected.reconfig(
            joining=given(joining), leaving=given(leaving), new_members=given(members), from_config=int(version, 16)
        )
        assert stat.mzxid >= 0
        print(data.decode())
    elif command == "refused":
        for auth in (None, [("digest", "super:admin")]):
            connected = client(host, auth_data=auth)
            for change in json.loads(arguments[0]):
                joining, leaving, members, version = change
                try:
                    connected.reconfig(joining, leaving, members, from_config=version)
                    print("done", change)
                except KazooException as error:
                    print(type(error).__name__, change)
    elif command == "session":
        (path,) = arguments
        connected = client(host)
        connected.create(path)

        def told():
            lines = connected.command(b"dump").splitlines() + connected.command(b"mntr").splitlines()
            wanted = ("Local Session", "Global Session", "Session Sets", "zk_local_sessions", "zk_global_sessions")
            return [line for line in lines if line.startswith(wanted)]

        def ask(what):
            try:
                print(what())
            except KazooException as error:
                print(type(error).__name__, *told(), sep="\n")

        print(*told(), sep="\n")
        ask(lambda: connected.create(f"{path}/e", ephemeral=True))
        ask(lambda: connected.create(f"{path}/s-", ephemeral=True, sequence=True))
        ask(lambda: connected.get_children(path) and sorted(connected.get_children(path)))
        for flags in ({}, {"ephemeral": True}):
            multi = connected.transaction()
            multi.create(f"{path}/m1")
            multi.create(f"{path}/m2", **flags)
            multi.delete(f"{path}/m1")
            ask(lambda: [str(result) or type(result).__name__ for result in multi.commit()])
        ask(lambda: sorted(connected.get_children(path)))
        print(*told(), sep="\n")
        connected.stop()
        again = client(host)
        print(again.get_children(path), again.get(path)[1].cversion)
        again.stop()
    elif command == "refuses":
        refused = KazooClient(hosts=host)
        try:
            refused.start(2)
            print(False)
        except KazooTimeoutError:
            print(True)
    elif command == "move":
        path, other = arguments
        connected = client(host)
        connected.create(path, ephemeral=True)
        moved = client(other, client_id=connected.client_id)
        moved.sync(path)
        print(moved.exists(path).owner_session_id == connected.client_id[0])
        print(moved.create(f"{path}-", sequence=True, ephemeral=True) != path)
        moved.stop()
        after = client(other)
        print(after.sync(path) and after.exists(path))
    else:
        connected = client(host, read_only=True)
        print(connected.client_state == KeeperState.CONNECTED_RO)
        print(connected.get(arguments[0])[0].decode())
        connected.create("/read-only")


try:
    run(*sys.argv[1:])
except KazooException as error:
    print(type(error).__name__)
