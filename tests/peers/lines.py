#!/usr/bin/env python3
"""Serial lines that can be unplugged: pseudo-terminals with a symbolic link. Reads commands from standard input.

lines.py LINK; the commands are `plug`, `unplug`, `send HEX`, `read N` (prints data from the daemon in hexadecimal), and
`echo`: from then on, everything that the daemon sends comes back.
After each command it prints `done` with the number of the command.
"""

import os
import pty
import sys
import threading
import tty

link = sys.argv[1]


def echo():
    while True:
        os.write(line, os.read(line, 4096))


line = None
for number, command in enumerate(sys.stdin, 1):
    word, _, argument = command.strip().partition(" ")
    if word == "plug":
        line, end = pty.openpty()
        tty.setraw(end)
        os.symlink(os.ttyname(end), link)
        plugged = end
    elif word == "unplug":
        os.unlink(link)
        os.close(plugged)
        os.close(line)
    elif word == "send":
        os.write(line, bytes.fromhex(argument))
    elif word == "echo":
        threading.Thread(target=echo, daemon=True).start()
    elif word == "read":
        received = b""
        while len(received) < int(argument):
            received += os.read(line, 4096)
        print("read", number, received.hex())
    print("done", number, word, flush=True)
