"""A v0 driver that sends more than it may.

usage: hasty_driver.py MASTER PRINCIPAL COUNT     MASTER is host:port

Registers as PRINCIPAL, sends COUNT calls at once, and prints each message that the master sends as `NAME: TEXT`, until it is killed.
"""
import http.client
import sys
import threading

import libprocess
from libprocess import field, name_in

MASTER, PRINCIPAL, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3])
registered = threading.Event()
framework = []


class Inbox(libprocess.Inbox):
    def heard(self, sender, name, message):
        text = ""
        if name == "FrameworkRegisteredMessage":
            framework.append(name_in(message[1][0]))
            registered.set()
        elif name == "FrameworkErrorMessage":
            text = message[2][0].decode()
        print("%s: %s" % (name, text), flush=True)


headers = libprocess.headers(libprocess.serve(Inbox, "scheduler-" + PRINCIPAL))
calls = http.client.HTTPConnection(MASTER, timeout=60)


def call(body):
    calls.request("POST", "/master/mesos.scheduler.Call", body, headers)
    calls.getresponse().read()


info = field(1, "root") + field(2, PRINCIPAL) + field(8, PRINCIPAL)
call(field(2, 1) + field(3, field(1, info)))
registered.wait(60)
for _ in range(COUNT):
    # REVIVE
    call(field(1, field(1, framework[0])) + field(2, 5))
print("sent: %d" % COUNT, flush=True)
threading.Event().wait()
