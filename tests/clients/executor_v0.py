#!/usr/bin/env python3
"""A custom executor that speaks libprocess messages, as those built with a v0 driver do, with nothing but Python's library.

Runs each task for as long as the file `go` is missing from its sandbox, then says that it has finished. Registers again
with an agent that comes back.
"""
import http.server
import os
import struct
import threading
import time
import urllib.request
import uuid

AGENT = os.environ["MESOS_SLAVE_PID"]
NAME, ADDRESS = AGENT.split("@")
FRAMEWORK, EXECUTOR = os.environ["MESOS_FRAMEWORK_ID"], os.environ["MESOS_EXECUTOR_ID"]
SLAVE = os.environ["MESOS_SLAVE_ID"]
STARTING, RUNNING, FINISHED, KILLED = 0, 1, 2, 4


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def named(value):
    return field(1, value)


def read(body):
    """The fields of a message: number to the last value."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = body[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(body):
        key = number()
        if key & 7 == 0:
            fields[key >> 3] = number()
        else:
            length = {1: 8, 5: 4}.get(key & 7) or number()
            fields[key >> 3] = body[at:at + length]
            at += length
    return fields


class Executor(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tasks, updates = {}, {}

    def do_POST(self):
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    break
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.heard(self.path.rsplit(".", 1)[1], read(body))

    def heard(self, name, message):
        print(name, flush=True)
        if name == "RunTaskMessage":
            task = message[4]
            task_id = read(read(task)[2])[1].decode()
            self.tasks[task_id] = task
            threading.Thread(target=run, args=(task_id,), daemon=True).start()
        elif name == "KillTaskMessage":
            update(read(message[2])[1].decode(), KILLED)
        elif name == "StatusUpdateAcknowledgementMessage":
            self.updates.pop(message[4], None)
            self.tasks.pop(read(message[3])[1].decode(), None)
        elif name == "ReconnectExecutorMessage":
            again = field(1, named(EXECUTOR)) + field(2, named(FRAMEWORK))
            again += b"".join(field(3, task) for task in self.tasks.values())
            again += b"".join(field(4, update) for update in self.updates.values())
            send("ReregisterExecutorMessage", again)
        elif name == "ShutdownExecutorMessage":
            os._exit(0)

    def log_message(self, *_):
        pass


def send(name, body):
    request = urllib.request.Request(
        "http://%s/%s/mesos.internal.%s" % (ADDRESS, NAME, name), data=body,
        headers={"Libprocess-From": OWN, "Content-Type": "application/octet-stream"})
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


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Executor)
OWN = "executor(1)@127.0.0.1:%d" % server.server_port
threading.Thread(target=server.serve_forever, daemon=True).start()
send("RegisterExecutorMessage", field(1, named(FRAMEWORK)) + field(2, named(EXECUTOR)))
while True:
    time.sleep(1)
