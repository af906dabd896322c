//! MCAP records: their lengths are checked before the `mcap` crate parses them, since it believes what they declare.

use mcap::records::{Channel, MessageHeader, Record, op};

/// Bytes before the body of a record: the opcode, and the length of the body.
pub(crate) const HEAD_LEN: usize = 9;
/// Bytes of a `DataEnd` record.
pub(crate) const DATA_END_LEN: u64 = HEAD_LEN as u64 + 4;

/// The opcode of a record in chunks of a repaired file: messages may be missing here. It holds the offset and the length
/// of what was lost of the original, 64 bits each.
pub(crate) const GAP: u8 = 0xb6;
/// Bytes that the body of such a record has.
pub(crate) const GAP_LEN: usize = 16;

/// What begins the topics of devices.
pub const DEVICE: &str = "/device/";
/// The topic of what is no block.
pub const EVENTS_TOPIC: &str = "/blocksd/events";
/// What begins the topics of messages whose channel is not known; the number of the channel follows.
pub const UNKNOWN_TOPIC: &str = "/blocksd/unknown/";

/// What the messages of a channel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Blocks of a device.
    Blocks,
    /// Pieces of a device's messages, as they came.
    Pieces,
    /// What else happened.
    Events,
    /// Not ours.
    Other,
}

impl Kind {
    /// By the topic.
    #[must_use]
    pub fn of(topic: &str) -> Self {
        match topic.strip_prefix(DEVICE) {
            _ if topic == EVENTS_TOPIC => Self::Events,
            Some(rest) if rest.ends_with("/blocks") => Self::Blocks,
            Some(rest) if rest.ends_with("/pieces") => Self::Pieces,
            _ => Self::Other,
        }
    }
}

/// The device that a channel is of; its whole topic where it is not ours.
#[must_use]
pub fn device(channel: &Channel) -> &str {
    let named = channel.metadata.get("device").map(String::as_str);
    let topic = channel.topic.strip_prefix(DEVICE).and_then(|rest| {
        rest.strip_suffix("/blocks")
            .or_else(|| rest.strip_suffix("/pieces"))
    });
    named.or(topic).unwrap_or(&channel.topic)
}

/// A record that has not been parsed.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// What it is.
    pub opcode: u8,
    /// What stands behind its length.
    pub body: &'a [u8],
}

impl<'a> Raw<'a> {
    /// Takes the first record off `bytes`; none if they do not hold it whole.
    pub fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (opcode, len) = head(bytes)?;
        let end = usize::try_from(len).ok()?.checked_add(HEAD_LEN)?;
        let body = bytes.get(HEAD_LEN..end)?;
        *bytes = bytes.get(end..)?;
        Some(Self { opcode, body })
    }

    /// Parses it, if its lengths agree with one another.
    #[must_use]
    pub fn parse(&self) -> Option<Record<'a>> {
        if self.opcode == op::MESSAGE {
            let (header, data) = self.message()?;
            let data = data.into();
            return Some(Record::Message { header, data });
        }
        if !self.is_well_formed() {
            return None;
        }
        mcap::parse_record(self.opcode, self.body).ok()
    }

    /// Parses a message.
    #[must_use]
    pub fn message(&self) -> Option<(MessageHeader, &'a [u8])> {
        if self.opcode != op::MESSAGE {
            return None;
        }
        let mut rest = self.body;
        let header = MessageHeader {
            channel_id: u16::from_le_bytes(take_array(&mut rest)?),
            sequence: u32::from_le_bytes(take_array(&mut rest)?),
            log_time: u64::from_le_bytes(take_array(&mut rest)?),
            publish_time: u64::from_le_bytes(take_array(&mut rest)?),
        };
        Some((header, rest))
    }

    /// Whether the lengths within the body agree with the length of the body; false for what is no record of MCAP.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let mut rest = self.body;
        let fits = |field: &Field| field.pass(&mut rest).is_some();
        layout(self.opcode).is_some_and(|fields| fields.iter().all(fits)) && rest.is_empty()
    }
}

/// Opcode and length of the body of the record that begins so.
#[must_use]
pub(crate) fn head(bytes: &[u8]) -> Option<(u8, u64)> {
    let mut rest = bytes;
    let [opcode] = take_array(&mut rest)?;
    Some((opcode, u64::from_le_bytes(take_array(&mut rest)?)))
}

/// Whether a record of ours that begins so, and ends with the file, is one that was not finished: its length stands in
/// it twice.
#[must_use]
pub(crate) fn is_unfinished(begin: &[u8]) -> bool {
    let Some((opcode, len)) = head(begin) else {
        return true;
    };
    match opcode {
        op::DATA_END => len == DATA_END_LEN - HEAD_LEN as u64,
        op::MESSAGE_INDEX => {
            let entries = begin.get(HEAD_LEN + 2..).and_then(|it| it.first_chunk());
            entries.is_none_or(|it| u64::from(u32::from_le_bytes(*it)) + 6 == len)
        }
        _ => false,
    }
}

/// A stretch of a record's body.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// So many bytes.
    Fixed(usize),
    /// A 32-bit length, and so many bytes.
    Bytes,
    /// A 64-bit length, and so many bytes.
    LongBytes,
    /// A 32-bit length, and in so many bytes pairs of texts.
    Map,
    /// A 32-bit length, and in so many bytes entries of a fixed size.
    Entries(usize),
    /// All that follows.
    Rest,
}

fn layout(opcode: u8) -> Option<&'static [Field]> {
    use Field::{Bytes, Entries, Fixed, LongBytes, Map, Rest};
    Some(match opcode {
        op::HEADER => &[Bytes, Bytes],
        op::FOOTER => &[Fixed(20)],
        op::SCHEMA => &[Fixed(2), Bytes, Bytes, Bytes],
        op::CHANNEL => &[Fixed(4), Bytes, Bytes, Map],
        op::MESSAGE => &[Fixed(22), Rest],
        op::CHUNK => &[Fixed(28), Bytes, LongBytes],
        op::MESSAGE_INDEX => &[Fixed(2), Entries(16)],
        op::CHUNK_INDEX => &[Fixed(32), Entries(10), Fixed(8), Bytes, Fixed(16)],
        op::ATTACHMENT => &[Fixed(16), Bytes, Bytes, LongBytes, Fixed(4)],
        op::ATTACHMENT_INDEX => &[Fixed(40), Bytes, Bytes],
        op::STATISTICS => &[Fixed(42), Entries(10)],
        op::METADATA => &[Bytes, Map],
        op::METADATA_INDEX => &[Fixed(16), Bytes],
        op::SUMMARY_OFFSET => &[Fixed(17)],
        op::DATA_END => &[Fixed(4)],
        _ => return None,
    })
}

impl Field {
    fn pass(self, rest: &mut &[u8]) -> Option<()> {
        match self {
            Self::Fixed(len) => skip(rest, len as u64),
            Self::Bytes => take_bytes(rest).map(|_| ()),
            Self::LongBytes => {
                let len = u64::from_le_bytes(take_array(rest)?);
                skip(rest, len)
            }
            Self::Map => {
                let mut map = take_bytes(rest)?;
                while !map.is_empty() {
                    take_bytes(&mut map)?;
                    take_bytes(&mut map)?;
                }
                Some(())
            }
            Self::Entries(size) => {
                let entries = take_bytes(rest)?;
                entries.len().is_multiple_of(size).then_some(())
            }
            Self::Rest => {
                *rest = &[];
                Some(())
            }
        }
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_le_bytes(take_array(rest)?) as usize;
    let (bytes, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(bytes)
}

fn skip(rest: &mut &[u8], len: u64) -> Option<()> {
    *rest = rest.get(usize::try_from(len).ok()?..)?;
    Some(())
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_not_finished_has_its_length_twice() {
        let index = |len: u64, entries: u32| {
            let mut bytes = vec![op::MESSAGE_INDEX];
            bytes.extend(len.to_le_bytes());
            bytes.extend([1, 0]);
            bytes.extend(entries.to_le_bytes());
            bytes
        };
        assert!(is_unfinished(&index(326, 320)) && !is_unfinished(&index(327, 320)));
        // So short that nothing can be lost with it.
        assert!(is_unfinished(&index(327, 320)[..14]) && is_unfinished(&[op::CHUNK; 8]));
        assert!(!is_unfinished(&[op::CHUNK; 9]));
    }

    #[test]
    fn a_length_that_runs_over_its_record_is_refused() {
        // A header that declares a library name of 4 GiB.
        let body = b"\0\0\0\0\xff\xff\xff\xffabc";
        let raw = Raw {
            opcode: op::HEADER,
            body,
        };
        assert!(raw.parse().is_none());
        let body = b"\0\0\0\0\x03\0\0\0abc";
        let raw = Raw {
            opcode: op::HEADER,
            body,
        };
        assert!(matches!(raw.parse(), Some(Record::Header(header)) if header.library == "abc"));
        // The crate would panic at this.
        let raw = Raw {
            opcode: op::ATTACHMENT,
            body: b"\0",
        };
        assert!(raw.parse().is_none());
    }

    #[test]
    fn the_topic_says_what_messages_are() {
        assert_eq!(Kind::of("/device/a/b/blocks"), Kind::Blocks);
        assert_eq!(Kind::of("/device/a/pieces"), Kind::Pieces);
        assert_eq!(Kind::of("/blocksd/events"), Kind::Events);
        assert_eq!(Kind::of("/imu"), Kind::Other);
    }
}
