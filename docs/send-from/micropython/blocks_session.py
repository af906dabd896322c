"""Sends messages over an acknowledged session of `blocks` from a board with MicroPython, as docs/sessions.md describes it.

Start with `SessionSender`. Without a session, `block` and `cobs_crc32` frame one message, for a connection or a UART. Copy this
file to the board: it needs MicroPython 1.24 with `binascii` and, for `SessionSender`, `socket` and `select`.
"""

import os
import struct
import time
from binascii import crc32
from errno import EAGAIN, EINPROGRESS

MAGIC = b"\xff\xc1blkack"
END = b"\0\0\0\0"
HEAD_LEN = 4  # Bytes of a message before its payload, on the wire and in the ring.
FRAME_MAX = 44
NUMBER_MAX = (1 << 56) - 1
LOST_MAX = (1 << 32) - 1
FLAG_TIME = 2
WELCOME, ACK, CONT, CLOSING = 1, 2, 3, 0x0F
FULL, SUPERSEDED, AGAIN, SHUTDOWN, PROTOCOL = 4, 5, 7, 8, 9
LONG_BACKOFF = (1, 2, 3, 6, 10)
DEVICE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"

WELCOME_TIMEOUT_MS = 10000
SUPERSEDED_WINDOW_MS = 60000
READS_MAX = 8  # Reads of one call of `poll`.
# A person must look at these errors of TLS: words of the reasons in mbedTLS and OpenSSL.
REFUSALS = ("CERT", "ALERT", "UNKNOWN_CA", "DECRYPT_ERROR", "HANDSHAKE_FAILURE", "BAD_HS", "PROTOCOL_VERSION")


class BrokenHost(Exception):
    """The host broke the protocol. Nothing was removed from the ring."""


class Closing(Exception):
    """The host sent CLOSING."""

    def __init__(self, code, retry_s, text):
        super().__init__("the host closes with code %d, retry in %d s at the earliest: %s" % (code, retry_s, text))
        self.code, self.retry_s, self.text = code, retry_s, text


def block(payload):
    """A message of `blocks`: its length and its payload."""
    return struct.pack(">I", len(payload)) + payload


def cobs_crc32(payload):
    """A message of `cobs-crc32`, for a serial line: the payload and its CRC-32, escaped, and a zero."""
    data = payload + struct.pack(">I", crc32(payload))
    out = bytearray(len(data) + (len(data) - 1) // 254 + 2)
    code_at, at = 0, 1  # Of the group that is open: its code, its next byte.
    for byte in data:
        if at - code_at == 255:  # A group of 254 bytes that no zero follows.
            out[code_at] = 255
            code_at = at
            at += 1
        if byte:
            out[at] = byte
        else:
            out[code_at] = at - code_at
            code_at = at
        at += 1
    out[code_at] = at - code_at
    return bytes(out[:at + 1])


class Session:
    """The state machine of a sender, without I/O: one session, its ring of `room` bytes, and at most one connection at a time."""

    def __init__(self, device, room=4096, drop_oldest=False, heartbeat_s=30, want_time=False):
        if not 1 <= len(device) <= 64 or not all(char in DEVICE_CHARS for char in device):
            raise ValueError("invalid device id %r: 1 to 64 of A-Z a-z 0-9 . _ : -" % device)
        if not 0 <= heartbeat_s <= 2540:
            raise ValueError("invalid heartbeat of %d s: 0 to 2540 s" % heartbeat_s)
        if not HEAD_LEN < room <= LOST_MAX:
            raise ValueError("invalid length of the ring: %d" % room)
        self.device, self.room, self.drop_oldest = device, room, drop_oldest
        self.heartbeat_wish, self.flags = (heartbeat_s + 9) // 10, FLAG_TIME if want_time else 0
        self.session = 0
        self.ring = memoryview(bytearray(room))  # The messages that are not acknowledged, each with its length.
        self.used = self.held = 0  # Bytes and messages in the ring.
        self.first = self.first_at = 0  # Number of the oldest message, and its place in the ring.
        self.lost = 0  # Messages right before it that were dropped without an acknowledgement.
        self.acked = 0
        self.block_max = None  # Of the last WELCOME.
        self.dropped = 0  # All messages that were dropped.
        self.refused_by_host = 0  # Acknowledged, but longer than the host takes: not recorded.
        self.on_time = None  # Is called with the host's time, in ns.
        self.is_connected = self.is_welcome = self.in_series = False
        self.wants_hello = self.wants_cont = self.wants_end = self.is_finishing = False
        self.next = self.next_at = self.part = self.sent = self.hello_end = self.heartbeat_s = 0
        self.control = b""
        self.inbox, self.inbox_len, self.skip = bytearray(HEAD_LEN + FRAME_MAX), 0, 0

    def end(self):
        """The number of the next message that is pushed."""
        return self.first + self.held

    def push(self, payload):
        """Keeps a message. Returns False if the ring is full. Raises ValueError for a message that can never be sent."""
        needed = HEAD_LEN + len(payload)
        if not payload:
            raise ValueError("a message has 1 or more bytes")
        if self.room < needed:
            raise ValueError("a message of %d bytes is longer than the ring of %d bytes" % (len(payload), self.room))
        if self.block_max is not None and self.block_max < len(payload):
            raise ValueError("a message of %d bytes is longer than the host takes: %d" % (len(payload), self.block_max))
        while self.room < self.used + needed:
            if not self.drop_oldest or not self._drop():
                self.wants_end = True  # Else the host need not acknowledge before its next heartbeat.
                return False
        at = self._after(self.first_at, self.used)
        self._put(at, struct.pack(">I", len(payload)))
        self._put(self._after(at, HEAD_LEN), payload)
        self.used += needed
        self.held += 1
        return True

    def _after(self, at, count):
        return (at + count) % self.room

    def _put(self, at, data):
        head = min(len(data), self.room - at)
        self.ring[at:at + head] = data[:head]
        self.ring[:len(data) - head] = data[head:]

    def _len(self, at):
        """The length of the message at a place, with HEAD_LEN."""
        length = 0
        for offset in range(HEAD_LEN):
            length = length << 8 | self.ring[self._after(at, offset)]
        return HEAD_LEN + length

    def _remove(self):
        length = self._len(self.first_at)
        self.first_at = self._after(self.first_at, length)
        self.used -= length
        self.held -= 1
        self.first += 1
        return length - HEAD_LEN

    def _drop(self):
        """Gives up the oldest message, unless some bytes of it were sent and some were not."""
        if self.is_connected and self.part and self.next == self.first:
            return False
        self._remove()
        self.lost = min(self.lost + 1, LOST_MAX)
        self.dropped += 1
        if self.is_connected and self.next < self.first:
            self.next, self.next_at, self.wants_cont = self.first, self.first_at, True
        return True

    # The connection.

    def connected(self):
        """Begins a connection: the next bytes are HELLO."""
        self.is_connected, self.is_welcome, self.in_series = True, False, False
        self.wants_hello, self.wants_cont, self.wants_end = True, False, False
        self.next, self.next_at = self.first, self.first_at  # The next message to send.
        self.part, self.control = 0, b""  # Bytes of it that were sent; bytes of HELLO, CONT or END that are to be sent.
        self.sent = self.first  # All smaller numbers were sent wholly, or resume skips them.
        self.heartbeat_s = self.inbox_len = self.skip = 0

    def closed(self):
        """Ends the connection: the messages stay in the ring."""
        self.is_connected = False

    def ping(self):
        """Asks the host for an ACK with its time."""
        self.wants_cont = self.is_connected and self.is_welcome

    def fill(self, out, uptime_us):
        """Copies the next bytes for the host to `out`. Returns their count; write all of them."""
        at = 0
        while at < len(out):
            if not self.part and not self.control:
                self.control = self._control(uptime_us)
            if self.control:
                count = min(len(self.control), len(out) - at)
                out[at:at + count] = self.control[:count]
                self.control = self.control[count:]
                at += count
                continue
            if not self.is_welcome or self.next == self.end():
                break
            length = self._len(self.next_at)
            from_at = self._after(self.next_at, self.part)
            count = min(length - self.part, len(out) - at, self.room - from_at)
            out[at:at + count] = self.ring[from_at:from_at + count]
            at += count
            self.part += count
            if self.part == length:
                self.next_at, self.part = self._after(self.next_at, length), 0
                self.next += 1
                self.sent = max(self.sent, self.next)
        return at

    def _control(self, uptime_us):
        """The HELLO, CONT or END that is due between two messages."""
        if self.wants_hello:
            self.wants_hello, self.hello_end = False, self.end()
            head = struct.pack(">8sBBBBIQQIIQ", MAGIC, 1, self.flags, len(self.device), self.heartbeat_wish, self.room, self.session,
                               self.first, self.held, self.lost, uptime_us)
            return block(head + self.device.encode())
        if not self.is_welcome:
            return b""
        if self.wants_cont and self.in_series:
            self.in_series = False
            return END
        if self.wants_cont or not self.in_series and self.next < self.end():
            self.wants_cont, self.in_series = False, True
            self.sent = max(self.sent, self.next)
            return block(struct.pack(">QQQ", CONT << 56 | self.next, self.session, uptime_us))
        if self.in_series and self.next == self.end() and (self.wants_end or self.is_finishing):
            self.in_series = self.wants_end = False
            return END
        return b""

    def received(self, data):
        """Bytes from the host. Raises BrokenHost or Closing: then close the connection."""
        at = 0
        while at < len(data):
            if self.skip:
                count = min(self.skip, len(data) - at)
                self.skip -= count
                at += count
                continue
            length = struct.unpack_from(">I", self.inbox, 0)[0] if self.inbox_len >= HEAD_LEN else 0
            count = min(HEAD_LEN + length - self.inbox_len, len(data) - at)
            self.inbox[self.inbox_len:self.inbox_len + count] = data[at:at + count]
            at += count
            self.inbox_len += count
            if self.inbox_len == HEAD_LEN:
                length = struct.unpack_from(">I", self.inbox, 0)[0]
                if not length or length > FRAME_MAX:
                    self.skip, self.inbox_len = length, 0
            elif self.inbox_len > HEAD_LEN and self.inbox_len == HEAD_LEN + length:
                self.inbox_len = 0
                self._frame(bytes(self.inbox[HEAD_LEN:HEAD_LEN + length]))

    def _frame(self, frame):
        if len(frame) < 8:
            raise BrokenHost("a frame of %d bytes" % len(frame))
        kind, number = frame[0], struct.unpack(">Q", frame[:8])[0] & NUMBER_MAX
        if kind == CLOSING:
            if len(frame) < 16:
                raise BrokenHost("a CLOSING of %d bytes" % len(frame))
            raise Closing(frame[8], struct.unpack_from(">H", frame, 10)[0], repr(frame[16:])[2:-1])
        if not self.is_welcome and kind != WELCOME:
            raise BrokenHost("the first frame has type %d" % kind)
        if kind == WELCOME:
            self._welcome(frame, number)
        elif kind == ACK:
            self._acknowledged(number)
            if len(frame) >= 16:
                self._time(frame, 8)
        elif kind >= 128:
            raise BrokenHost("a frame of type %d, which must be understood" % kind)

    def _time(self, frame, at):
        if self.on_time:
            self.on_time(struct.unpack_from(">Q", frame, at)[0])

    def _welcome(self, frame, acked):
        if self.is_welcome:
            raise BrokenHost("a second WELCOME")
        if len(frame) < FRAME_MAX:
            raise BrokenHost("a WELCOME of %d bytes" % len(frame))
        resume, session, _, block_max, heartbeat_s, _, check = struct.unpack(">QQQIHHI", frame[8:FRAME_MAX])
        if session == 0 or resume < acked or self.hello_end < resume:
            raise BrokenHost("WELCOME: session %x, acked %d, resume %d, sent up to %d" % (session, acked, resume, self.hello_end))
        last_at = at = self.first_at
        for _ in range(self.first, resume):
            last_at, at = at, self._after(at, self._len(at))
        if check and self.first < resume and self._crc(last_at) != check:
            self.session = 0
            raise BrokenHost("message %d of session %x is not that of this ring: a new session follows" % (resume - 1, session))
        self.session, self.is_welcome, self.wants_cont = session, True, True
        self.block_max, self.heartbeat_s = block_max, heartbeat_s
        self.next, self.next_at = max(resume, self.first), at
        self.sent = self.next
        self._acknowledged(acked)
        self._time(frame, 24)

    def _crc(self, at):
        """The CRC-32 of the payload of the message at a place."""
        payload_len, at = self._len(at) - HEAD_LEN, self._after(at, HEAD_LEN)
        head = min(payload_len, self.room - at)
        return crc32(self.ring[:payload_len - head], crc32(self.ring[at:at + head]))

    def _acknowledged(self, acked):
        if self.sent < acked:
            raise BrokenHost("%d is acknowledged, but only messages below %d were sent" % (acked, self.sent))
        while self.held and self.first < acked:
            self.refused_by_host += self.block_max < self._remove()
        self.acked = max(self.acked, acked)
        self.lost = min(self.lost, max(self.first - acked, 0))


class SessionSender:
    """Sends messages, and connects again after each interruption. Call `poll` often, or wait in `run` and `flush`.

    With `tls`, an `ssl.SSLContext`, it connects over TLS. `report` is called with a text after each interruption.
    """

    def __init__(self, host, port, device, room=4096, drop_oldest=False, heartbeat_s=30, want_time=False, backoff_min_ms=500,
                 backoff_max_ms=60000, backoff_long_ms=600000, report=None, tls=None, server_hostname=None):
        self.host, self.port, self.report = host, port, report
        self.tls, self.server_hostname = tls, server_hostname or host
        self.backoff_min_ms, self.backoff_max_ms, self.backoff_long_ms = backoff_min_ms, backoff_max_ms, backoff_long_ms
        self.session = Session(device, room, drop_oldest, heartbeat_s, want_time)
        self.session.on_time = self._on_time
        self.protocol_errors = 0
        self._ticks, self._now_ms = time.ticks_ms(), 1
        self._time_offset_ms = None
        self._attempts, self._superseded = 0, []  # Without progress.
        self._sock, self._is_connecting, self._retry_at_ms, self._deadline_ms = None, False, 0, None
        self._in, self._out = memoryview(bytearray(256)), memoryview(bytearray(1024))
        self._out_at = self._out_len = 0

    def push(self, payload):
        """Keeps a message until the host has it. Returns False if the ring is full: call `run`, and try again."""
        return self.session.push(payload.encode() if isinstance(payload, str) else payload)

    def host_time_ms(self):
        """The host's time, in ms since 1970; None if it is unknown."""
        return None if self._time_offset_ms is None else self._tick() + self._time_offset_ms

    def poll(self):
        """Connects, reads and writes as far as that is possible now. Only the look-up of a host name waits."""
        self._tick()
        try:
            if self._sock is None and self._retry_at_ms <= self._now_ms:
                self._connect()
            if self._sock is not None:
                self._talk()
        except Closing as closing:
            self._over(closing, max(self._delay_after(closing.code), 1000 * closing.retry_s))
        except BrokenHost as error:
            self.protocol_errors += 1
            self._over(error, self._backoff())
        except (OSError, ValueError) as error:
            # MicroPython reports a wrong certificate as a ValueError.
            if isinstance(error, ValueError) and self.tls is None:
                raise
            if self.tls is not None and is_refusal(error):
                self._over("TLS refuses the connection: %s" % error, self._random(self.backoff_long_ms))
            else:
                self._over(error, self._backoff())

    def run(self, duration_ms):
        """Sends for a time. Call it in place of `time.sleep_ms`."""
        self._run(duration_ms, False)

    def flush(self, timeout_ms):
        """Waits until every message is acknowledged. Returns whether each is durable at the host."""
        self.session.is_finishing = True
        self._run(timeout_ms, True)
        self.session.is_finishing = False
        return self.session.held == 0 and self.session.refused_by_host == 0

    def close(self, timeout_ms):
        """As `flush`, and closes the connection."""
        is_durable = self.flush(timeout_ms)
        self._close()
        return is_durable

    def _run(self, duration_ms, until_empty):
        end_ms = self._tick() + duration_ms
        while True:
            self.poll()
            left_ms = end_ms - self._tick()
            if left_ms <= 0 or until_empty and self.session.held == 0:
                return
            self._wait(left_ms)

    def _wait(self, most_ms):
        """Waits for the socket, or for the time of the next event."""
        at_ms = self._retry_at_ms if self._sock is None else self._deadline_ms
        if at_ms is not None:
            most_ms = max(0, min(most_ms, at_ms - self._now_ms))
        if self._sock is None:
            time.sleep_ms(most_ms)
        else:
            self._poll_socket(self._is_connecting or self._out_at < self._out_len, most_ms)

    def _poll_socket(self, wants_write, timeout_ms):
        """Waits until the socket can be read, or written. Returns whether it can."""
        import select

        poller = select.poll()
        reads = 0 if self._is_connecting else select.POLLIN
        poller.register(self._sock, reads | (select.POLLOUT if wants_write else 0))
        return bool(poller.poll(timeout_ms))

    def _tick(self):
        """The clock of the sender, in ms: `ticks_ms`, which begins again after some days, without the jump."""
        ticks = time.ticks_ms()
        self._now_ms += time.ticks_diff(ticks, self._ticks)
        self._ticks = ticks
        return self._now_ms

    def _on_time(self, time_ns):
        # The host's time at the arrival is at least that of the frame, so the largest difference is the best.
        offset_ms = time_ns // 1000000 - self._now_ms
        self._time_offset_ms = offset_ms if self._time_offset_ms is None else max(offset_ms, self._time_offset_ms)

    def _connect(self):
        import socket

        family, kind, protocol, _, address = socket.getaddrinfo(self.host, self.port, socket.AF_INET, socket.SOCK_STREAM)[0]
        self._sock, self._is_connecting = socket.socket(family, kind, protocol), True
        self._expect(WELCOME_TIMEOUT_MS)
        self._sock.setblocking(False)
        try:
            self._sock.connect(address)
        except OSError as error:
            if error.args[0] not in (EINPROGRESS, EAGAIN):
                raise

    def _expect(self, silence_ms):
        """Closes the connection if nothing is read for this time; 0: never."""
        self._silence_ms = silence_ms
        self._deadline_ms = self._now_ms + silence_ms if silence_ms else None

    def _talk(self):
        if self._is_connecting:
            if self._poll_socket(True, 0):
                self._is_connecting = False
                self._begin()
        if not self._is_connecting:
            self._read()
            try:
                self._write()
            except OSError:
                self._read()  # CLOSING explains the failure.
                raise
        if self._deadline_ms is not None and self._deadline_ms <= self._now_ms:
            raise OSError("nothing read for %d ms" % self._silence_ms)

    def _begin(self):
        if self.tls is not None:
            self._sock = self.tls.wrap_socket(self._sock, server_hostname=self.server_hostname, do_handshake_on_connect=False)
            self._sock.setblocking(False)
        self.session.connected()
        self._out_at = self._out_len = 0
        self._expect(WELCOME_TIMEOUT_MS)

    def _read(self):
        session = self.session
        for _ in range(READS_MAX):
            count = self._sock.readinto(self._in)
            if count is None:
                return
            if count == 0:
                raise OSError("the host closed the connection")
            before = session.acked, session.session
            try:
                session.received(self._in[:count])
            finally:
                if before != (session.acked, session.session):
                    self._attempts = 0
            self._expect(3000 * session.heartbeat_s if session.is_welcome else WELCOME_TIMEOUT_MS)

    def _write(self):
        while True:
            if self._out_at == self._out_len:
                self._out_at, self._out_len = 0, self.session.fill(self._out, 1000 * self._now_ms)
                if not self._out_len:
                    return
            count = self._sock.write(self._out[self._out_at:self._out_len])
            if not count:
                return
            self._out_at += count

    def _over(self, why, delay_ms):
        self._close()
        self._retry_at_ms = self._now_ms + delay_ms
        if self.report:
            self.report(str(why) or type(why).__name__)

    def _close(self):
        sock, self._sock = self._sock, None
        self.session.closed()
        if sock is not None:
            sock.close()

    def _delay_after(self, code):
        if code in LONG_BACKOFF:
            return self._random(self.backoff_long_ms)
        if code == FULL:
            return 0
        if code == SUPERSEDED:
            self._superseded = [it for it in self._superseded if self._now_ms - it <= SUPERSEDED_WINDOW_MS] + [self._now_ms]
            return min(self.backoff_max_ms, 60000 if len(self._superseded) >= 3 else 1000)
        if code == AGAIN and self._attempts == 0:
            self._attempts = 1
            return 0
        if code not in (AGAIN, SHUTDOWN):
            self.protocol_errors += 1
        return self._backoff()

    def _backoff(self):
        """Twice as long after each attempt without progress; a random part keeps senders apart."""
        longest_ms = min(self.backoff_max_ms, self.backoff_min_ms << min(self._attempts, 16))
        self._attempts += 1
        return self._random(longest_ms)

    def _random(self, longest_ms):
        half_ms = longest_ms // 2
        return half_ms + (longest_ms - half_ms) * int.from_bytes(os.urandom(2), "big") // 65535


def is_refusal(error):
    """Whether a certificate or a version was refused, by the host or by this sender. A later attempt hardly helps."""
    text = str(error).upper()
    return any(word in text for word in REFUSALS)
