//! The connection of messages: a [`MessageOrigin`]. Records of type [`OPCODE`] in a chunk say which connection the
//! following messages of a channel came over, so several connections can share a channel.
//!
//! Each chunk can be read alone: before the first record for a channel, the origin of its messages is not known.

use crate::format::nonce::FileNonce;
use crate::format::record::{HEAD_LEN, Raw};

/// Opcode of a record with an origin. MCAP reserves such opcodes for private use, and readers skip them.
pub(crate) const OPCODE: u8 = 0xb7;
/// Length of the body of such a record, in bytes: channel (16 bits), connection and number (64 bits each).
pub(crate) const BODY_LEN: usize = 18;

/// The connection that a message came over, and the number of the message in that connection.
///
/// # Examples
/// ```
/// use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions, MessageOrigin};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut log = Log::open(folder, LogOptions::default())?;
/// let channel = log.channel(&mut Channel::default(), ChannelSpec::default)?;
/// // The first two messages of connection 7.
/// let origin = MessageOrigin::new(7, 0);
/// let messages: [&[u8]; 2] = [b"first", b"second"];
/// log.append_all(channel, origin, 0, 1_000_000_000, messages.into_iter())?;
/// log.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageOrigin {
    /// Number of the connection, from 1. A program that numbers its connections may begin again at 1 when it restarts.
    pub connection: u64,
    /// Number of the message in the connection.
    pub seq: u64,
}

impl MessageOrigin {
    /// Creates an origin. `None` for connection 0, which stands for an unknown one.
    #[must_use]
    pub const fn new(connection: u64, seq: u64) -> Option<Self> {
        match connection {
            0 => None,
            _ => Some(Self { connection, seq }),
        }
    }

    /// Returns the origin of the message that comes `count` messages later in the connection.
    #[must_use]
    pub const fn after(self, count: u64) -> Self {
        Self {
            seq: self.seq.wrapping_add(count),
            ..self
        }
    }
}

/// Encodes the record for the next messages of a channel. `None` ends a former origin.
#[must_use]
pub(crate) fn origin_record(
    channel: u16,
    origin: Option<MessageOrigin>,
) -> [u8; HEAD_LEN + BODY_LEN] {
    let (connection, seq) = origin.map_or((0, 0), |it| (it.connection, it.seq));
    let mut record = [0; HEAD_LEN + BODY_LEN];
    record[0] = OPCODE;
    record[1..9].copy_from_slice(&(BODY_LEN as u64).to_le_bytes());
    record[9..11].copy_from_slice(&channel.to_le_bytes());
    record[11..19].copy_from_slice(&connection.to_le_bytes());
    record[19..27].copy_from_slice(&seq.to_le_bytes());
    record
}

/// Parses the body of a record: the channel, and the origin of its next message. A later version may append fields.
#[must_use]
pub(crate) fn parse(body: &[u8]) -> Option<(u16, Option<MessageOrigin>)> {
    let (channel, rest) = body.split_first_chunk()?;
    let (connection, rest) = rest.split_first_chunk()?;
    let seq = rest.first_chunk()?;
    let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let origin = MessageOrigin::new(number(connection), number(seq));
    Some((u16::from_le_bytes(*channel), origin))
}

/// Follows the origins of messages through the chunks of a file. [`Reader`](crate::Reader) does so itself; this is for
/// programs that [scan](crate::scan::Scan) a file.
///
/// # Examples
/// ```
/// use blocksd_recording::scan::{Found, Origins, Scan};
///
/// /// Returns the number of the last message in its connection.
/// fn last_seq(scan: &mut Scan) -> Result<Option<u64>, blocksd_recording::Error> {
///     let (mut origins, mut last) = (Origins::default(), None);
///     while let Some(found) = scan.advance()? {
///         if let Found::Chunk(chunk) = found {
///             origins.begin_chunk(chunk.records);
///             for (_, raw) in chunk.records() {
///                 match raw.message() {
///                     Some((header, _)) => last = origins.message(header.channel_id),
///                     None => _ = origins.record(&raw),
///                 }
///             }
///         }
///         if scan.has_ended() {
///             break;
///         }
///     }
///     Ok(last.map(|origin| origin.seq))
/// }
/// ```
#[derive(Debug, Default)]
pub struct Origins {
    /// The current chunk. Origins of earlier chunks are not valid.
    chunk: u64,
    /// The chunk has the nonce of a file, so records of type [`OPCODE`] in it are those of this library.
    is_ours: bool,
    /// The chunk, and the origin of the next message in it, by channel.
    next: Vec<Option<(u64, MessageOrigin)>>,
}

impl Origins {
    /// Begins a chunk with these records.
    pub fn begin_chunk(&mut self, records: &[u8]) {
        self.chunk += 1;
        self.is_ours = FileNonce::of_chunk(records).is_some();
    }

    /// Takes a record other than a message. Returns false if it should be an origin and is not.
    pub fn record(&mut self, raw: &Raw<'_>) -> bool {
        if raw.opcode != OPCODE || !self.is_ours {
            return true;
        }
        let Some((channel, origin)) = parse(raw.body) else {
            return false;
        };
        let at = usize::from(channel);
        if self.next.len() <= at {
            self.next.resize(at + 1, None);
        }
        if let Some(next) = self.next.get_mut(at) {
            *next = origin.map(|origin| (self.chunk, origin));
        }
        true
    }

    /// Takes the next message of a channel, and returns its origin if that is known.
    pub fn message(&mut self, channel: u16) -> Option<MessageOrigin> {
        let next = self.next.get_mut(usize::from(channel))?.as_mut();
        let (_, next) = next.filter(|(chunk, _)| *chunk == self.chunk)?;
        let following = next.after(1);
        Some(std::mem::replace(next, following))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::encode::record;
    use crate::format::nonce;

    fn take(origins: &mut Origins, bytes: &[u8]) -> bool {
        let mut bytes = bytes;
        let raw = Raw::take(&mut bytes).unwrap();
        assert!(bytes.is_empty());
        origins.record(&raw)
    }

    #[test]
    fn an_origin_counts_on_until_the_next_one_or_the_end_of_the_chunk() {
        let chunk = record(nonce::OPCODE, &FileNonce::new().body());
        let mut origins = Origins::default();
        origins.begin_chunk(&chunk);
        assert_eq!(origins.message(1), None);
        let of = MessageOrigin::new;
        assert!(take(&mut origins, &origin_record(1, of(7, u64::MAX))));
        assert!(take(&mut origins, &origin_record(3, of(8, 5))));
        assert_eq!(origins.message(1), of(7, u64::MAX));
        assert_eq!(origins.message(3), of(8, 5));
        assert_eq!(origins.message(1), of(7, 0));
        assert_eq!(origins.message(2), None);
        assert!(take(&mut origins, &origin_record(1, None)));
        assert_eq!((origins.message(1), origins.message(3)), (None, of(8, 6)));
        origins.begin_chunk(&chunk);
        assert_eq!(origins.message(3), None);
    }

    #[test]
    fn fields_of_a_later_version_are_ignored_and_missing_ones_reported() {
        let mut origins = Origins::default();
        origins.begin_chunk(&record(nonce::OPCODE, &FileNonce::new().body()));
        let whole = origin_record(1, MessageOrigin::new(7, 2));
        let body = whole.get(HEAD_LEN..).unwrap();
        assert!(take(
            &mut origins,
            &record(OPCODE, &[body, b"more"].concat())
        ));
        assert_eq!(origins.message(1), MessageOrigin::new(7, 2));
        assert!(!take(&mut origins, &record(OPCODE, &body[..17])));
    }

    #[test]
    fn a_record_of_another_program_is_not_an_origin() {
        let mut origins = Origins::default();
        origins.begin_chunk(b"");
        assert!(take(
            &mut origins,
            &origin_record(1, MessageOrigin::new(7, 2))
        ));
        assert!(take(&mut origins, &record(OPCODE, b"")));
        assert_eq!(origins.message(1), None);
    }
}
