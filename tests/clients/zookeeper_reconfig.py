"""A client that changes a ZooKeeper ensemble, made with kazoo.

put HOST PATH TEXT      creates a znode
fill HOST PATH COUNT SIZE
                        creates so many znodes with data of so many bytes, and prints how many there are
get HOST PATH           prints a znode's text, after a sync
config HOST             prints the configuration that a client sees
reconfig HOST JOINING LEAVING MEMBERS VERSION
                        changes the ensemble as the super user and prints the configuration that is answered; "-" stands
                        for nothing
read-only HOST PATH     prints a znode's text as a read-only client, and what a write is answered

An error is printed by its name.
"""

import sys

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
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
    else:
        connected = client(host, read_only=True)
        print(connected.client_state == KeeperState.CONNECTED_RO)
        print(connected.get(arguments[0])[0].decode())
        connected.create("/read-only")


try:
    run(*sys.argv[1:])
except KazooException as error:
    print(type(error).__name__)
