// Reads an MCAP file with the npm packages `@mcap/core` and `@mcap/support`, which Foxglove and Lichtblick use. Prints
// every JSON message as a line: topic, name of the schema, time, decoded message.

const { McapIndexedReader } = require("@mcap/core");
const { loadDecompressHandlers } = require("@mcap/support");
const fs = require("node:fs/promises");

async function main(path) {
  const file = await fs.open(path);
  const readable = {
    size: async () => BigInt((await file.stat()).size),
    read: async (offset, length) => {
      const bytes = new Uint8Array(Number(length));
      await file.read(bytes, 0, bytes.length, Number(offset));
      return bytes;
    },
  };
  const decompressHandlers = await loadDecompressHandlers();
  const reader = await McapIndexedReader.Initialize({ readable, decompressHandlers });
  for await (const message of reader.readMessages({ validateCrcs: true })) {
    const channel = reader.channelsById.get(message.channelId);
    const schema = reader.schemasById.get(channel.schemaId);
    if (channel.messageEncoding !== "json" || schema.encoding !== "jsonschema") continue;
    const value = JSON.parse(new TextDecoder().decode(message.data));
    const line = [channel.topic, schema.name, String(message.logTime), value];
    console.log(JSON.stringify(line));
  }
  await file.close();
}

main(process.argv[2]);
