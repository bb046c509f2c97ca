#!/usr/bin/env python3
"""A custom executor over the v1 executor API that finishes every task at once, with nothing but Python's library.

Subscribes again with an agent that comes back, with what it has not acknowledged.
"""
import base64
import http.client
import json
import os
import time
import uuid

AGENT = os.environ["MESOS_AGENT_ENDPOINT"]
BASE = {
    "framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]},
    "executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]},
}
JSON = {"Content-Type": "application/json", "Accept": "application/json"}
tasks, updates = {}, {}


def records(stream):
    while True:
        length = stream.readline()
        if not length:
            return
        yield json.loads(stream.read(int(length)))


def finish(calls, task):
    key = base64.b64encode(uuid.uuid4().bytes).decode()
    status = {
        "task_id": task["task_id"], "executor_id": BASE["executor_id"], "state": "TASK_FINISHED",
        "source": "SOURCE_EXECUTOR", "timestamp": time.time(), "uuid": key,
    }
    tasks[task["task_id"]["value"]] = task
    updates[key] = {"status": status}
    send(calls, dict(BASE, type="UPDATE", update={"status": status}))


def send(calls, call):
    calls.request("POST", "/api/v1/executor", json.dumps(call), JSON)
    calls.getresponse().read()


def run():
    events = http.client.HTTPConnection(AGENT, timeout=3600)
    subscribe = {"unacknowledged_tasks": list(tasks.values()), "unacknowledged_updates": list(updates.values())}
    events.request("POST", "/api/v1/executor", json.dumps(dict(BASE, type="SUBSCRIBE", subscribe=subscribe)), JSON)
    stream = events.getresponse()
    if stream.status != 200:
        return False
    calls = http.client.HTTPConnection(AGENT, timeout=60)
    for event in records(stream):
        if event["type"] == "LAUNCH":
            finish(calls, event["launch"]["task"])
        elif event["type"] == "ACKNOWLEDGED":
            acknowledged = updates.pop(event["acknowledged"]["uuid"], None)
            if acknowledged:
                tasks.pop(event["acknowledged"]["task_id"]["value"], None)
        elif event["type"] == "SHUTDOWN":
            return True
    return False


while True:
    try:
        if run():
            break
    except (OSError, ValueError, http.client.HTTPException):
        pass
    time.sleep(0.2)
