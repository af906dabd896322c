"""Reads and writes MCAP files with the Python package `mcap`, which is independent of the crate of the same name.

    mcap_peer.py read FILE       every message as a JSON line, by the index and from end to end, and the statistics
    mcap_peer.py decode FILE     every JSON message, decoded and checked with its schema by the package `jsonschema`
    mcap_peer.py write FILE HOW  three messages of `/imu`; HOW is none, lz4, zstd, or loose for no chunks
"""

import base64
import json
import sys

from mcap.reader import NonSeekingReader, SeekingReader
from mcap.writer import CompressionType, Writer


def messages(reader):
    for schema, channel, message in reader.iter_messages():
        yield {
            "topic": channel.topic,
            "encoding": channel.message_encoding,
            "device": channel.metadata.get("device"),
            "schema": schema and schema.name,
            "sequence": message.sequence,
            "log_time": message.log_time,
            "publish_time": message.publish_time,
            "data": base64.b64encode(message.data).decode(),
        }


def read(path):
    with open(path, "rb") as file:
        by_index = list(messages(SeekingReader(file, validate_crcs=True)))
        file.seek(0)
        straight = list(messages(NonSeekingReader(file, validate_crcs=True)))
        assert by_index == straight, "the two readers do not agree"
        file.seek(0)
        summary = SeekingReader(file, validate_crcs=True).get_summary()
    for message in by_index:
        print(json.dumps(message))
    statistics = summary.statistics
    counts = {
        summary.channels[channel].topic: count
        for channel, count in statistics.channel_message_counts.items()
    }
    print(json.dumps({"counts": counts, "chunks": statistics.chunk_count}))


def decode(path):
    # Not needed by the others.
    from jsonschema.validators import validator_for

    validators = {}
    with open(path, "rb") as file:
        for schema, channel, message in SeekingReader(file, validate_crcs=True).iter_messages():
            if channel.message_encoding != "json":
                continue
            if schema.id not in validators:
                described = json.loads(schema.data)
                kind = validator_for(described)
                kind.check_schema(described)
                validators[schema.id] = kind(described)
            value = json.loads(message.data)
            validators[schema.id].validate(value)
            print(json.dumps([channel.topic, schema.name, message.log_time, value]))


def write(path, how):
    with open(path, "wb") as file:
        writer = Writer(
            file,
            compression=CompressionType[how.upper()] if how != "loose" else CompressionType.NONE,
            use_chunking=how != "loose",
        )
        writer.start(profile="peer", library="somebody else's")
        schema = writer.register_schema("imu", "jsonschema", b"{}")
        channel = writer.register_channel("/imu", "json", schema, metadata={})
        for number in range(3):
            writer.add_message(channel, number * 1000, b'{"number":%d}\n' % number, number * 1000, number)
        writer.finish()


if __name__ == "__main__":
    {"read": read, "decode": decode, "write": write}[sys.argv[1]](*sys.argv[2:])
