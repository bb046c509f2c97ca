"""A framework that runs many tasks through the deaths of masters and agents, and accounts for every update.

usage: many_tasks.py KIND COUNT EXECUTOR MASTER...     KIND is json, protobuf or v0; MASTER is host:port
       many_tasks.py driver COUNT EXECUTOR PROGRAM ZK  the original's v0 driver: v0_driver.cpp, built

Runs COUNT tasks at an executor that finishes them. Launches that are lost on the way are told as such, and are made up for by a new
task. An update that was acknowledged may be sent again while the acknowledgement is on its way through daemons that die, but a task
never ends twice. Prints `done: N` now and then, and the account as JSON at the end; exits 1 if anything is wrong. Speaks the v1 API in
JSON or protobuf, or libprocess messages as a v0 driver does: the field numbers are the same. Nothing but Python's library, and with
`driver` the original's.
"""
import base64
import http.client
import json
import queue
import struct
import subprocess
import sys
import threading
import time
import uuid

import libprocess
from libprocess import field, name_in, read

KIND, COUNT, EXECUTOR, MASTERS = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
BATCH = 100
FINISHED = 2
TERMINAL = {2, 3, 4, 5, 7, 9, 11, 12}
LOST = {5, 9, 11}
STATES = {
    "TASK_STARTING": 0, "TASK_RUNNING": 1, "TASK_FINISHED": 2, "TASK_FAILED": 3, "TASK_KILLED": 4, "TASK_LOST": 5,
    "TASK_STAGING": 6, "TASK_ERROR": 7, "TASK_KILLING": 8, "TASK_DROPPED": 9, "TASK_UNREACHABLE": 10, "TASK_GONE": 11,
    "TASK_GONE_BY_OPERATOR": 12, "TASK_UNKNOWN": 13,
}
events = queue.Queue()


def named(number, value):
    return field(number, field(1, value))


class Json:
    """The v1 API in JSON."""

    media = "application/json"

    def subscribe(self, framework):
        info = {
            "user": "root", "name": "many-json", "roles": ["many"], "checkpoint": True, "failover_timeout": 600.0,
            "capabilities": [{"type": "MULTI_ROLE"}],
        }
        call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
        if framework:
            info["id"] = call["framework_id"] = {"value": framework}
        return json.dumps(call).encode()

    def call(self, framework, kind, **more):
        return json.dumps(dict(type=kind, framework_id={"value": framework}, **more)).encode()

    def accept(self, framework, offer, agent, tasks):
        scalar = lambda name, value: {"name": name, "type": "SCALAR", "scalar": {"value": value}}
        executor = {
            "type": "CUSTOM", "executor_id": {"value": "finishing"}, "framework_id": {"value": framework},
            "command": {"value": EXECUTOR}, "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
        }
        infos = [{
            "name": task, "task_id": {"value": task}, "agent_id": {"value": agent}, "executor": executor,
            "resources": [scalar("cpus", 0.01), scalar("mem", 1.0)],
        } for task in tasks]
        operations = [{"type": "LAUNCH", "launch": {"task_infos": infos}}]
        accept = {"offer_ids": [{"value": offer}], "operations": operations, "filters": {"refuse_seconds": 0.0}}
        return self.call(framework, "ACCEPT", accept=accept)

    def decline(self, framework, offer, seconds):
        decline = {"offer_ids": [{"value": offer}], "filters": {"refuse_seconds": seconds}}
        return self.call(framework, "DECLINE", decline=decline)

    def acknowledge(self, framework, agent, task, key):
        acknowledge = {"agent_id": {"value": agent}, "task_id": {"value": task}, "uuid": base64.b64encode(key).decode()}
        return self.call(framework, "ACKNOWLEDGE", acknowledge=acknowledge)

    def reconcile(self, framework, tasks):
        asked = [{"task_id": {"value": task}, "agent_id": {"value": agent}} for task, agent in tasks]
        return self.call(framework, "RECONCILE", reconcile={"tasks": asked})

    def teardown(self, framework):
        return self.call(framework, "TEARDOWN")

    def heard(self, record):
        event = json.loads(record)
        if event["type"] == "SUBSCRIBED":
            yield ("subscribed", event["subscribed"]["framework_id"]["value"])
        elif event["type"] == "OFFERS":
            for offer in event["offers"]["offers"]:
                cpus = sum(own["scalar"]["value"] for own in offer["resources"] if own["name"] == "cpus")
                yield ("offer", offer["id"]["value"], offer["agent_id"]["value"], cpus)
        elif event["type"] == "UPDATE":
            status = event["update"]["status"]
            key = base64.b64decode(status["uuid"]) if "uuid" in status else None
            yield ("update", status["task_id"]["value"], STATES[status["state"]], key, status.get("agent_id", {}).get("value"), status.get("message"))
        elif event["type"] == "ERROR":
            yield ("error", event["error"]["message"])


class Protobuf:
    """The v1 API in protobuf, and the calls of v0."""

    media = "application/x-protobuf"

    def info(self):
        info = field(1, "root") + field(2, "many-" + KIND) + field(4, 600.0) + field(5, 1)
        return info + field(12, "many") + field(10, field(1, 6))

    def subscribe(self, framework):
        info = self.info()
        if framework:
            info += named(3, framework)
        return (named(1, framework) if framework else b"") + field(2, 1) + field(3, field(1, info))

    def infos(self, framework, agent, tasks):
        scalar = lambda name, value: field(1, name) + field(2, 0) + field(3, field(1, value))
        executor = field(15, 2) + named(1, "finishing") + named(8, framework) + field(7, field(3, EXECUTOR))
        executor += field(5, scalar("cpus", 0.1)) + field(5, scalar("mem", 32.0))
        return [
            field(1, task) + named(2, task) + named(3, agent) + field(4, scalar("cpus", 0.01))
            + field(4, scalar("mem", 1.0)) + field(5, executor) for task in tasks]

    def accept(self, framework, offer, agent, tasks):
        launch = b"".join(field(1, info) for info in self.infos(framework, agent, tasks))
        operation = field(1, 1) + field(2, launch)
        accept = named(1, offer) + field(2, operation) + field(3, field(1, 0.0))
        return named(1, framework) + field(2, 3) + field(4, accept)

    def decline(self, framework, offer, seconds):
        return named(1, framework) + field(2, 4) + field(5, named(1, offer) + field(2, field(1, seconds)))

    def acknowledge(self, framework, agent, task, key):
        return named(1, framework) + field(2, 8) + field(8, named(1, agent) + named(2, task) + field(3, key))

    def reconcile(self, framework, tasks):
        asked = b"".join(field(1, named(1, task) + named(2, agent)) for task, agent in tasks)
        return named(1, framework) + field(2, 9) + field(9, asked)

    def teardown(self, framework):
        return named(1, framework) + field(2, 2)

    def offers(self, message):
        for offer in message.get(1, []):
            offer = read(offer)
            resources = [read(own) for own in offer.get(5, [])]
            scalars = [read(own[3][0])[1][0] for own in resources if own[1] == [b"cpus"]]
            cpus = sum(struct.unpack("<d", value)[0] for value in scalars)
            yield ("offer", name_in(offer[1][0]), name_in(offer[3][0]), cpus)

    def status(self, message, key=None):
        status = read(message)
        key = key or status.get(11, [None])[0]
        agent = name_in(status[5][0]) if 5 in status else None
        return ("update", name_in(status[1][0]), status[2][0], key, agent, status.get(4, [None])[0])

    def heard(self, record):
        event = read(record)
        kind = event[1][0]
        if kind == 1:
            yield ("subscribed", name_in(read(event[2][0])[1][0]))
        elif kind == 2:
            yield from self.offers(read(event[3][0]))
        elif kind == 4:
            yield self.status(read(event[5][0])[1][0])
        elif kind == 7:
            yield ("error", read(event[8][0])[1][0].decode())


class Lines(Protobuf):
    """What v0_driver.cpp hears."""

    def line(self, name, *messages):
        return " ".join([name] + [message.hex() or "-" for message in messages])

    def accept(self, framework, offer, agent, tasks):
        return self.line("launch", field(1, offer), field(1, 0.0), *self.infos(framework, agent, tasks))

    def decline(self, framework, offer, seconds):
        return self.line("decline", field(1, offer), field(1, seconds))

    def acknowledge(self, framework, agent, task, key):
        return self.line("acknowledge", named(1, task) + field(2, FINISHED) + named(5, agent) + field(11, key))

    def reconcile(self, framework, tasks):
        return self.line("reconcile", *[named(1, task) + field(2, 6) + named(5, agent) for task, agent in tasks])

    def teardown(self, framework):
        return "stop"


class Http:
    """Calls over HTTP; events come as records of the answer to SUBSCRIBE."""

    def __init__(self, encoding):
        self.encoding, self.lock, self.generation = encoding, threading.Lock(), 0

    def subscribe(self, master, framework):
        self.generation += 1
        stream = http.client.HTTPConnection(master, timeout=60)
        headers = {"Content-Type": self.encoding.media, "Accept": self.encoding.media}
        stream.request("POST", "/api/v1/scheduler", self.encoding.subscribe(framework), headers)
        answer = stream.getresponse()
        if answer.status != 200:
            raise OSError("%d %s" % (answer.status, answer.read()))
        self.headers = dict(headers, **{"Mesos-Stream-Id": answer.getheader("Mesos-Stream-Id")})
        self.calls = http.client.HTTPConnection(master, timeout=60)
        threading.Thread(target=self.listen, args=(answer, stream, self.generation), daemon=True).start()

    def listen(self, answer, stream, generation):
        try:
            while True:
                length = answer.readline()
                if not length:
                    break
                for event in self.encoding.heard(answer.read(int(length))):
                    events.put((generation, event))
        except (OSError, ValueError, http.client.HTTPException):
            pass
        events.put((generation, ("closed",)))

    def call(self, body):
        self.calls.request("POST", "/api/v1/scheduler", body, self.headers)
        answer = self.calls.getresponse()
        text = answer.read()
        if answer.status != 202:
            raise OSError("%d %s" % (answer.status, text))


class Libprocess:
    """Messages of a v0 driver; the master connects to this process to tell events."""

    def __init__(self, encoding):
        self.encoding, self.generation = encoding, 0
        transport = self

        class Inbox(libprocess.Inbox):
            def heard(self, sender, name, message):
                if sender.endswith(transport.master):
                    for event in transport.heard(name, message):
                        events.put((transport.generation, event))

        self.own = libprocess.serve(Inbox, "scheduler-%s" % uuid.uuid4())

    def heard(self, name, message):
        if name in ("FrameworkRegisteredMessage", "FrameworkReregisteredMessage"):
            yield ("subscribed", name_in(message[1][0]))
        elif name == "ResourceOffersMessage":
            yield from self.encoding.offers(message)
        elif name == "StatusUpdateMessage":
            update = read(message[1][0])
            # Without a sender there is nobody to acknowledge it to.
            has_sender = message.get(2, [b""])[0] != b""
            status = self.encoding.status(update[4][0], update.get(6, [None])[0])
            yield status if has_sender else status[:3] + (None,) + status[4:]
        elif name == "FrameworkErrorMessage":
            yield ("error", message[2][0].decode())

    def subscribe(self, master, framework):
        self.generation += 1
        self.master = master
        self.calls = http.client.HTTPConnection(master, timeout=60)
        self.call(self.encoding.subscribe(framework))

    def call(self, body):
        self.calls.request("POST", "/master/mesos.scheduler.Call", body, libprocess.headers(self.own))
        self.calls.getresponse().read()


class Driver:
    """The original's driver, which finds the leader by itself."""

    def __init__(self, encoding):
        self.encoding, self.generation = encoding, 0

    def subscribe(self, program, _framework):
        zk = MASTERS[1]
        command = [program, zk, self.encoding.info().hex()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        is_known = False
        for line in self.process.stdout:
            name, *words = line.split()
            messages = [b"" if word == "-" else bytes.fromhex(word) for word in words]
            if name == "registered" and not is_known:
                is_known = True
                events.put((0, ("subscribed", name_in(messages[0]))))
            elif name in ("registered", "reregistered"):
                # New leaders say the first to frameworks that were there before, too.
                events.put((0, ("followed",)))
            elif name == "offers":
                for event in self.encoding.offers({1: messages}):
                    events.put((0, event))
            elif name == "update":
                events.put((0, self.encoding.status(messages[0])))
            elif name == "error":
                events.put((0, ("error", messages[0].decode())))

    def call(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if line == "stop":
            self.process.wait()


def leader():
    """Who leads, as some master sees it that leads itself."""
    for master in MASTERS:
        try:
            connection = http.client.HTTPConnection(master, timeout=5)
            connection.request("GET", "/master/redirect")
            location = connection.getresponse().getheader("Location", "")
            if location == "//" + master:
                connection = http.client.HTTPConnection(master, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return master
        except (OSError, http.client.HTTPException):
            pass
    return None


class Framework:
    def __init__(self):
        self.encoding = {"json": Json, "driver": Lines}.get(KIND, Protobuf)()
        self.transport = {"v0": Libprocess, "driver": Driver}.get(KIND, Http)(self.encoding)
        self.framework, self.master = None, None
        self.launched, self.ended, self.acknowledged = {}, {}, set()
        self.again, self.lost, self.failovers, self.wrong, self.next = 0, 0, -1, [], 0

    def connect(self):
        while True:
            master = MASTERS[0] if KIND == "driver" else leader()
            if master:
                try:
                    self.transport.subscribe(master, self.framework)
                    self.master = master
                    self.failovers += 1
                    return
                except (OSError, http.client.HTTPException) as error:
                    print("not subscribed:", error, flush=True)
            time.sleep(0.2)

    def offer(self, offer, agent, cpus):
        running = len(self.launched) - len(self.ended)
        done = len(self.ended) - self.lost
        room = int((cpus - 0.1) / 0.01 + 0.001)
        count = min(BATCH, COUNT - done - running, room)
        if count <= 0 or running > 2 * BATCH:
            # Offers that go to and fro would be all that the master does.
            self.transport.call(self.encoding.decline(self.framework, offer, 0.5))
            return
        tasks = ["%s-%d" % (KIND, self.next + index) for index in range(count)]
        self.next += len(tasks)
        self.launched.update((task, agent) for task in tasks)
        self.transport.call(self.encoding.accept(self.framework, offer, agent, tasks))

    def update(self, task, state, key, agent, message):
        if state in TERMINAL:
            before = self.ended.get(task)
            if task not in self.launched:
                self.wrong.append("%s was never launched" % task)
            elif before is None:
                self.ended[task] = (state, key)
                if state in LOST:
                    self.lost += 1
                elif state != FINISHED:
                    self.wrong.append("%s ended in state %d: %s" % (task, state, message))
                if len(self.ended) % 10 == 0:
                    print("done:", len(self.ended), flush=True)
            elif before[1] is None and before[0] == state:
                # Until now it was only known because it was asked for.
                self.ended[task] = (state, key)
            elif key is not None and before[1] != key:
                self.wrong.append("%s ended twice: %s, then in state %d: %s" % (task, before, state, message))
        if key is not None:
            self.again += key in self.acknowledged
            self.transport.call(self.encoding.acknowledge(self.framework, agent, task, key))
            self.acknowledged.add(key)

    def reconcile(self):
        open_tasks = [(task, agent) for task, agent in self.launched.items() if task not in self.ended]
        if open_tasks:
            self.transport.call(self.encoding.reconcile(self.framework, open_tasks))

    def run(self):
        looked = heard = time.time()
        self.connect()
        while len(self.ended) - self.lost < COUNT and not self.wrong:
            try:
                try:
                    generation, event = events.get(timeout=0.5)
                except queue.Empty:
                    generation, event = self.transport.generation, ("idle",)
                if generation != self.transport.generation:
                    continue
                if event[0] != "idle":
                    heard = time.time()
                if event[0] == "subscribed":
                    self.framework = event[1]
                    self.reconcile()
                elif event[0] == "offer":
                    self.offer(*event[1:])
                elif event[0] == "update":
                    self.update(*event[1:])
                elif event[0] == "error":
                    self.wrong.append(event[1])
                elif event[0] == "followed":
                    self.failovers += 1
                    self.reconcile()
                elif event[0] == "closed":
                    self.connect()
                if time.time() - looked > 1:
                    looked = time.time()
                    now = self.master if KIND == "driver" else leader()
                    if now and now != self.master:
                        self.connect()
                    elif self.framework and time.time() - heard > 5:
                        heard = time.time()
                        self.reconcile()
            except (OSError, http.client.HTTPException) as error:
                print("again, because", error, flush=True)
                self.connect()
        self.transport.call(self.encoding.teardown(self.framework))
        print(json.dumps({
            "finished": len(self.ended) - self.lost, "launched": len(self.launched), "lost": self.lost, "again": self.again,
            "failovers": self.failovers, "wrong": self.wrong[:5],
        }), flush=True)
        sys.exit(1 if self.wrong else 0)


Framework().run()
