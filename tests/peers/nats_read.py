"""Reads a stream of NATS JetStream to its end with nats-py, and prints a JSON object for each message: its sequence number,
subject, headers, and the messages in its body as base64. `nats_read.py URLS STREAM`"""

import asyncio
import base64
import json
import struct
import sys

import nats


def blocks(body):
    """The payloads of a body in the framing `blocks`."""
    at = 0
    while at < len(body):
        (length,) = struct.unpack_from(">I", body, at)
        at += 4 + length
        yield body[at - length : at]
    assert at == len(body)


async def main(urls, stream):
    client = await nats.connect(urls.split(","))
    jetstream = client.jetstream()
    state = (await jetstream.stream_info(stream)).state
    left = state.messages
    reader = await jetstream.subscribe(">", stream=stream, ordered_consumer=True)
    last = 0
    while left:
        message = await reader.next_msg(timeout=10)
        if message.metadata.sequence.stream <= last:
            # A consumer that was made anew, since its server has gone, may begin too early.
            print(f"{message.metadata.sequence.stream} again after {last}", file=sys.stderr)
            continue
        last = message.metadata.sequence.stream
        headers = message.headers or {}
        is_part = "Blocksd-Part" in headers
        payloads = [message.data] if is_part else blocks(message.data)
        print(
            json.dumps(
                {
                    "sequence": message.metadata.sequence.stream,
                    "subject": message.subject,
                    "headers": headers,
                    "payloads": [base64.b64encode(it).decode() for it in payloads],
                }
            )
        )
        left = message.metadata.num_pending
    await client.close()


asyncio.run(main(*sys.argv[1:]))
