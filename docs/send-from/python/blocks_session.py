"""Sends messages over an acknowledged session of `blocks`, as docs/sessions.md describes it. Start with `SessionSender`. Without a
session, `block` and `cobs_crc32` frame one message.

    python3 blocks_session.py HOST:PORT DEVICE < lines

sends each line, and exits with 0 only if the host has acknowledged every line; `--tls-ca` and others send over TLS;
`--frame cobs-crc32` writes frames to standard output. Copy this file into your program: it needs Python 3.9, and nothing outside the
standard library.
"""

import argparse
import collections
import random
import re
import select
import socket
import sys
import threading
import time
import zlib

try:
    import ssl
except ImportError:  # Small builds of Python leave it out.
    ssl = None

MAGIC = b"\xff\xc1blkack"
VERSION = 1
FLAG_TIME = 2  # In HELLO: each ACK has the host's time.
FLAG_NEW = 2  # In WELCOME: HELLO had a session, and this is another.
END = bytes(4)
HEAD_LEN = 4  # Bytes of a message before its payload, on the wire and in the ring.
FRAME_MAX = 44
NUMBER_MAX = (1 << 56) - 1
LOST_MAX = (1 << 32) - 1

WELCOME, ACK, CONT, CLOSING = 1, 2, 3, 0x0F
SUPERSEDED, AGAIN, PROTOCOL, FULL, SHUTDOWN = 5, 7, 9, 4, 8
CODES = {1: "version", 2: "bad_hello", 3: "forbidden", 4: "full", 5: "superseded", 6: "unsupported", 7: "again",
         8: "shutdown", 9: "protocol", 10: "no_session"}
LONG_BACKOFF = {1, 2, 3, 6, 10}

WELCOME_TIMEOUT_S = 10
DRAIN_TIMEOUT_S = 1
SUPERSEDED_WINDOW_S = 60
BATCH_LEN = 16384  # Messages are written together up to this length: that of the longest record of TLS.
READ_LEN = 16384

# No error of a socket: it has nothing to read, or takes nothing to write, now.
NOT_READY = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) if ssl else BlockingIOError
# A person must look at these errors of TLS: words of their reasons in OpenSSL. A certificate of an authority with the same name
# and another key is a DECRYPT_ERROR.
REFUSALS = re.compile("CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR|HANDSHAKE_FAILURE|PROTOCOL_VERSION|WRONG_VERSION")


class BrokenHost(Exception):
    """The host broke the protocol. Nothing was removed from the ring."""


class Closing(Exception):
    """The host sent CLOSING."""

    def __init__(self, code, retry_s, text):
        super().__init__(f"the host closes: {CODES.get(code, code)}, retry in {retry_s} s at the earliest: {text!r}")
        self.code, self.retry_s, self.text = code, retry_s, text


def block(payload):
    """A message of `blocks`: its length and its payload."""
    return len(payload).to_bytes(HEAD_LEN, "big") + payload


def cobs_crc32(payload):
    """A message of `cobs-crc32`, for a serial line: the payload and its CRC-32, escaped, and a zero."""
    data = payload + zlib.crc32(payload).to_bytes(4, "big")
    out = bytearray()
    groups = data.split(b"\0")
    for position, group in enumerate(groups):
        while len(group) >= 254:
            if len(group) == 254 and position == len(groups) - 1:
                break  # The last group needs no code after it.
            out += b"\xff" + group[:254]
            group = group[254:]
        out += bytes([len(group) + 1]) + group
    return bytes(out) + b"\0"


def hello(device, *, flags=0, heartbeat=0, room=0, session=0, first=0, held=0, lost=0, uptime_us=0):
    """The payload of HELLO. `heartbeat` is in units of 10 s."""
    device = device.encode("ascii")
    head = MAGIC + bytes([VERSION, flags, len(device), heartbeat]) + room.to_bytes(4, "big")
    numbers = session.to_bytes(8, "big") + first.to_bytes(8, "big") + held.to_bytes(4, "big") + lost.to_bytes(4, "big")
    return head + numbers + uptime_us.to_bytes(8, "big") + device


def cont(number, session, uptime_us=0):
    """The payload of CONT."""
    return bytes([CONT]) + number.to_bytes(7, "big") + session.to_bytes(8, "big") + uptime_us.to_bytes(8, "big")


class Session:
    """The state machine of a sender, without I/O: one session, its ring, and at most one connection at a time."""

    def __init__(self, device, room=65536, drop_oldest=False, heartbeat_s=30, want_time=False):
        if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", device):
            raise ValueError(f"invalid device id {device!r}: 1 to 64 of A-Z a-z 0-9 . _ : -")
        if not 0 <= heartbeat_s <= 2540:
            raise ValueError(f"invalid heartbeat of {heartbeat_s} s: 0 to 2540 s")
        if not 0 <= room < 1 << 32:
            raise ValueError(f"invalid length of the ring {room}: below 2^32")
        self.device, self.room, self.drop_oldest = device, room, drop_oldest
        self.heartbeat_wish, self.flags = -(-heartbeat_s // 10), FLAG_TIME if want_time else 0
        self.session = 0
        self.ring = collections.deque()  # The payloads that are not acknowledged.
        self.used = 0  # Bytes of them, with HEAD_LEN each.
        self.first = 0  # Number of the oldest in the ring.
        self.lost = 0  # Messages right before it that were dropped without an acknowledgement.
        self.acked = 0
        self.block_max = None  # Of the last WELCOME.
        self.dropped = 0  # All messages that were dropped.
        self.refused_by_host = 0  # Acknowledged, but longer than the host takes: not recorded.
        self.on_time = lambda time_ns: None
        self.is_connected = self.is_welcome = self.in_series = self.wants_cont = self.wants_end = False
        self.next, self.heartbeat_s = 0, 0
        self.out, self.out_number = memoryview(b""), None

    @property
    def end(self):
        """The number of the next message that is pushed."""
        return self.first + len(self.ring)

    def push(self, payload):
        """Keeps a message. Returns False if the ring is full. Raises ValueError for a message that can never be sent."""
        needed = HEAD_LEN + len(payload)
        if not payload:
            raise ValueError("a message has 1 or more bytes")
        if self.room < needed:
            raise ValueError(f"a message of {len(payload)} bytes is longer than the ring of {self.room} bytes")
        if self.block_max is not None and self.block_max < len(payload):
            raise ValueError(f"a message of {len(payload)} bytes is longer than the host takes: {self.block_max} bytes")
        while self.room < self.used + needed:
            if not self.drop_oldest or not self._drop():
                self.wants_end = True  # Else the host need not acknowledge before its next heartbeat.
                return False
        self.ring.append(bytes(payload))
        self.used += needed
        return True

    def _drop(self):
        """Gives up the oldest message, unless some bytes of it were written and some were not."""
        if self.is_connected and self.out and self.out_number == self.first:
            if self.is_partial:
                return False
            self.out, self.next = memoryview(b""), self.first  # Nothing of it was written.
        self.used -= HEAD_LEN + len(self.ring.popleft())
        self.first += 1
        self.lost = min(self.lost + 1, LOST_MAX)
        self.dropped += 1
        if self.is_connected and self.next < self.first:
            self.next, self.wants_cont = self.first, True
        return True

    # The connection.

    def connected(self, uptime_us):
        """Begins a connection: the next bytes are HELLO."""
        self.is_connected, self.is_welcome, self.in_series = True, False, False
        self.wants_cont, self.wants_end = False, False
        self.next = self.first  # Number of the next message to send.
        self.sent = self.first  # All smaller numbers were sent wholly, or resume skips them.
        self.hello_end = self.end
        self.heartbeat_s = 0
        self.inbox, self.skip = bytearray(), 0
        payload = hello(self.device, flags=self.flags, heartbeat=self.heartbeat_wish, room=min(self.room, LOST_MAX),
                        session=self.session, first=self.first, held=len(self.ring), lost=self.lost, uptime_us=uptime_us)
        self._put(block(payload), None)

    def closed(self):
        """Ends the connection: the messages stay in the ring."""
        self.is_connected = False

    def finish(self):
        """Asks the host to acknowledge everything: sends END after the last message."""
        self.wants_end = True

    def ping(self):
        """Asks the host for an ACK with its time."""
        self.wants_cont = self.is_connected and self.is_welcome

    def take(self, uptime_us):
        """The bytes to write now; nothing if there are none. Call `sent_bytes` before any other function."""
        if not self.out and self.is_welcome:
            if self.wants_cont and self.in_series:
                self._put(END, None)
                self.in_series = False
            elif self.wants_cont or (not self.in_series and self.next < self.end):
                self._put(block(cont(self.next, self.session, uptime_us)), self.next)
                self.wants_cont, self.in_series = False, True
            elif self.next < self.end:
                payload = self.ring[self.next - self.first]
                self._put(block(payload), self.next + 1)
                self.out_number = self.next
                self.next += 1
            elif self.wants_end and self.in_series:
                self._put(END, None)
                self.in_series, self.wants_end = False, False
        return self.out

    def _put(self, data, after):
        self.out, self.after, self.out_number, self.is_partial = memoryview(data), after, None, False

    def sent_bytes(self, count):
        """Reports that `count` of the bytes of `take` were written."""
        self.out = self.out[count:]
        self.is_partial = self.is_partial or count > 0
        if not self.out and self.after is not None:
            self.sent = max(self.sent, self.after)

    def received(self, data):
        """Bytes from the host. Raises BrokenHost or Closing: then close the connection."""
        self.inbox += data
        while True:
            skipped = min(self.skip, len(self.inbox))
            del self.inbox[:skipped]
            self.skip -= skipped
            if self.skip or len(self.inbox) < HEAD_LEN:
                return
            length = int.from_bytes(self.inbox[:HEAD_LEN], "big")
            if length > FRAME_MAX:
                self.skip = HEAD_LEN + length
                continue
            if len(self.inbox) < HEAD_LEN + length:
                return
            frame = bytes(self.inbox[HEAD_LEN:HEAD_LEN + length])
            del self.inbox[:HEAD_LEN + length]
            if frame:
                self._frame(frame)

    def _frame(self, frame):
        if len(frame) < 8:
            raise BrokenHost(f"a frame of {len(frame)} bytes")
        kind, number = frame[0], int.from_bytes(frame[1:8], "big")
        if kind == CLOSING:
            code = frame[8] if len(frame) > 8 else PROTOCOL
            text = frame[16:].decode("utf-8", "replace")
            raise Closing(code, int.from_bytes(frame[10:12], "big"), text)
        if not self.is_welcome and kind != WELCOME:
            raise BrokenHost(f"the first frame has type {kind}")
        if kind == WELCOME:
            self._welcome(frame, number)
        elif kind == ACK:
            self._acknowledged(number)
            if len(frame) >= 16:
                self.on_time(int.from_bytes(frame[8:16], "big"))
        elif kind >= 128:
            raise BrokenHost(f"a frame of type {kind}, which must be understood")

    def _welcome(self, frame, acked):
        if self.is_welcome:
            raise BrokenHost("a second WELCOME")
        if len(frame) < FRAME_MAX:
            raise BrokenHost(f"a WELCOME of {len(frame)} bytes")
        resume, session = int.from_bytes(frame[8:16], "big"), int.from_bytes(frame[16:24], "big")
        if session == 0 or resume < acked or self.hello_end < resume:
            raise BrokenHost(f"WELCOME: session {session:x}, acked {acked}, resume {resume}, sent up to {self.hello_end}")
        check = int.from_bytes(frame[40:44], "big")
        if check and self.first < resume and zlib.crc32(self.ring[resume - 1 - self.first]) != check:
            self.session = 0
            raise BrokenHost(f"message {resume - 1} of session {session:x} is not that of this ring: a new session follows")
        self.session, self.is_welcome = session, True
        self.block_max = int.from_bytes(frame[32:36], "big")
        self.heartbeat_s = int.from_bytes(frame[36:38], "big")
        self.sent = max(resume, self.first)
        self._acknowledged(acked)
        self.next = max(resume, self.first)
        self.wants_cont = True
        self.on_time(int.from_bytes(frame[24:32], "big"))

    def _acknowledged(self, acked):
        if self.sent < acked:
            raise BrokenHost(f"{acked} is acknowledged, but only messages below {self.sent} were sent")
        while self.ring and self.first < acked:
            payload = self.ring.popleft()
            self.used -= HEAD_LEN + len(payload)
            self.first += 1
            self.refused_by_host += self.block_max < len(payload)
        self.acked = max(self.acked, acked)
        self.lost = min(self.lost, max(self.first - acked, 0))


class SessionSender:
    """Sends messages from a thread of its own, and connects again after each interruption.

    >>> sender = SessionSender(("192.0.2.10", 1060), "boiler-01234")
    >>> sender.push(b"temp=21.5")
    True
    >>> sender.close(timeout_s=30)  # True: every message is durable at the host.
    True

    With `tls`, an `ssl.SSLContext`, it connects over TLS. `server_hostname` is the name in the host's certificate, if that is
    not the host of `address`.
    """

    def __init__(self, address, device, *, room=65536, drop_oldest=False, heartbeat_s=30, want_time=False,
                 backoff_min_s=0.5, backoff_max_s=60.0, backoff_long_s=600.0, report=lambda text: None,
                 tls=None, server_hostname=None):
        self.address, self.report = address, report
        self.tls, self.server_hostname = tls, server_hostname or address[0]
        if tls is not None:  # Raises now for a name that cannot be one, and not in the thread.
            tls.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=self.server_hostname)
        self.backoff_min_s, self.backoff_max_s, self.backoff_long_s = backoff_min_s, backoff_max_s, backoff_long_s
        self.session = Session(device, room, drop_oldest, heartbeat_s, want_time)
        self.session.on_time = self._on_time
        self.protocol_errors = 0
        self._offset_ns = None
        self._attempts = 0  # Without progress.
        self._superseded = collections.deque()
        self._changed = threading.Condition()
        self._is_closing, self._is_stopped = False, False
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="blocks session", daemon=True)
        self._thread.start()

    def push(self, payload, timeout_s=0):
        """Keeps a message until the host has it. Returns False if the ring was full for `timeout_s`; None waits."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            if self._is_closing:
                raise ValueError("the sender was closed")
            while not self.session.push(payload):
                self._wake()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
            self._wake()
            return True

    def ping(self):
        """Asks the host for its time."""
        with self._changed:
            self.session.ping()
            self._wake()

    def host_time_ns(self):
        """The host's time, in ns since 1970; None if it is unknown."""
        return None if self._offset_ns is None else time.monotonic_ns() + self._offset_ns

    def close(self, timeout_s=None):
        """Waits until every message is acknowledged, and closes. Returns whether every message was acknowledged.

        An attempt to connect can take up to 10 s more than `timeout_s`, and another 10 s for the handshake of TLS.
        """
        with self._changed:
            self._is_closing = True
            self._wake()
            self._changed.wait_for(lambda: not self.session.ring, timeout_s)
            self._is_stopped = True
            self._changed.notify_all()
            self._wake()
        self._thread.join()
        self._wake_read.close()
        self._wake_write.close()
        return not self.session.ring and self.session.refused_by_host == 0

    def _wake(self):
        try:
            self._wake_write.send(b"\0")
        except BlockingIOError:
            pass  # It is awake.

    def _on_time(self, time_ns):
        # The host's time at the arrival is at least that of the frame, so the largest difference is the best.
        offset_ns = time_ns - time.monotonic_ns()
        self._offset_ns = offset_ns if self._offset_ns is None else max(offset_ns, self._offset_ns)

    def _run(self):
        delay_s = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopped, delay_s)
                if self._is_stopped:
                    return
            delay_s = self._connection()

    def _connection(self):
        """Runs one connection to its end. Returns how long to wait before the next."""
        try:
            with self._connect() as sock:
                sock.setblocking(False)
                try:
                    return self._talk(sock)
                finally:
                    with self._changed:
                        self.session.closed()
        except Closing as closing:
            self.report(str(closing))
            return self._delay_after(closing)
        except (BrokenHost, OSError) as error:
            self.protocol_errors += isinstance(error, BrokenHost)
            if is_refusal(error):
                whose = "the host's certificate" if isinstance(error, ssl.SSLCertVerificationError) else "the connection"
                self.report(f"TLS refuses {whose}: {error}")
                return self.backoff_long_s * random.uniform(0.5, 1)
            self.report(str(error) or type(error).__name__)
            return self._backoff()

    def _connect(self):
        sock = socket.create_connection(self.address, timeout=WELCOME_TIMEOUT_S)
        if self.tls is None:
            return sock
        with sock:  # Leaves the new socket open, which owns the descriptor then.
            return self.tls.wrap_socket(sock, server_hostname=self.server_hostname)

    def _talk(self, sock):
        with self._changed:
            self.session.connected(uptime_us())
        read_at, out = time.monotonic(), bytearray()
        while True:
            with self._changed:
                if not self._is_stopped:
                    self._fill(out)
            if self._is_stopped:
                self._end(sock)
                return 0
            silence_max_s = 3 * self.session.heartbeat_s if self.session.is_welcome else WELCOME_TIMEOUT_S
            left_s = read_at + silence_max_s - time.monotonic() if silence_max_s else None
            if left_s is not None and left_s <= 0:
                raise TimeoutError(f"nothing read for {silence_max_s} s")
            # What TLS has decrypted is no longer in the socket, where `select` could see it.
            has_input = self.tls is not None and sock.pending() > 0
            readable, writable, _ = select.select([sock, self._wake_read], [sock] if out else [], [],
                                                  0 if has_input else left_s)
            if self._wake_read in readable:
                self._wake_read.recv(4096)
            if sock in readable or has_input:
                try:
                    data = sock.recv(READ_LEN)
                    if not data:
                        raise ConnectionError("the host closed the connection")
                    read_at = time.monotonic()
                    self._received(data)
                except NOT_READY:
                    pass  # A part of a record of TLS, or one without data.
                except (BrokenHost, Closing):
                    self._end(sock)
                    raise
            if writable:
                try:
                    del out[:sock.send(out)]
                except NOT_READY:
                    pass
                except OSError:
                    self._drain(sock)
                    raise

    def _fill(self, out):
        """Appends messages to the bytes to write, so that one call, and one record of TLS, has many of them."""
        while len(out) < BATCH_LEN:
            if self._is_closing and self.session.next == self.session.end and self.session.in_series:
                self.session.finish()
            taken = self.session.take(uptime_us())
            if not taken:
                return
            out += taken
            self.session.sent_bytes(len(taken))

    def _end(self, sock):
        """Sends `close_notify`, so that the host does not report a cut, and waits for that of the host."""
        if self.tls is not None:
            sock.settimeout(DRAIN_TIMEOUT_S)
            try:
                sock.unwrap()
            except OSError:
                pass  # The host does not answer, or sends data.

    def _received(self, data):
        with self._changed:
            before = self.session.acked, self.session.session
            try:
                self.session.received(data)
            finally:
                if before != (self.session.acked, self.session.session):
                    self._attempts = 0
                self._changed.notify_all()

    def _drain(self, sock):
        """Reads the rest after a failed write: acknowledgements, and perhaps CLOSING."""
        sock.settimeout(DRAIN_TIMEOUT_S)
        try:
            while True:
                data = sock.recv(4096)
                if not data:
                    return
                self._received(data)
        except OSError as error:
            if is_refusal(error):
                raise

    def _delay_after(self, closing):
        if closing.code in LONG_BACKOFF:
            delay_s = self.backoff_long_s * random.uniform(0.5, 1)
        elif closing.code == FULL:
            delay_s = 0
        elif closing.code == SUPERSEDED:
            now = time.monotonic()
            self._superseded.append(now)
            while self._superseded[0] < now - SUPERSEDED_WINDOW_S:
                self._superseded.popleft()
            delay_s = min(self.backoff_max_s, 60 if len(self._superseded) >= 3 else 1)
        elif closing.code == AGAIN:
            delay_s = 0 if self._attempts == 0 else self._backoff()
            self._attempts += 1
        else:
            self.protocol_errors += closing.code != SHUTDOWN
            delay_s = self._backoff()
        return max(delay_s, closing.retry_s)

    def _backoff(self):
        """Twice as long after each attempt without progress; a random part keeps senders apart."""
        longest_s = min(self.backoff_max_s, self.backoff_min_s * 2 ** min(self._attempts, 16))
        self._attempts += 1
        return longest_s * random.uniform(0.5, 1)


def is_refusal(error):
    """Whether a certificate or a version was refused, by the host or by this sender. A later attempt hardly helps."""
    return ssl is not None and isinstance(error, ssl.SSLError) and bool(REFUSALS.search(error.reason or ""))


def tls_context(ca, cert=None, key=None):
    """A context that accepts hosts of the authority in the file `ca`, and shows the certificate `cert`."""
    context = ssl.create_default_context(cafile=ca)  # It checks the name of the host, too.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        context.load_cert_chain(cert, key, password="")  # An encrypted key is an error, and not a question.
    return context


def uptime_us():
    """The clock of the sender; never 0, which is `unknown`."""
    return max(1, time.monotonic_ns() // 1000)


def lines():
    """The messages of standard input."""
    for line in sys.stdin.buffer:
        payload = line.rstrip(b"\r\n")
        if payload:
            yield payload


def write_frames(framing):
    """Writes each line of standard input as a frame, without a session."""
    for payload in lines():
        sys.stdout.buffer.write(block(payload) if framing == "blocks" else cobs_crc32(payload))
        sys.stdout.buffer.flush()
    if framing == "blocks":
        sys.stdout.buffer.write(END)
        sys.stdout.buffer.flush()


def main():
    parser = argparse.ArgumentParser(description="Sends each line of standard input over an acknowledged session.")
    parser.add_argument("address", nargs="?", metavar="HOST:PORT")
    parser.add_argument("device", nargs="?", metavar="DEVICE", help="device id: 1 to 64 of A-Z a-z 0-9 . _ : -")
    parser.add_argument("--frame", choices=["blocks", "cobs-crc32"],
                        help="write frames to standard output, without a session, HOST:PORT and DEVICE")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up S seconds after the end of the input")
    parser.add_argument("--room", type=int, default=65536, metavar="BYTES", help="length of the ring")
    parser.add_argument("--drop-oldest", action="store_true", help="drop the oldest messages if the ring is full")
    parser.add_argument("--backoff-max", type=float, default=60.0, metavar="S", help="longest wait between two attempts")
    parser.add_argument("--tls-ca", metavar="FILE", help="connect over TLS to a host with a certificate of this authority (PEM)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate of this device (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key (PEM)")
    parser.add_argument("--tls-name", metavar="NAME", help="name in the host's certificate, if not HOST")
    parser.error = lambda text: parser.exit(2, f"blocks_session: {text}\n")
    args = parser.parse_args()
    if args.frame:
        if args.address:
            parser.error("--frame needs no HOST:PORT and DEVICE")
        write_frames(args.frame)
        return 0
    if args.device is None:
        parser.error("HOST:PORT and DEVICE are required; see --help")
    host, _, port = args.address.rpartition(":")
    try:
        if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"not HOST:PORT: {args.address}")
        if not 0 <= args.backoff_max < 1e6:
            raise ValueError(f"not a number of seconds: {args.backoff_max}")
        if (args.tls_cert or args.tls_name) and not args.tls_ca or bool(args.tls_cert) != bool(args.tls_key):
            raise ValueError("--tls-cert needs --tls-key and --tls-ca; --tls-key needs --tls-cert; --tls-name needs --tls-ca")
        tls = tls_context(args.tls_ca, args.tls_cert, args.tls_key) if args.tls_ca else None
        sender = SessionSender(
            (host.strip("[]"), int(port)), args.device, room=args.room, drop_oldest=args.drop_oldest,
            backoff_max_s=args.backoff_max, backoff_long_s=10 * args.backoff_max, tls=tls, server_hostname=args.tls_name,
            report=lambda text: print(f"blocks_session: {text}", file=sys.stderr))
    except (ValueError, OSError) as error:
        files = f" ({args.tls_ca}, {args.tls_cert}, {args.tls_key})" if isinstance(error, OSError) else ""
        print(f"blocks_session: {error}{files}", file=sys.stderr)
        return 2
    refused = 0
    for payload in lines():
        try:
            sender.push(payload, timeout_s=None)
        except ValueError as error:
            refused += 1
            print(f"blocks_session: {error}", file=sys.stderr)
    is_complete = sender.close(args.timeout)
    session = sender.session
    if is_complete and refused == session.dropped == 0:
        return 0
    print(f"blocks_session: {len(session.ring)} messages not acknowledged, {session.dropped} dropped, "
          f"{refused + session.refused_by_host} too long", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
