"""A minimal host of acknowledged sessions, written from docs/sessions.md alone. It can misbehave, to test senders.

session_host.py [--listen HOST:PORT] [--record FILE] [--heartbeat S] [--block-max N] [--plan ACTION,ACTION...]: prints its
address, then one JSON object for each event. Each line of FILE is one durable record. The plan has an action for each
connection, in the order of their HELLO; after the plan, the host behaves well.

    ok               behaves well
    cut:N            after N messages: resets the connection; the messages were received and are not durable
    lost-ack:N       after N messages: syncs, and resets the connection before the ACK
    fail-sync:N      after N messages: a sync fails, CLOSING 7
    power:N          after N messages: forgets the messages that are not durable, and resets the connection
    silent:N         after N messages: sends nothing more
    superseded:N     after N messages: CLOSING 5
    ack-beyond:N     after N messages: acknowledges a number that was not sent
    short-frame:N    after N messages: sends a frame of 7 bytes
    second-welcome:N after N messages: sends WELCOME again
    close:CODE       answers HELLO with CLOSING
    first-ack        answers HELLO with ACK
    resume-beyond    answers HELLO with a `resume` after the last message
    wrong-check      answers HELLO with another `check`, if it has one
    forget           forgets the session before it reads HELLO
"""

import argparse
import json
import os
import re
import secrets
import socket
import struct
import sys
import threading
import time
import zlib

MAGIC = b"\xff\xc1blkack"
WELCOME, ACK, CONT, CLOSING = 1, 2, 3, 0x0F
SYNCED, NEW = 1, 2
VERSION, BAD_HELLO, SUPERSEDED, UNSUPPORTED, AGAIN, PROTOCOL = 1, 2, 5, 6, 7, 9
DRAIN_S = 1
# Frames that a sender must skip: a message of length 0, a frame of an unknown type, and one that is too long.
NOISE = bytes(4) + bytes.fromhex("00000008 20 00000000000000") + (100).to_bytes(4, "big") + b"\x02" * 100


class Closed(Exception):
    """The connection is over."""


class Refused(Exception):
    """The connection ends with CLOSING."""

    def __init__(self, code, retry_s=0, text="", number=0):
        super().__init__(text)
        self.frame = frame(CLOSING, number, struct.pack(">BBHI", code, 0, retry_s, 0) + text.encode()[:28])


def frame(kind, number, rest=b""):
    payload = bytes([kind]) + number.to_bytes(7, "big") + rest
    return len(payload).to_bytes(4, "big") + payload


class Log:
    """The records: one JSON object a line. Those of the first `durable` bytes are durable."""

    def __init__(self, path):
        self.records = []
        self.path = path
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                self.records = [json.loads(line) for line in file if line.endswith("\n")]
        # Records that are kept are durable only after they were written again.
        with open(path + ".new", "w", encoding="ascii") as new:
            new.writelines(json.dumps(record) + "\n" for record in self.records)
            new.flush()
            os.fsync(new.fileno())
        os.rename(path + ".new", path)
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self.file = open(path, "ab", buffering=0)
        self.durable = os.fstat(self.file.fileno()).st_size

    def write(self, record):
        self.file.write(json.dumps(record).encode() + b"\n")

    def sync(self):
        os.fdatasync(self.file.fileno())
        self.durable = os.fstat(self.file.fileno()).st_size

    def lose(self):
        """Removes the records that are not durable."""
        self.file.truncate(self.durable)


class Session:
    """The numbers of a session. `written` is `taken`: there is no queue to a writer."""

    def __init__(self, device, session, taken):
        self.device, self.session = device, session
        self.taken = self.durable = taken
        self.check = 0
        self.owner = None
        self.accepted = 0  # The largest accept number of its owners.


class Host:
    """All sessions, their log and the plan. `lock` is held while a connection handles a message."""

    def __init__(self, args):
        self.args = args
        self.lock = threading.Lock()
        self.log = Log(args.record)
        self.sessions = {}
        self.plan = [action for action in args.plan.split(",") if action]
        for record in self.log.records:
            key = record["device"], int(record["session"], 16)
            session = self.sessions.setdefault(key, Session(*key, 0))
            session.taken = session.durable = record["end"]

    def report(self, event, **fields):
        print(json.dumps({"event": event, **fields}), flush=True)

    def record(self, session, end, **fields):
        """Records a message or a gap, after which `taken` is `end`."""
        self.log.write({"device": session.device, "session": f"{session.session:016x}", "end": end, **fields})
        session.taken, session.check = end, 0

    def sync(self):
        self.log.sync()
        for session in self.sessions.values():
            session.durable = session.taken

    def fail(self, closing):
        """Loses the records that are not durable. Every owner gets CLOSING 7, or a reset."""
        self.log.lose()
        for session in self.sessions.values():
            session.taken, session.check = session.durable, 0
            owner, session.owner = session.owner, None
            if owner:
                owner.end(closing)


class Connection:
    """One connection. `end` is called by its own thread, and by that of another which takes its session."""

    def __init__(self, host, sock, accepted):
        self.host, self.sock, self.accepted = host, sock, accepted
        self.session = None
        self.number = None  # Of the next message; None outside a series.
        self.messages = 0
        self.bytes = 0  # Since the last ACK.
        self.is_ended = self.is_silent = False
        self.action, self.after = "ok", None

    def run(self):
        try:
            self.sock.settimeout(10)
            self.hello(self.message(4096))
            self.sock.settimeout(self.host.args.heartbeat)
            while True:
                head = self.exactly(4, may_end=True)
                with self.host.lock:
                    if head is None or head == bytes(4):
                        self.number = None
                        self.acknowledge()
                if head is None:
                    break
                if head != bytes(4):
                    self.next(int.from_bytes(head, "big"))
        except Refused as refused:
            with self.host.lock:
                self.end(refused.frame)
        except (Closed, OSError):
            pass
        with self.host.lock:
            if self.session and self.session.owner is self:
                self.session.owner = None
            is_closing = self.is_ended
        if is_closing:
            self.drain()
        self.sock.close()

    def drain(self):
        """Reads and drops the rest, so that CLOSING is not lost to a reset."""
        until = time.monotonic() + DRAIN_S
        try:
            while (left := until - time.monotonic()) > 0:
                self.sock.settimeout(left)
                if not self.sock.recv(65536):
                    break
        except OSError:
            pass

    def exactly(self, count, may_end=False):
        data = b""
        while len(data) < count:
            try:
                more = self.sock.recv(count - len(data))
            except socket.timeout:
                with self.host.lock:
                    if self.session is None:
                        raise Closed from None
                    self.acknowledge()
                continue
            if not more:
                if may_end and not data:
                    return None
                raise Closed
            data += more
        return data

    def message(self, longest):
        length = int.from_bytes(self.exactly(4), "big")
        if longest < length:
            raise Refused(PROTOCOL, text="too long")
        return self.exactly(length)

    def send(self, data):
        if self.is_ended:
            raise Closed
        if not self.is_silent:
            self.sock.sendall(data)

    def end(self, closing):
        """Ends with CLOSING, or with a reset."""
        if self.is_ended:
            return
        self.is_ended = True
        try:
            if closing:
                self.sock.sendall(closing)
                self.sock.shutdown(socket.SHUT_WR)
            else:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def hello(self, payload):
        if not payload.startswith(MAGIC) or len(payload) < 49:
            raise Refused(BAD_HELLO, text="no HELLO")
        version, flags, length, _, room = struct.unpack_from(">BBBBI", payload, 8)
        number, first, held, lost = struct.unpack_from(">QQII", payload, 16)
        if version != 1:
            raise Refused(VERSION, text="version", number=1)
        if flags & 0xF0:
            raise Refused(UNSUPPORTED, text="flag")
        device, extensions = payload[48:48 + length], payload[48 + length:]
        if not re.fullmatch(rb"[A-Za-z0-9._:-]{1,64}", device) or len(device) != length:
            raise Refused(BAD_HELLO, text="device id")
        if 1 << 56 <= first + held or first < lost:
            raise Refused(BAD_HELLO, text="numbers")
        while extensions:
            if len(extensions) < 2 or len(extensions) < 2 + extensions[1]:
                raise Refused(BAD_HELLO, text="extension")
            if 128 <= extensions[0]:
                raise Refused(UNSUPPORTED, text="extension")
            extensions = extensions[2 + extensions[1]:]
        self.has_time, self.room = flags & 2, room
        with self.host.lock:
            self.open(device.decode(), number, first, held, lost)

    def open(self, device, number, first, held, lost):
        host = self.host
        host.report("hello", device=device, session=f"{number:016x}", first=first, held=held, lost=lost)
        action, _, argument = (host.plan.pop(0) if host.plan else "ok").partition(":")
        self.action, self.after = action, int(argument) if argument else None
        if action == "close":
            raise Refused(self.after, text="as planned")
        if action == "forget":
            host.sync()
            host.sessions.pop((device, number), None)
        session = host.sessions.get((device, number))
        flags = SYNCED
        if session and session.accepted > self.accepted:
            raise Refused(SUPERSEDED, 1, "superseded")
        if session and session.taken > first + held:
            session, flags = None, flags | NEW
        elif session is None and number:
            session = Session(device, number, first - lost)
        if session is None:
            session = Session(device, secrets.randbelow((1 << 64) - 1) + 1, first - lost)
        host.sessions[device, session.session] = session
        owner, session.owner, session.accepted = session.owner, self, self.accepted
        self.session = session
        if owner:
            owner.end(Refused(SUPERSEDED, 1, "superseded").frame)
        if session.taken < first - lost:
            host.report("lost", acknowledged=first - lost - session.taken)
        if session.taken < first:
            host.record(session, first, gap=session.taken)
        if action == "first-ack":
            self.send(frame(ACK, session.durable))
            return
        self.expected = session.taken
        self.welcome(first, flags)
        self.send(NOISE)
        self.misbehave()

    def welcome(self, first, flags):
        session, args = self.session, self.host.args
        resume = session.taken + (1_000_000 if self.action == "resume-beyond" else 0)
        check = session.check if first < session.taken else 0
        if check and self.action == "wrong-check":
            check ^= 1
        rest = struct.pack(">QQQIHHI", resume, session.session, time.time_ns(), args.block_max, args.heartbeat, flags, check)
        self.send(frame(WELCOME, min(session.durable, session.taken), rest))

    def next(self, length):
        """Reads a message of the connection: CONT, or payload."""
        if self.number is None:
            if not 24 <= length <= 255:
                raise Refused(PROTOCOL, text="no CONT")
            payload = self.exactly(length)
            with self.host.lock:
                self.cont(payload)
            return
        if self.host.args.block_max < length:
            self.exactly(length)
            payload = None
        else:
            payload = self.exactly(length)
        with self.host.lock:
            if self.is_ended:
                raise Closed
            self.take(payload, length)

    def cont(self, payload):
        number, session = int.from_bytes(payload[1:8], "big"), int.from_bytes(payload[8:16], "big")
        if self.is_ended:
            raise Closed
        if payload[0] != CONT or session != self.session.session:
            raise Refused(PROTOCOL, text="CONT")
        is_ping = number in (self.expected, self.session.taken)
        if self.session.taken < number:
            self.host.record(self.session, number, gap=self.session.taken)
        self.number = self.expected = number
        if is_ping:
            self.send(frame(ACK, self.session.durable, time.time_ns().to_bytes(8, "big")))

    def take(self, payload, length):
        session, number = self.session, self.number
        self.number += 1
        self.expected = self.number
        self.messages += 1
        self.bytes += length + 4
        if number == session.taken and payload is None:
            self.host.record(session, number + 1, refused=length)
        elif number == session.taken:
            self.host.record(session, number + 1, payload=payload.hex())
            session.check = zlib.crc32(payload)
        self.misbehave()
        if self.room and self.room <= 2 * self.bytes:
            self.acknowledge()

    def acknowledge(self):
        if self.is_ended:
            raise Closed
        self.host.sync()
        self.bytes = 0
        rest = time.time_ns().to_bytes(8, "big") if self.has_time else b""
        self.send(frame(ACK, self.session.durable, rest))

    def misbehave(self):
        if self.after is None or self.messages < self.after:
            return
        action, session = self.action, self.session
        self.after = None
        if action in ("cut", "lost-ack"):
            if action == "lost-ack":
                self.host.sync()
            self.end(None)
            raise Closed
        if action in ("fail-sync", "power"):
            again = Refused(AGAIN, text="a sync failed").frame
            self.host.fail(again if action == "fail-sync" else None)
            raise Closed
        if action == "silent":
            self.is_silent = True
        elif action == "superseded":
            raise Refused(SUPERSEDED, 1, "superseded")
        elif action in ("ack-beyond", "short-frame", "second-welcome"):
            if action == "ack-beyond":
                self.send(frame(ACK, session.taken + 1_000_000))
            elif action == "short-frame":
                self.send((7).to_bytes(4, "big") + bytes(7))
            else:
                self.welcome(session.taken, SYNCED)
            # The rest is read and dropped.
            self.is_ended = True
            raise Closed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--record", required=True)
    parser.add_argument("--heartbeat", type=int, default=1)
    parser.add_argument("--block-max", type=int, default=1 << 20)
    parser.add_argument("--plan", default="")
    args = parser.parse_args()
    address, _, port = args.listen.rpartition(":")
    with socket.create_server((address, int(port))) as listener:
        host = Host(args)
        print("%s:%d" % listener.getsockname()[:2], flush=True)
        accepted = 0
        while True:
            sock, _ = listener.accept()
            accepted += 1
            connection = Connection(host, sock, accepted)
            threading.Thread(target=connection.run, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
