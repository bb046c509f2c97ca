"""One app's life through the published `marathon` client, with the events that tell of it.

usage: marathon_app.py URL

Prints one JSON line a step. Ends with 0 when every step was answered as the client expects and the events of the app's
life have arrived.
"""
import json
import sys
import threading
import time

from marathon import MarathonClient, NotFoundError
from marathon.exceptions import ConflictError, MarathonHttpError
from marathon.models import MarathonApp

APP = "/clients/sleeper"
PATIENCE = 60


def say(**step):
    print(json.dumps(step), flush=True)


def wait_for(what, look):
    end = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            say(seen=what)
            return found
        if time.monotonic() > end:
            raise SystemExit(f"not within {PATIENCE} s: {what}")
        time.sleep(0.1)


class Events(threading.Thread):
    """Everything on /v2/events, in the client's types; and one kind by its filter, raw."""

    def __init__(self, client, kinds=None):
        super().__init__(daemon=True)
        self.client, self.kinds, self.seen, self.attached = client, kinds, [], threading.Event()

    def run(self):
        for event in self.client.event_stream(event_types=self.kinds):
            self.seen.append(event)
            self.attached.set()

    def has(self, name, **fields):
        return any(
            type(event).__name__ == name
            and all(getattr(event, field, None) == value for field, value in fields.items())
            for event in list(self.seen)
        )


def running(client, count):
    def look():
        tasks = client.get_app(APP).tasks
        up = [task for task in tasks if task.state == "TASK_RUNNING"]
        return len(tasks) == count == len(up) and {task.id for task in up}

    return wait_for(f"{count} running", look)


def settled(client):
    wait_for("no deployment", lambda: not client.list_deployments())


def main():
    client = MarathonClient(sys.argv[1], timeout=15)
    assert b"pong" in client.ping(), client.ping()
    leader = client.get_leader()
    assert ":" in leader["leader"], leader
    events, updates = Events(client), Events(client, ["status_update_event"])
    for listener in (events, updates):
        listener.start()
        assert listener.attached.wait(PATIENCE), "no event_stream_attached"

    app = client.create_app(APP, MarathonApp(cmd="sleep 1000", cpus=0.1, mem=16, instances=1, labels={"kind": "test"}))
    assert app.id == APP and app.instances == 1 and app.deployments, app
    first = running(client, 1)
    settled(client)
    say(created=sorted(first))

    try:
        client.create_app(APP, MarathonApp(cmd="sleep 1", cpus=0.1, mem=16))
        raise SystemExit("an app was created twice")
    except ConflictError as error:
        say(refused=str(error))
    try:
        client.create_app("/clients/broken", MarathonApp(cpus=0.1, mem=16))
        raise SystemExit("an app without a command was taken")
    except MarathonHttpError as error:
        assert error.status_code == 422, error
        say(refused=str(error))

    assert [one.id for one in client.list_apps(label="kind==test")] == [APP]
    assert client.list_apps(label="kind==other") == []
    assert {task.id for task in client.list_tasks(APP)} == first

    assert client.scale_app(APP, instances=3)["deploymentId"]
    scaled = running(client, 3)
    assert first < scaled, f"scaling replaced {first}: {scaled}"
    settled(client)

    before = client.get_app(APP)
    assert client.restart_app(APP)["deploymentId"]
    wait_for("other tasks", lambda: not scaled & {task.id for task in client.get_app(APP).tasks})
    restarted = running(client, 3)
    settled(client)
    assert not restarted & scaled, f"{restarted} has tasks of {scaled}"
    assert client.get_app(APP).version != before.version
    assert before.version in [version for version in versions(client)], versions(client)

    victim = sorted(restarted)[0]
    client.kill_task(APP, victim, scale=True)
    assert running(client, 2) == restarted - {victim}
    settled(client)

    assert client.delete_app(APP)["deploymentId"]
    settled(client)
    try:
        client.get_app(APP)
        raise SystemExit("a deleted app is still there")
    except NotFoundError:
        say(deleted=APP)

    wait_for("the app's end as an event", lambda: events.has("MarathonAppTerminatedEvent", app_id=APP))
    wait_for("a finished deployment as an event", lambda: events.has("MarathonDeploymentSuccess"))
    for name in ("MarathonApiPostEvent", "MarathonDeploymentInfo", "MarathonStatusUpdateEvent", "MarathonInstanceChangedEvent"):
        assert events.has(name), f"no {name} among {[type(event).__name__ for event in events.seen]}"
    assert events.has("MarathonStatusUpdateEvent", app_id=APP, task_status="TASK_RUNNING")
    wait_for("the kill as an update", lambda: updates.has("MarathonStatusUpdateEvent", task_id=victim, task_status="TASK_KILLED"))
    kinds = {type(event).__name__ for event in updates.seen}
    assert kinds == {"MarathonEventStreamAttached", "MarathonStatusUpdateEvent"}, kinds
    say(done=True)


def versions(client):
    return [str(version) for version in client.list_versions(APP)]


main()
