#!/usr/bin/env python3
"""A custom executor that speaks libprocess messages, as those built with a v0 driver do, with nothing but Python's library.

Runs each task for as long as the file `go` is missing from its sandbox, then says that it has finished. Sends back what its
framework tells it. Registers again with an agent that comes back.
"""
import os
import threading
import time
import urllib.request
import uuid

import libprocess
from libprocess import field, name_in, read

AGENT = os.environ["MESOS_SLAVE_PID"]
NAME, ADDRESS = AGENT.split("@")
FRAMEWORK, EXECUTOR = os.environ["MESOS_FRAMEWORK_ID"], os.environ["MESOS_EXECUTOR_ID"]
SLAVE = os.environ["MESOS_SLAVE_ID"]
STARTING, RUNNING, FINISHED, KILLED = 0, 1, 2, 4


def named(value):
    return field(1, value)


class Executor(libprocess.Inbox):
    tasks, updates = {}, {}

    def heard(self, _sender, name, message):
        print(name, flush=True)
        if name == "RunTaskMessage":
            task = message[4][0]
            task_id = name_in(read(task)[2][0])
            self.tasks[task_id] = task
            threading.Thread(target=run, args=(task_id,), daemon=True).start()
        elif name == "KillTaskMessage":
            update(name_in(message[2][0]), KILLED)
        elif name == "FrameworkToExecutorMessage":
            # Back to whom it came from.
            send("ExecutorToFrameworkMessage", b"".join(field(number, message[number][0]) for number in (1, 2, 3, 4)))
        elif name == "StatusUpdateAcknowledgementMessage":
            self.updates.pop(message[4][0], None)
            self.tasks.pop(name_in(message[3][0]), None)
        elif name == "ReconnectExecutorMessage":
            again = field(1, named(EXECUTOR)) + field(2, named(FRAMEWORK))
            again += b"".join(field(3, task) for task in self.tasks.values())
            again += b"".join(field(4, update) for update in self.updates.values())
            send("ReregisterExecutorMessage", again)
        elif name == "ShutdownExecutorMessage":
            os._exit(0)


def send(name, body):
    request = urllib.request.Request(
        "http://%s/%s/mesos.internal.%s" % (ADDRESS, NAME, name), data=body,
        headers=libprocess.headers(OWN))
    while True:
        try:
            return urllib.request.urlopen(request).read()
        except OSError:
            time.sleep(0.2)


def update(task_id, state):
    key = uuid.uuid4().bytes
    status = field(1, named(task_id)) + field(2, state) + field(4, "said in v0")
    whole = field(1, named(FRAMEWORK)) + field(2, named(EXECUTOR)) + field(3, named(SLAVE))
    whole += field(4, status) + field(5, time.time()) + field(6, key)
    Executor.updates[key] = whole
    send("StatusUpdateMessage", field(1, whole) + field(2, OWN))


def run(task_id):
    update(task_id, STARTING)
    update(task_id, RUNNING)
    while not os.path.exists("go"):
        time.sleep(0.05)
    update(task_id, FINISHED)


OWN = libprocess.serve(Executor, "executor(1)")
send("RegisterExecutorMessage", field(1, named(FRAMEWORK)) + field(2, named(EXECUTOR)))
while True:
    time.sleep(1)
