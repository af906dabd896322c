#!/usr/bin/env python3
"""Acts as a service manager: opens sockets, and executes a program with them.

launcher.py NAME=tcp|udp|connected|bound|file|unix:PATH|datagram:PATH[,...] PROGRAM ARGUMENT...
"""

import os
import socket
import sys

sockets = []
for given in sys.argv[1].split(","):
    name, kind = given.split("=")
    if kind == "tcp":
        opened = socket.create_server(("127.0.0.1", 0))
    elif kind == "udp":
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(("127.0.0.1", 0))
    elif kind == "connected":
        # As passed by a socket unit with Accept=yes.
        listening = socket.create_server(("127.0.0.1", 0))
        peer = socket.create_connection(listening.getsockname())
        opened, _ = listening.accept()
    elif kind == "bound":
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        opened.bind(("127.0.0.1", 0))
    elif kind == "file":
        opened = open("/dev/null", "rb")
    elif kind.startswith("datagram:"):
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.bind(kind.removeprefix("datagram:"))
    else:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.bind(kind.removeprefix("unix:"))
        opened.listen()
    sockets.append((name, opened))
# Above their final numbers, so that none is overwritten before it is moved there.
copies = [os.dup(opened.fileno()) for _, opened in sockets]
copies = [os.dup2(copy, 100 + index, inheritable=False) for index, copy in enumerate(copies)]
for index, copy in enumerate(copies):
    os.dup2(copy, 3 + index, inheritable=True)
os.environ["LISTEN_FDS"] = str(len(copies))
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in sockets)
os.execv(sys.argv[2], sys.argv[2:])
