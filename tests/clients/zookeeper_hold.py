"""A client that has a session, znodes and watches, and stays until its standard input ends or it is killed.

    zookeeper_hold.py PORT NAME

Makes /NAME with data, an ephemeral child, and watches of data, of children and of a znode that is not there; then says
`ready`.
"""

import sys
import time

from kazoo.client import KazooClient


def main():
    port, name = sys.argv[1], sys.argv[2]
    client = KazooClient(hosts=f"127.0.0.1:{port}", timeout=10)
    client.start(timeout=30)
    path = f"/{name}"
    client.create(path, b"hello")
    client.create(f"{path}/ephemeral", b"e", ephemeral=True)
    client.set(path, b"more")

    def nothing(_event):
        pass

    client.get(path, watch=nothing)
    client.get_children(path, watch=nothing)
    client.exists(f"/not-{name}", watch=nothing)
    print("ready", flush=True)
    while True:
        time.sleep(60)


main()
