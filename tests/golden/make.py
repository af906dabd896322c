#!/usr/bin/env python3
"""Writes the golden recordings: `make.py BLOCKSD FOLDER` runs one version of the daemon and keeps its files.

The files of a version are made once, by that version, and never again. See README.md.
"""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

COMMAND, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
LISTENERS = [
    "127.0.0.1:0",
    "127.0.0.1:0,framing=lines,decode=json",
    "127.0.0.1:0,framing=cobs,decode=cbor",
    "127.0.0.1:0,framing=netstring",
    "127.0.0.1:0,framing=stream",
    "127.0.0.1:0,framing=length:u16,max-block=64,oversize=pieces",
    "127.0.0.1:0,framing=length:u32,max-block=64",
]


class Daemon:
    def __init__(self, record, *options):
        command = [COMMAND, "serve", "--output", "none", "--record", str(record), "--record-sync-ms", "10", *options]
        for listener in LISTENERS:
            command += ["--listen", listener]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.ports = []
        while len(self.ports) < len(LISTENERS):
            line = self.process.stderr.readline()
            if not line:
                sys.exit("the daemon did not start")
            if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
                self.ports.append(int(found[1]))

    def send(self, listener, device, *parts):
        with socket.create_connection(("127.0.0.1", self.ports[listener]), source_address=(f"127.0.0.{device}", 0)) as peer:
            peer.settimeout(5)
            try:
                for part in parts:
                    peer.sendall(part)
                    time.sleep(0.05)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass
            except OSError:
                pass  # The daemon closes after a fault that it cannot skip.

    def end(self, how):
        time.sleep(0.3)
        self.process.send_signal(how)
        self.process.wait()


def block(payload):
    return len(payload).to_bytes(4, "big") + payload


def talk(daemon):
    """Sends data that causes every kind of event, from three devices."""
    daemon.send(0, 1, block(b"temp=1") + block(b"hum=1"), block(b"\xff\x00\xfe"), bytes(4))
    daemon.send(0, 2, block(b"of another device"), b"\0\0\0\x05cut")
    daemon.send(1, 1, b'{"t":21.5}\n[1,2]\n', b"not json\n")
    daemon.send(2, 3, b"\x05\xa1\x61t\x15\0", b"\x09short\0")
    daemon.send(3, 2, b"5:hello,", b"3:abcX")
    daemon.send(3, 2, b"x:", b"1:a,")
    daemon.send(4, 3, b"as it ", b"comes")
    daemon.send(5, 1, b"\0\x05small" + b"\0\xc8" + b"p" * 100, b"q" * 100 + b"\0\x01z")
    daemon.send(6, 2, b"\0\0\0\x41" + b"r" * 65 + b"\0\0\0\x02ok")


def case(name, how, *options, rounds=1, after=None):
    with tempfile.TemporaryDirectory() as record:
        daemon = Daemon(record, *options)
        for _ in range(rounds):
            talk(daemon)
        if how == signal.SIGKILL:
            time.sleep(0.3)
            # A connection that is open when the daemon ends.
            with socket.create_connection(("127.0.0.1", daemon.ports[0]), source_address=("127.0.0.1", 0)) as peer:
                peer.sendall(block(b"the last"))
                daemon.end(how)
        else:
            daemon.end(how)
        to = FOLDER / name
        to.mkdir(parents=True)
        for file in sorted(pathlib.Path(record).glob("*.mcap*")):
            shutil.copyfile(file, to / file.name)
    if after:
        after(to)
    for output in ["json", "csv"]:
        read = subprocess.run([COMMAND, "read", "--output", output, str(to)], capture_output=True, check=False)
        (to / f"read.{output}").write_bytes(read.stdout)
        print(name, output, read.returncode, read.stderr.decode())


def cut(folder):
    """Simulates a power failure: removes the last bytes of the last chunk."""
    part = sorted(folder.glob("*.part"))[-1]
    os.truncate(part, part.stat().st_size - 150)


def damage(folder):
    """Changes a byte in the middle of a sealed file."""
    file = sorted(folder.glob("*.mcap"))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0x10
    file.write_bytes(content)


case("none", signal.SIGTERM)
case("lz4", signal.SIGTERM, "--record-compression", "lz4")
case("zstd", signal.SIGTERM, "--record-compression", "zstd")
case("rotated", signal.SIGTERM, "--record-rotate-bytes", "4096", rounds=2)
case("torn", signal.SIGKILL, "--record-rotate-bytes", "6000")
case("torn-zstd", signal.SIGKILL, "--record-compression", "zstd")
case("cut", signal.SIGKILL, after=cut)
case("damaged", signal.SIGTERM, after=damage)
