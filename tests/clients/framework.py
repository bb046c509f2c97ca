"""A pymesos framework that runs COUNT commands and checks what it is told.

usage: framework.py MASTER COUNT COMMAND

Prints one JSON line an event. Ends with 0 when every command has finished exactly once, without a task that was once
seen by the framework being lost. A task that never got any update (its launch was still under way when a master died)
is asked for by reconciliation and launched again under another id, as the API expects of a framework.
"""
import getpass
import json
import sys
import threading
import time

from pymesos import MesosSchedulerDriver, Scheduler, encode_data  # noqa: F401

TERMINAL = {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR", "TASK_DROPPED", "TASK_GONE"}


def say(**event):
    print(json.dumps(event), flush=True)


class Runner(Scheduler):
    def __init__(self, count, command):
        self.command = command
        self.todo = list(range(count))
        self.next_attempt = 0
        self.tasks = {}  # id -> [index, last state or None, launch time]
        self.finished = set()
        self.broken = []
        self.done = threading.Event()

    def registered(self, driver, framework_id, master):
        say(event="registered", framework=framework_id.value, master=master.get("hostname"))
        self.reconcile(driver)

    def reregistered(self, driver, master):
        say(event="reregistered")
        self.reconcile(driver)

    def disconnected(self, driver):
        say(event="disconnected")

    def error(self, driver, message):
        say(event="error", message=message)
        self.broken.append(message)
        self.done.set()

    def reconcile(self, driver):
        open_tasks = [{"task_id": {"value": task}} for task, (_, state, _) in self.tasks.items() if state not in TERMINAL]
        if open_tasks:
            try:
                driver.reconcileTasks(open_tasks)
            except Exception as reason:  # the connection broke again: the next registration asks anew
                say(event="reconcile failed", reason=str(reason))

    def resourceOffers(self, driver, offers):
        for offer in offers:
            cpus = sum(r.scalar.value for r in offer.resources if r.name == "cpus")
            mem = sum(r.scalar.value for r in offer.resources if r.name == "mem")
            launch = []
            while self.todo and cpus >= 0.1 and mem >= 16 and len(launch) < 10:
                cpus -= 0.1
                mem -= 16
                index = self.todo.pop()
                task = "command-%d-%d" % (index, self.next_attempt)
                self.next_attempt += 1
                self.tasks[task] = [index, None, time.time()]
                launch.append({
                    "name": task,
                    "task_id": {"value": task},
                    "agent_id": {"value": offer.agent_id.value},
                    "command": {"shell": True, "value": self.command},
                    "resources": [
                        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                        {"name": "mem", "type": "SCALAR", "scalar": {"value": 16}},
                    ],
                })
            try:
                if launch:
                    driver.launchTasks(offer.id, launch, {"refuse_seconds": 0})
                else:
                    driver.declineOffer(offer.id, {"refuse_seconds": 1})
            except Exception as reason:  # unknown whether it arrived: reconciliation tells
                say(event="accept failed", reason=str(reason))

    def statusUpdate(self, driver, update):
        task, state = update.task_id.value, update.state
        say(event="update", task=task, state=state, reason=update.get("reason"), message=update.get("message"))
        entry = self.tasks.get(task)
        if entry is None:
            self.broken.append("update for unknown task " + task)
        else:
            index, before, _ = entry
            if before in TERMINAL and state != before:
                self.broken.append("%s was %s and became %s" % (task, before, state))
            elif before in TERMINAL:
                pass  # sent again because its acknowledgement was lost on the way
            elif state == "TASK_FINISHED":
                if index in self.finished:
                    self.broken.append("%s finished twice" % task)
                self.finished.add(index)
            elif state in TERMINAL:
                if before is None and update.get("reason") in ("REASON_RECONCILIATION", "REASON_INVALID_OFFERS"):
                    self.todo.append(index)
                else:
                    self.broken.append("%s was %s and became %s: %s" % (task, before, state, update.get("message")))
            entry[1] = state
        if update.get("uuid"):
            try:
                driver.acknowledgeStatusUpdate(update)
            except Exception as reason:  # sent again by the agent
                say(event="acknowledge failed", reason=str(reason))
        if self.broken or not self.todo and all(state in TERMINAL for _, state, _ in self.tasks.values()):
            self.done.set()


def main():
    master, count, command = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    runner = Runner(count, command)
    framework = {"user": getpass.getuser(), "name": "pymesos", "hostname": "localhost", "failover_timeout": 600, "checkpoint": True}
    driver = MesosSchedulerDriver(runner, framework, master, use_addict=True, implicit_acknowledgements=False)
    driver.start()
    deadline = time.time() + 120
    while not runner.done.wait(3) and time.time() < deadline:
        # A launch may have been lost with the master: ask.
        runner.reconcile(driver)
    driver.stop()
    driver.join()
    say(event="end", finished=len(runner.finished), broken=runner.broken)
    sys.exit(0 if len(runner.finished) == count and not runner.broken else 1)


main()
