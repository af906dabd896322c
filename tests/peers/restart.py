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
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="")
        os.execv(sys.argv[1], sys.argv[1:2] + options)
    os.close(theirs)
    log = os.fdopen(errors)
    for line in log:
        if line.startswith("listening on"):
            break
    threading.Thread(target=log.read, daemon=True).start()
    return pid


answers = []


def device():
    try:
        with socket.create_connection(listening.getsockname(), timeout=30) as connection:
            connection.sendall(SERIES)
            answer = b""
            while received := connection.recv(4096):
                answer += received
            answers.append(answer)
    except OSError as error:
        answers.append(repr(error).encode())


first = start()
os.kill(first, signal.SIGTERM)
second = []
restart = threading.Thread(target=lambda: (os.waitpid(first, 0), second.append(start())))
restart.start()
devices = [threading.Thread(target=device) for _ in range(DEVICES)]
for each in devices:
    each.start()
    time.sleep(0.005)
restart.join()
for each in devices:
    each.join()
is_answered = [b'{"blocks":1,"bytes":5}' in answer for answer in answers]
print("answered", sum(is_answered), "of", DEVICES)
print({answer for answer, answered in zip(answers, is_answered) if not answered})
os.kill(second[0], signal.SIGTERM)
os.waitpid(second[0], 0)
