#!/usr/bin/env python3
"""Serial lines that can be unplugged: pseudo-terminals behind a symbolic link. Obeys lines of standard input.

lines.py LINK; then `plug`, `unplug`, `send HEX`, `read N` (prints what comes from the daemon, in hexadecimal). After each
`done` with the number of the order is printed.
"""

import os
import pty
import sys
import tty

link = sys.argv[1]
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
    elif word == "read":
        received = b""
        while len(received) < int(argument):
            received += os.read(line, 4096)
        print("read", number, received.hex())
    print("done", number, word, flush=True)
