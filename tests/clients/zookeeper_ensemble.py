"""A client of a ZooKeeper ensemble, made with kazoo.

write HOSTS       creates znodes one after the other for ever and prints the path of each that was acknowledged
check HOST FILE   says which of the paths in FILE are missing at HOST, and whether its order is theirs
"""

import sys
import time

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NodeExistsError
from kazoo.handlers.threading import KazooTimeoutError


def write(hosts):
    client = KazooClient(hosts=hosts, timeout=4)
    client.start(30)
    client.ensure_path("/writes")
    number = 0
    while True:
        path = f"/writes/{number:08d}"
        try:
            client.create(path, b"x" * 100)
            print(path, flush=True)
        except NodeExistsError:
            # The connection broke after it was done and before that was said.
            pass
        except (KazooException, KazooTimeoutError):
            time.sleep(0.02)
            continue
        number += 1


def check(host, file):
    with open(file, encoding="utf-8") as lines:
        acknowledged = [line.strip() for line in lines if line.startswith("/writes/")]
    client = KazooClient(hosts=host, timeout=4)
    client.start(30)
    client.sync("/writes")
    present = {f"/writes/{name}" for name in client.get_children("/writes")}
    missing = [path for path in acknowledged if path not in present]
    if missing:
        sys.exit(f"{host} lacks {len(missing)} of {len(acknowledged)} acknowledged writes: {missing[:5]}")
    zxids = [client.exists(path).czxid for path in acknowledged[:: max(1, len(acknowledged) // 200)]]
    if zxids != sorted(zxids):
        sys.exit(f"{host} has writes in another order than they were acknowledged in")
    print(len(acknowledged))
    client.stop()


if sys.argv[1] == "write":
    write(sys.argv[2])
else:
    check(sys.argv[2], sys.argv[3])
