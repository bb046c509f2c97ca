"""A client that proves who it is, made with kazoo: what each step gives, a line each.

usage: HOST:PORT [--within SECONDS] [--tls CA CERTIFICATE] [--sasl USER PASSWORD] [--digest USER:PASSWORD] STEP...

CERTIFICATE is a file with key and certificate, or "-" for none. Steps, with commas for blanks:
whoami | create,PATH,SCHEME,ID | get,PATH | delete,PATH | auth,SCHEME,DATA | acl,PATH
"""

import signal
import sys
from collections import namedtuple

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.serialization import int_struct, read_string
from kazoo.security import ACL, Id


class WhoAmI(namedtuple("WhoAmI", "nothing")):
    """Kazoo takes an empty request for none."""

    type = 107

    @staticmethod
    def serialize():
        return b""

    @classmethod
    def deserialize(cls, data, offset):
        count = int_struct.unpack_from(data, offset)[0]
        offset += int_struct.size
        ids = []
        for _ in range(count):
            scheme, offset = read_string(data, offset)
            user, offset = read_string(data, offset)
            ids.append(f"{scheme}:{user}")
        return ids


def whoami(client):
    result = client.handler.async_result()
    client._call(WhoAmI(None), result)
    return " ".join(sorted(result.get(10)))


def step(client, words):
    match words:
        case ["whoami"]:
            return whoami(client)
        case ["create", path, scheme, ident]:
            return client.create(path, b"x", acl=[ACL(31, Id(scheme, ident))])
        case ["get", path]:
            return client.get(path)[0].decode()
        case ["delete", path]:
            return client.delete(path)
        case ["auth", scheme, data]:
            return client.add_auth(scheme, data)
        case ["acl", path]:
            acls, _ = client.get_acls(path)
            return " ".join(f"{acl.perms}:{acl.id.scheme}:{acl.id.id}" for acl in acls)
    raise ValueError(words)


def main(host, *arguments):
    arguments = list(arguments)
    options, patience = {}, 20
    while arguments and arguments[0].startswith("--"):
        match arguments.pop(0):
            case "--within":
                patience = float(arguments.pop(0))
            case "--tls":
                authority, certificate = arguments.pop(0), arguments.pop(0)
                options.update(use_ssl=True, verify_certs=True, ca=authority)
                if certificate != "-":
                    options.update(certfile=certificate, keyfile=certificate)
            case "--sasl":
                user, password = arguments.pop(0), arguments.pop(0)
                sasl = {"mechanism": "DIGEST-MD5", "username": user, "password": password}
                options.update(sasl_options=sasl)
            case "--digest":
                options.update(auth_data=[("digest", arguments.pop(0))])
    client = KazooClient(hosts=host, timeout=5, connection_retry={"max_tries": 1}, **options)
    try:
        client.start(patience)
    except (KazooException, KazooTimeoutError) as error:
        print("start:", type(error).__name__)
        sys.exit(0)
    for text in arguments:
        try:
            print(f"{text}:", step(client, text.split(",", 3)))
        except (KazooException, KazooTimeoutError) as error:
            print(f"{text}:", type(error).__name__)
    client.stop()


# A client that hangs fails its test.
signal.alarm(60)
main(*sys.argv[1:])
