#!/usr/bin/env python3
"""Acts as a service manager that restarts a daemon: both daemons get the same listening socket.

restart.py PROGRAM. Devices connect while the first daemon stops and the second starts. Prints `answered N of N`, and
whatever a device that was not answered has seen.
"""

import os
import signal
import socket
import sys
import threading
import time

DEVICES = 80
# A stopping daemon that accepted a device would close the connection before the device has sent anything.
PAUSE = 0.05
# Devices that connect at once when the first daemon has received the signal.
BURST = 20
SERIES = b"\0\0\0\x05hello\0\0\0\0"
listening = socket.create_server(("127.0.0.1", 0), backlog=256)
options = ["serve", "--listen", "systemd", "--reply", "receipt", "--output", "none"]


def start():
    errors, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        copy = os.dup2(listening.fileno(), 100)
        os.dup2(copy, 3)
        os.dup2(theirs, 2)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="", RUST_LOG="debug")
        os.execv(sys.argv[1], sys.argv[1:2] + options)
    os.close(theirs)
    log = os.fdopen(errors)
    for line in log:
        if line.startswith("listening on"):
            break
    return pid, log


answers = []


def device(connection):
    try:
        with connection:
            time.sleep(PAUSE)
            connection.sendall(SERIES)
            answer = b""
            while received := connection.recv(4096):
                answer += received
            answers.append(answer)
    except OSError as error:
        answers.append(repr(error).encode())


def connect():
    return socket.create_connection(listening.getsockname(), timeout=30)


first, log = start()
os.kill(first, signal.SIGTERM)
for line in log:
    if "shutting down" in line:
        break
# A daemon that accepts the queue of its socket waits longer than this for the first device.
time.sleep(0.005)
threading.Thread(target=log.read, daemon=True).start()
connections = [connect() for _ in range(BURST)]
second = []
restart = threading.Thread(target=lambda: (os.waitpid(first, 0), second.append(start())))
restart.start()
devices = []
for number in range(DEVICES):
    connection = connections[number] if number < BURST else connect()
    devices.append(threading.Thread(target=device, args=[connection]))
    devices[-1].start()
    if BURST <= number:
        time.sleep(0.005)
restart.join()
for each in devices:
    each.join()
is_answered = [b'{"blocks":1,"bytes":5}' in answer for answer in answers]
print("answered", sum(is_answered), "of", DEVICES)
print({answer for answer, answered in zip(answers, is_answered) if not answered})
second, log = second[0]
threading.Thread(target=log.read, daemon=True).start()
os.kill(second, signal.SIGTERM)
os.waitpid(second, 0)
