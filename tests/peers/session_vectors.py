"""Encodes and decodes the vectors of docs/sessions.md with docs/send-from/python/blocks_session.py, and prints the results.

session_vectors.py WELCOME ACK ACK_WITH_TIME CLOSING, in hexadecimal
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "docs/send-from/python"))
from blocks_session import BrokenHost, Closing, Session  # noqa: E402

welcome, ack, ack_with_time, closing = map(bytes.fromhex, sys.argv[1:])


def begin(*messages, room=4096):
    """A session with these messages, and its HELLO."""
    session = Session("boiler-01234", room=room, drop_oldest=True, heartbeat_s=0, want_time=True)
    session.times = []
    session.on_time = session.times.append
    for message in messages:
        session.push(message)
    session.connected(1_500_000)
    return session, take(session)


def take(session, count=None):
    """Takes bytes, and writes all or `count` of them."""
    data = bytes(session.take(2_500_000))[:count]
    session.sent_bytes(len(data))
    return data


session, hello = begin(b"temp=21.5")
print("HELLO", hello.hex())
session.received(welcome)
print(f"WELCOME 0 session={session.session:x} time={session.times[-1]} block_max={session.block_max} "
      f"silence_ms={3000 * session.heartbeat_s} next={session.next} held={len(session.ring)}")

session, _ = begin(b"temp=21.6")
try:
    session.received(welcome)
except BrokenHost:
    print(f"OTHER 2 session={session.session:x} held={len(session.ring)}")

session, _ = begin(b"a", b"b", b"c")
resume, check = slice(4 + 8, 4 + 16), slice(4 + 40, 4 + 44)
changed = bytearray(welcome)
changed[resume], changed[check] = bytes(8), bytes(4)
session.received(changed)
print("CONT", take(session).hex())
print("MESSAGES", "".join(take(session).hex() for _ in range(3)))
session.received(ack)
print(f"ACK 0 acked={session.acked} held={len(session.ring)}")
session.received(ack_with_time)
print(f"ACK 0 time={session.times[-1]}")
try:
    session.received(closing)
except Closing as error:
    print(f"CLOSING 1 code={error.code} retry_ms={1000 * error.retry_s} text={error.text}")

# A ring of 4 messages is full while 7 of the 10 bytes of two messages are written, and later.
session, _ = begin(b"a", b"b", b"c", room=20)
session.received(changed)
take(session), take(session), take(session, 2)
pushed = [session.push(payload) for payload in (b"d", b"e", b"f")]
take(session)
pushed += [session.push(payload) for payload in (b"f", b"g")]
print("PUSHED", *map(int, pushed), f"first={session.first} lost={session.lost}")
print("GAP", b"".join(iter(lambda: take(session), b"")).hex())
session.received(ack)
print(f"ACK 0 first={session.first} lost={session.lost}")
