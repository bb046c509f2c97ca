"""A framework that does what lines of a file say, and prints what it is told.

usage: console.py MASTER FILE        MASTER is host:port

Lines of FILE, which may be appended to at any time, are JSON: {"run": TaskInfo without agent_id} launches a task on the
next offers that are enough, {"group": [TaskInfo, ...], "executor": ExecutorInfo without framework_id} a group of them, {"kill": TASK_ID, "grace": SECONDS} kills one, {"stop": true} tears the framework down. Each update is printed
as a line of JSON: task, state, reason, message. Speaks the v1 scheduler API with nothing but Python's library.
"""
import http.client
import json
import os
import sys
import threading
import time

MASTER, FILE = sys.argv[1], sys.argv[2]
JSON = {"Content-Type": "application/json", "Accept": "application/json"}
INFO = {
    "user": "root", "name": "console", "checkpoint": True, "failover_timeout": 600, "roles": ["*"],
    "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}],
}


# Seconds that a task waits for offers that are enough for it: what it asks for may be too much on purpose.
PATIENCE = 5


def scalar(many, name):
    """How much of a resource these have or want in all."""
    own = [resource for one in many for resource in one.get("resources", []) if resource["name"] == name]
    return sum(resource.get("scalar", {}).get("value", 0) for resource in own)


def say(**event):
    print(json.dumps(event), flush=True)


class Console:
    def __init__(self):
        connection = http.client.HTTPConnection(MASTER, timeout=3600)
        subscribe = {"type": "SUBSCRIBE", "subscribe": {"framework_info": INFO}}
        connection.request("POST", "/api/v1/scheduler", json.dumps(subscribe), JSON)
        self.events = connection.getresponse()
        self.stream = self.events.getheader("Mesos-Stream-Id")
        self.framework = None
        self.waiting, self.offers, self.agents = [], {}, {}
        self.lock = threading.Lock()

    def call(self, **call):
        call["framework_id"] = {"value": self.framework}
        connection = http.client.HTTPConnection(MASTER, timeout=60)
        headers = dict(JSON, **{"Mesos-Stream-Id": self.stream})
        connection.request("POST", "/api/v1/scheduler", json.dumps(call), headers)
        answer = connection.getresponse()
        if answer.status != 202:
            say(refused=answer.read().decode(), call=call["type"])

    def offers_for(self, command):
        """An agent with its offers, where they are enough; any, if the command has waited for long."""
        by_agent = {}
        for offer_id, offer in self.offers.items():
            by_agent.setdefault(offer["agent_id"]["value"], []).append(offer_id)
        wanted = command.get("group") or [command["run"]]
        wanted = wanted + [part["executor"] for part in [*wanted, command] if "executor" in part]
        for agent, ids in by_agent.items():
            if all(scalar(wanted, name) <= scalar([self.offers[one] for one in ids], name) + 1e-6 for name in ("cpus", "mem")):
                return agent, ids
        if by_agent and time.monotonic() > command["since"] + PATIENCE:
            return by_agent.popitem()
        return None

    def launch(self):
        with self.lock:
            while self.waiting and (found := self.offers_for(self.waiting[0])):
                agent, ids = found
                for one in ids:
                    del self.offers[one]
                command = self.waiting.pop(0)
                group = command.get("group") or [command["run"]]
                tasks = [dict(task, agent_id={"value": agent}) for task in group]
                for task in tasks:
                    self.agents[task["task_id"]["value"]] = {"value": agent}
                launch = {"type": "LAUNCH", "launch": {"task_infos": tasks}}
                if "group" in command:
                    executor = dict(command["executor"], framework_id={"value": self.framework})
                    group = {"executor": executor, "task_group": {"tasks": tasks}}
                    launch = {"type": "LAUNCH_GROUP", "launch_group": group}
                accept = {"offer_ids": [{"value": one} for one in ids], "operations": [launch], "filters": {"refuse_seconds": 0.1}}
                self.call(type="ACCEPT", accept=accept)

    def command(self, command):
        if "run" in command or "group" in command:
            self.waiting.append(dict(command, since=time.monotonic()))
            self.launch()
            threading.Timer(PATIENCE + 0.1, self.launch).start()
        elif "kill" in command:
            kill = {"task_id": {"value": command["kill"]}, "agent_id": self.agents.get(command["kill"])}
            if "grace" in command:
                kill["kill_policy"] = {"grace_period": {"nanoseconds": int(command["grace"] * 1e9)}}
            self.call(type="KILL", kill=kill)
        elif "stop" in command:
            self.call(type="TEARDOWN")
            os._exit(0)

    def follow(self):
        line = ""
        with open(FILE) as lines:
            while True:
                # A line may be read before it is written whole.
                line += lines.readline()
                if line.endswith("\n"):
                    self.command(json.loads(line))
                    line = ""
                else:
                    time.sleep(0.05)

    def records(self):
        while True:
            length = b""
            while not length.endswith(b"\n"):
                byte = self.events.read(1)
                if not byte:
                    return
                length += byte
            yield json.loads(self.events.read(int(length)))

    def run(self):
        for event in self.records():
            kind = event["type"]
            if kind == "SUBSCRIBED":
                self.framework = event["subscribed"]["framework_id"]["value"]
                say(framework=self.framework)
                threading.Thread(target=self.follow, daemon=True).start()
            elif kind == "OFFERS":
                for offer in event["offers"]["offers"]:
                    self.offers[offer["id"]["value"]] = offer
                self.launch()
            elif kind == "RESCIND":
                self.offers.pop(event["rescind"]["offer_id"]["value"], None)
            elif kind == "UPDATE":
                status = event["update"]["status"]
                shown = {key: status[key] for key in ("healthy", "check_status", "limitation", "source", "executor_id") if key in status}
                shown["container"] = sorted(status.get("container_status", {}))
                say(task=status["task_id"]["value"], state=status["state"], reason=status.get("reason"), message=status.get("message"), **shown)
                if "uuid" in status:
                    acknowledge = {key: status[key] for key in ("agent_id", "task_id", "uuid")}
                    self.call(type="ACKNOWLEDGE", acknowledge=acknowledge)
        say(ended=True)


Console().run()
