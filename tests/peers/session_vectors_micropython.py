"""Encodes and decodes the vectors of docs/sessions.md with docs/send-from/micropython/blocks_session.py, and prints the results.

session_vectors_micropython.py WELCOME ACK ACK_WITH_TIME CLOSING, in hexadecimal
"""

import pathlib
import sys

import micropython_shims

micropython_shims.install(pathlib.Path(__file__).parents[2] / "docs/send-from/micropython")
from blocks_session import BrokenHost, Closing, Session  # noqa: E402

welcome, ack, ack_with_time, closing = map(bytes.fromhex, sys.argv[1:])


def begin(*messages, room=4096):
    """A session with these messages, and its HELLO."""
    session = Session("boiler-01234", room=room, drop_oldest=True, heartbeat_s=0, want_time=True)
    session.times = []
    session.on_time = session.times.append
    for message in messages:
        session.push(message)
    session.connected()
    return session, take(session, 200, 1_500_000)


def take(session, count, uptime_us=2_500_000):
    """Up to `count` bytes for the host."""
    out = bytearray(count)
    return bytes(out[:session.fill(out, uptime_us)])


session, hello = begin(b"temp=21.5")
print("HELLO", hello.hex())
session.received(welcome)
print(f"WELCOME 0 session={session.session:x} time={session.times[-1]} block_max={session.block_max} "
      f"silence_ms={3000 * session.heartbeat_s} next={session.next} held={session.held}")

session, _ = begin(b"temp=21.6")
try:
    session.received(welcome)
except BrokenHost:
    print(f"OTHER 2 session={session.session:x} held={session.held}")

session, _ = begin(b"a", b"b", b"c")
resume, check = slice(4 + 8, 4 + 16), slice(4 + 40, 4 + 44)
changed = bytearray(welcome)
changed[resume], changed[check] = bytes(8), bytes(4)
session.received(changed)
print("CONT", take(session, 28).hex())
print("MESSAGES", take(session, 15).hex())
session.received(ack)
print(f"ACK 0 acked={session.acked} held={session.held}")
session.received(ack_with_time)
print(f"ACK 0 time={session.times[-1]}")
try:
    session.received(closing)
except Closing as error:
    print(f"CLOSING 1 code={error.code} retry_ms={1000 * error.retry_s} text={error.text}")

# A ring of 4 messages is full while 7 of the 10 bytes of two messages are written, and later.
session, _ = begin(b"a", b"b", b"c", room=20)
session.received(changed)
take(session, 28), take(session, 5), take(session, 2)
pushed = [session.push(payload) for payload in (b"d", b"e", b"f")]
take(session, 3)
pushed += [session.push(payload) for payload in (b"f", b"g")]
print("PUSHED", *map(int, pushed), f"first={session.first} lost={session.lost}")
print("GAP", take(session, 200).hex())
session.received(ack)
print(f"ACK 0 first={session.first} lost={session.lost}")

# After a connection that ended within a message, the next one begins with HELLO, and not with the rest of the message.
session, hello = begin(b"123456789")
session.received(changed)
take(session, 28 + 5)
session.closed()
session.connected()
assert take(session, 200, 1_500_000)[:12] == hello[:12]
