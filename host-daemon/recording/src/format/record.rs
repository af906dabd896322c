//! MCAP records: [`Raw`] checks their lengths before the `mcap` crate parses them, because that crate trusts them.
//!
//! The specification lets later versions add fields at the end of a record, and new types of records. Files of other
//! programs are read that way. Files that this library writes have neither, so there both are damage.

use mcap::records::{Channel, MessageHeader, Record, op};

/// Bytes before the body of a record: the opcode, and the length of the body.
pub(crate) const HEAD_LEN: usize = 9;
/// Length of a `DataEnd` record, in bytes.
pub(crate) const DATA_END_LEN: u64 = HEAD_LEN as u64 + 4;

/// Opcode of a record in the chunks of a repaired file that says that messages may be missing here. Its body holds
/// offset and length of the lost bytes in the original, 64 bits each.
pub(crate) const GAP: u8 = 0xb6;
/// Length of the body of a [`GAP`] record, in bytes.
pub(crate) const GAP_LEN: usize = 16;

/// Opcode of a record in the summary of a file with the payload bytes of each channel: [`PAYLOAD_MARK`], then for each
/// channel with messages its number (16 bits) and the length of all its payloads (64 bits).
pub(crate) const PAYLOAD: u8 = 0xb8;
/// The beginning of the body of a [`PAYLOAD`] record. Other programs may use the opcode for other records.
pub(crate) const PAYLOAD_MARK: &[u8] = b"blocksd payload";
/// Length of an entry of a [`PAYLOAD`] record, in bytes.
pub(crate) const PAYLOAD_ENTRY_LEN: usize = 10;

/// Prefix of the topics of devices.
pub const DEVICE: &str = "/device/";
/// Topic of events other than messages.
pub const EVENTS_TOPIC: &str = "/blocksd/events";
/// Topic of entries about sessions.
pub const SESSIONS_TOPIC: &str = "/blocksd/sessions";
/// End of the topics of messages that a repair set aside, because no commit confirmed them.
pub const UNCONFIRMED: &str = "/unconfirmed";
/// Prefix of the topics of messages whose channel is unknown. The number of the channel follows.
pub const UNKNOWN_TOPIC: &str = "/blocksd/unknown/";

/// The kind of messages in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Complete messages of a device.
    Blocks,
    /// Pieces of oversize messages of a device.
    Pieces,
    /// Other events.
    Events,
    /// Entries about the sessions of devices.
    Sessions,
    /// Numbered messages, and entries about sessions, that a repair set aside. Their senders send them again.
    Unconfirmed,
    /// Messages of another program.
    Other,
}

impl Kind {
    /// Returns the kind of messages in a topic.
    #[must_use]
    pub fn of(topic: &str) -> Self {
        match topic.strip_prefix(DEVICE) {
            _ if topic == EVENTS_TOPIC => Self::Events,
            _ if topic == SESSIONS_TOPIC => Self::Sessions,
            None if topic.strip_suffix(UNCONFIRMED) == Some(SESSIONS_TOPIC) => Self::Unconfirmed,
            Some(rest) if rest.ends_with(UNCONFIRMED) => Self::Unconfirmed,
            Some(rest) if rest.ends_with("/blocks") => Self::Blocks,
            Some(rest) if rest.ends_with("/pieces") => Self::Pieces,
            _ => Self::Other,
        }
    }

    /// Returns whether these are messages of devices, whole or in pieces, or of other programs. The other kinds describe these
    /// messages, or do not count.
    #[must_use]
    pub const fn is_payload(self) -> bool {
        matches!(self, Self::Blocks | Self::Pieces | Self::Other)
    }
}

/// Returns the device of a channel, or the whole topic if the channel does not belong to a device.
#[must_use]
pub fn device(channel: &Channel) -> &str {
    let named = channel.metadata.get("device").map(String::as_str);
    let topic = channel.topic.strip_prefix(DEVICE).and_then(|rest| {
        rest.strip_suffix("/blocks")
            .or_else(|| rest.strip_suffix("/pieces"))
    });
    named.or(topic).unwrap_or(&channel.topic)
}

/// A record that is not parsed yet.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// The type of the record.
    pub opcode: u8,
    /// The bytes after its length.
    pub body: &'a [u8],
}

impl<'a> Raw<'a> {
    /// Takes the first record from `bytes`. Returns `None` if they do not hold it completely.
    pub fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (opcode, len) = head(bytes)?;
        let end = usize::try_from(len).ok()?.checked_add(HEAD_LEN)?;
        let body = bytes.get(HEAD_LEN..end)?;
        *bytes = bytes.get(end..)?;
        Some(Self { opcode, body })
    }

    /// Parses the record, and ignores fields that a later version has added at its end. Returns `None` if its lengths
    /// contradict each other, or its type is unknown.
    #[must_use]
    pub fn parse(&self) -> Option<Record<'a>> {
        if self.opcode == op::MESSAGE {
            let (header, data) = self.message()?;
            let data = data.into();
            return Some(Record::Message { header, data });
        }
        let known = self.body.get(..self.known_len()?)?;
        mcap::parse_record(self.opcode, known).ok()
    }

    /// Parses a message record into header and payload.
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

    /// Returns the number of pairs of texts in the metadata of a channel.
    #[must_use]
    pub(crate) fn pairs(&self) -> usize {
        let pairs = || {
            let mut rest = self.body.get(4..)?;
            take_bytes(&mut rest)?;
            take_bytes(&mut rest)?;
            let mut map = take_bytes(&mut rest)?;
            let mut count = 0;
            while take_bytes(&mut map).is_some() && take_bytes(&mut map).is_some() {
                count += 1;
            }
            Some(count)
        };
        pairs().unwrap_or_default()
    }

    /// Returns whether the lengths within the body agree with the length of the body, without added fields. False for
    /// unknown types.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.known_len() == Some(self.body.len())
    }

    /// Length of the known fields in bytes. Returns `None` if they do not fit in the body, or the type is unknown.
    #[must_use]
    pub(crate) fn known_len(&self) -> Option<usize> {
        let mut rest = self.body;
        let fields = layout(self.opcode)?;
        fields.iter().try_for_each(|field| field.pass(&mut rest))?;
        let is_final = matches!(self.opcode, op::FOOTER | op::DATA_END);
        (rest.is_empty() || !is_final).then(|| self.body.len() - rest.len())
    }
}

/// Whether a record of this type may be in the data section of a file of another program: any type that the
/// specification allows, knows not yet, or leaves to programs.
#[must_use]
pub(crate) const fn is_foreign(opcode: u8) -> bool {
    opcode != 0 && opcode != op::HEADER
}

/// Whether the specification leaves the meaning of this type to programs, or to later versions.
#[must_use]
pub(crate) const fn is_unknown(opcode: u8) -> bool {
    op::DATA_END < opcode
}

/// Returns opcode and body length of the record that begins with these bytes.
#[must_use]
pub(crate) fn head(bytes: &[u8]) -> Option<(u8, u64)> {
    let mut rest = bytes;
    let [opcode] = take_array(&mut rest)?;
    Some((opcode, u64::from_le_bytes(take_array(&mut rest)?)))
}

/// Whether a record at the end of a file is the beginning of an unfinished one, rather than damage: such records imply
/// their length a second time, and both must agree.
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

/// A field in the body of a record.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// This number of bytes.
    Fixed(usize),
    /// A length of 32 bits, then this number of bytes.
    Bytes,
    /// A length of 64 bits, then this number of bytes.
    LongBytes,
    /// A length of 32 bits, then this number of bytes with pairs of texts.
    Map,
    /// A length of 32 bits, then this number of bytes with entries of a fixed size.
    Entries(usize),
    /// The rest of the body.
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
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

fn skip(rest: &mut &[u8], len: u64) -> Option<()> {
    *rest = rest.get(usize::try_from(len).ok()?..)?;
    Some(())
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_record_implies_its_length_twice() {
        let index = |len: u64, entries: u32| {
            let mut bytes = vec![op::MESSAGE_INDEX];
            bytes.extend(len.to_le_bytes());
            bytes.extend([1, 0]);
            bytes.extend(entries.to_le_bytes());
            bytes
        };
        assert!(is_unfinished(&index(326, 320)) && !is_unfinished(&index(327, 320)));
        // Too short for anything to be lost with it.
        assert!(is_unfinished(&index(327, 320)[..14]) && is_unfinished(&[op::CHUNK; 8]));
        assert!(!is_unfinished(&[op::CHUNK; 9]));
    }

    #[test]
    fn a_length_beyond_the_record_is_refused() {
        // A header that declares a library field of 4 GiB.
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
        // The `mcap` crate would panic here.
        let raw = Raw {
            opcode: op::ATTACHMENT,
            body: b"\0",
        };
        assert!(raw.parse().is_none());
    }

    #[test]
    fn fields_of_a_later_version_are_ignored_where_the_specification_allows_them() {
        let raw = |opcode, body| Raw { opcode, body };
        let longer = raw(op::HEADER, b"\0\0\0\0\x03\0\0\0abcMORE");
        assert!(!longer.is_well_formed());
        assert!(matches!(longer.parse(), Some(Record::Header(header)) if header.library == "abc"));
        for opcode in [op::DATA_END, op::FOOTER] {
            assert!(raw(opcode, &[0; 24]).parse().is_none());
        }
        assert!(raw(op::DATA_END, &[0; 4]).parse().is_some());
        assert!(raw(0x20, b"").parse().is_none() && raw(0, b"").parse().is_none());
    }

    #[test]
    fn the_kind_of_messages_follows_from_the_topic() {
        assert_eq!(Kind::of("/device/a/b/blocks"), Kind::Blocks);
        assert_eq!(Kind::of("/device/a/pieces"), Kind::Pieces);
        assert_eq!(Kind::of("/blocksd/events"), Kind::Events);
        assert_eq!(Kind::of("/imu"), Kind::Other);
        assert_eq!(Kind::of("/blocksd/sessions"), Kind::Sessions);
        for topic in ["/blocksd/sessions/unconfirmed", "/device/a/unconfirmed"] {
            assert_eq!(Kind::of(topic), Kind::Unconfirmed);
        }
        assert_eq!(Kind::of("/device/unconfirmed/blocks"), Kind::Blocks);
        assert_eq!(Kind::of("/imu/unconfirmed"), Kind::Other);
    }
}
