"""The original's v0 driver and an executor with one exchange messages, which they do without the master where they can.

usage: driver_messages.py PROGRAM ZK EXECUTOR COUNT    PROGRAM is v0_driver.cpp, built; EXECUTOR sends back what it is told

Ends with 0 when each of COUNT messages, sent at once, has come back.
"""
import subprocess
import sys

from libprocess import field, name_in, read

PROGRAM, ZK, EXECUTOR, COUNT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
RUNNING = 1


def named(number, value):
    return field(number, field(1, value))


def resource(name, value):
    return field(1, name) + field(2, 0) + field(3, field(1, value))


def say(name, *messages):
    driver.stdin.write(" ".join([name] + [message.hex() or "-" for message in messages]) + "\n")
    driver.stdin.flush()


info = field(1, "root") + field(2, "messages") + field(4, 600.0)
driver = subprocess.Popen([PROGRAM, ZK, info.hex()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
wanted = {b"message \0 %d" % index for index in range(COUNT)}
is_launched = is_sent = False
for line in driver.stdout:
    name, *words = line.split()
    print(name, flush=True)
    messages = [b"" if word == "-" else bytes.fromhex(word) for word in words if name != "executor_lost"]
    if name == "registered":
        framework = name_in(messages[0])
    elif name == "offers" and not is_launched:
        is_launched = True
        offer = read(messages[0])
        executor = named(1, "echo") + named(8, framework) + field(7, field(3, EXECUTOR))
        task = field(1, "t") + named(2, "t") + field(3, offer[3][0]) + field(5, executor)
        task += field(4, resource("cpus", 0.1)) + field(4, resource("mem", 32.0))
        say("launch", offer[1][0], b"", task)
    elif name == "update":
        status = read(messages[0])
        if 11 in status:
            say("acknowledge", messages[0])
        if status[2][0] == RUNNING and not is_sent:
            is_sent = True
            for message in sorted(wanted):
                say("message", field(1, "echo"), status[5][0], message)
    elif name == "message":
        wanted.discard(messages[2])
        if not wanted:
            say("stop")
    elif name == "error":
        sys.exit(messages[0].decode())
sys.exit(1 if wanted else 0)
