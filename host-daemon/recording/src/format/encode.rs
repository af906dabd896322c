//! Encodes MCAP records in memory: [`record`].

use std::collections::BTreeMap;

use mcap::records::{Channel, op};

use crate::format::record::HEAD_LEN;

/// Encodes a record.
#[must_use]
pub(crate) fn record(opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_LEN + body.len());
    bytes.push(opcode);
    put(&mut bytes, &[body.len() as u64]);
    bytes.extend_from_slice(body);
    bytes
}

/// Encodes the record of a channel.
#[must_use]
pub(crate) fn channel_record(channel: &Channel) -> Vec<u8> {
    let Channel {
        id,
        schema_id,
        topic,
        message_encoding,
        metadata,
    } = channel;
    let description = channel_description(*schema_id, topic, message_encoding, metadata);
    record(
        op::CHANNEL,
        &[id.to_le_bytes().as_slice(), &description].concat(),
    )
}

/// The body of a channel's record after its number.
#[must_use]
pub(crate) fn channel_description(
    schema_id: u16,
    topic: &str,
    encoding: &str,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    let mut body = schema_id.to_le_bytes().to_vec();
    put_text(&mut body, topic);
    put_text(&mut body, encoding);
    let mut map = Vec::new();
    for text in metadata.iter().flat_map(|(key, value)| [key, value]) {
        put_text(&mut map, text);
    }
    put_len(&mut body, map.len());
    body.extend(map);
    body
}

/// Encodes the record of a schema.
#[must_use]
pub(crate) fn schema_record(id: u16, name: &str, encoding: &str, data: &[u8]) -> Vec<u8> {
    let description = schema_description(name, encoding, data);
    record(
        op::SCHEMA,
        &[id.to_le_bytes().as_slice(), &description].concat(),
    )
}

/// The body of a schema's record after its number.
#[must_use]
pub(crate) fn schema_description(name: &str, encoding: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, name);
    put_text(&mut body, encoding);
    put_len(&mut body, data.len());
    body.extend_from_slice(data);
    body
}

/// Appends numbers of 64 bits each.
pub(crate) fn put(to: &mut Vec<u8>, numbers: &[u64]) {
    to.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

/// Appends a text, preceded by its length.
pub(crate) fn put_text(to: &mut Vec<u8>, text: &str) {
    put_len(to, text.len());
    to.extend_from_slice(text.as_bytes());
}

/// Appends a length of 32 bits. Longer texts do not occur, because none can be read.
pub(crate) fn put_len(to: &mut Vec<u8>, len: usize) {
    to.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}
