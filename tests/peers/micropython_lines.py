"""Sends each line of standard input with docs/send-from/micropython/blocks_session.py, as the commands of docs/send-from do.

    python3 micropython_lines.py [options] HOST:PORT DEVICE < lines
    python3 micropython_lines.py --frame blocks|cobs-crc32 < lines > frames
"""

import argparse
import pathlib
import queue
import ssl
import sys
import threading

import micropython_shims

micropython_shims.install(pathlib.Path(__file__).parents[2] / "docs/send-from/micropython")
import blocks_session  # noqa: E402

STEP_MS = 5


def lines():
    """The messages of standard input."""
    for line in sys.stdin.buffer:
        payload = line.rstrip(b"\r\n")
        if payload:
            yield payload


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("address", nargs="?")
    parser.add_argument("device", nargs="?")
    parser.add_argument("--frame", choices=["blocks", "cobs-crc32"])
    parser.add_argument("--timeout", type=float, default=1e6)
    parser.add_argument("--room", type=int, default=65536)
    parser.add_argument("--drop-oldest", action="store_true")
    parser.add_argument("--backoff-max", type=float, default=60.0)
    for name in ("--tls-ca", "--tls-cert", "--tls-key", "--tls-name"):
        parser.add_argument(name)
    return parser.parse_args()


def context(args):
    if not args.tls_ca:
        return None
    made = ssl.create_default_context(cafile=args.tls_ca)
    if args.tls_cert:
        made.load_cert_chain(args.tls_cert, args.tls_key)
    return micropython_shims.Context(made)


def read(into):
    for payload in lines():
        into.put(payload)
    into.put(None)


def send(sender):
    """Pushes the lines while it sends. Returns how many were refused."""
    waiting, refused = queue.Queue(), 0
    threading.Thread(target=read, args=(waiting,), daemon=True).start()
    while True:
        try:
            payload = waiting.get_nowait()
        except queue.Empty:
            sender.run(STEP_MS)
            continue
        if payload is None:
            return refused
        try:
            while not sender.push(payload):
                sender.run(STEP_MS)
        except ValueError as error:
            refused += 1
            print(error, file=sys.stderr)


def main():
    args = arguments()
    if args.frame:
        frame = {"blocks": blocks_session.block, "cobs-crc32": blocks_session.cobs_crc32}[args.frame]
        for payload in lines():
            sys.stdout.buffer.write(frame(payload))
        sys.stdout.buffer.write(blocks_session.END if args.frame == "blocks" else b"")
        return 0
    host, _, port = args.address.rpartition(":")
    backoff_max_ms = int(1000 * args.backoff_max)
    sender = blocks_session.SessionSender(
        host, int(port), args.device, room=args.room, drop_oldest=args.drop_oldest, backoff_max_ms=backoff_max_ms,
        backoff_long_ms=10 * backoff_max_ms, report=lambda text: print(text, file=sys.stderr), tls=context(args),
        server_hostname=args.tls_name)
    refused = send(sender)
    is_durable = sender.close(int(1000 * args.timeout))
    session = sender.session
    if is_durable and refused == session.dropped == 0:
        return 0
    print(f"{session.held} messages not acknowledged, {session.dropped} dropped, {refused + session.refused_by_host} too long",
          file=sys.stderr)
    return 1


sys.exit(main())
