"""Runs the given command on a new terminal, and prints everything that it shows there."""

import os
import pty
import sys

sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
