"""Makes, deletes or changes a stream of NATS JetStream with nats-py, or deletes messages of it, and tries for 12 s.
`nats_stream.py URLS make STREAM REPLICAS WINDOW`, the window of duplicates in seconds; `URLS delete STREAM`;
`URLS purge STREAM SUBJECT`; `URLS change STREAM OPTION VALUE`, a word or JSON."""

import asyncio
import json
import sys
import time

import nats
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError


async def make(jetstream, name, replicas, window):
    await jetstream.add_stream(
        StreamConfig(
            name=name,
            subjects=["blocksd.>"],
            storage=StorageType.FILE,
            retention=RetentionPolicy.LIMITS,
            num_replicas=int(replicas),
            duplicate_window=float(window),
            max_msg_size=1 << 20,
            allow_direct=True,
        )
    )


async def delete(jetstream, name):
    try:
        await jetstream.delete_stream(name)
    except NotFoundError:
        # An attempt whose answer was lost has deleted it.
        pass


async def purge(jetstream, name, subject):
    await jetstream.purge_stream(name, subject=subject)


async def change(jetstream, name, option, value):
    config = (await jetstream.stream_info(name)).config
    await jetstream.update_stream(config.evolve(**{option: value if value.isalpha() else json.loads(value)}))


async def ignore(_):
    """Errors of attempts to connect."""


async def main(urls, command, *args):
    until = time.monotonic() + 12
    while True:
        try:
            client = await nats.connect(
                urls.split(","),
                connect_timeout=2,
                reconnect_time_wait=0.2,
                max_reconnect_attempts=1,
                allow_reconnect=False,
                error_cb=ignore,
            )
            await {"make": make, "delete": delete, "purge": purge, "change": change}[command](client.jetstream(timeout=5), *args)
            return await client.close()
        except (nats.errors.Error, OSError, asyncio.TimeoutError) as error:
            if until < time.monotonic():
                raise
            print(f"trying again: {error!r}", file=sys.stderr)
            await asyncio.sleep(0.2)


asyncio.run(main(*sys.argv[1:]))
