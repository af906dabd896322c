"""Runs a command whose standard input delivers the given text and then fails (EIO), and exits with its code."""

import os
import pty
import subprocess
import sys
import time

text, command = sys.argv[1], sys.argv[2:]
controller, terminal = pty.openpty()
child = subprocess.Popen(command, stdin=controller)
os.close(controller)
os.write(terminal, text.encode())
time.sleep(1)
# The reader of the controlling end gets EIO after the other end is closed.
os.close(terminal)
sys.exit(child.wait())
