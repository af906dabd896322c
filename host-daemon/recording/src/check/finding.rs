//! Findings of a check: a [`Finding`] is one defect of a file.

use std::fmt;

use crate::read::loss::LostRange;
use crate::read::summary::SummaryFault;

/// A defect of a recording. Its `Display` is one line, such as `at 4096: chunk does not begin with the nonce of the
/// file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub kind: FindingKind,
}

/// The kind of a [`Finding`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// A range of bytes is lost.
    Lost(LostRange),
    /// The file has no valid summary.
    Summary(SummaryFault),
    /// A chunk does not begin with the nonce in the header.
    Nonce,
    /// The library field of the header does not match the channels, or has no valid version. Empty if the channels are
    /// those of `blocksd` and the header is not.
    Library(String),
    /// The CRC of the data section does not match.
    DataCrc {
        /// The stored CRC.
        stored: u32,
        /// The calculated CRC.
        calculated: u32,
    },
    /// The times in the header of a chunk do not match its messages.
    ChunkTimes,
    /// The index of a chunk does not match its messages.
    MessageIndex,
    /// The summary does not match a chunk.
    ChunkIndex {
        /// Offset of the chunk in the file.
        offset: u64,
    },
    /// The records of one type are not at the offset that the summary states.
    Group {
        /// The opcode of the records.
        opcode: u8,
    },
    /// A record that is not allowed at this offset.
    Stray {
        /// Its opcode.
        opcode: u8,
    },
    /// An attachment is not whole.
    Attachment,
    /// A channel has conflicting definitions.
    Channel {
        /// Its number.
        id: u16,
    },
    /// A schema has conflicting definitions, or none.
    Schema {
        /// Its number.
        id: u16,
    },
    /// A message belongs to a channel that is not defined.
    UnknownChannel {
        /// The number of the channel.
        id: u16,
    },
    /// A record with the origin of messages has the wrong length, or its channel is not defined.
    Origin {
        /// The number of the channel, if the record has one.
        channel: Option<u16>,
    },
    /// Messages are missing: there is a gap in the sequence numbers.
    Sequence {
        /// The topic of the channel.
        topic: String,
        /// Expected sequence number.
        want: u32,
        /// Sequence number of the message.
        found: u32,
    },
    /// The summary has no statistics.
    NoStatistics,
    /// A value of the statistics does not match the data.
    Statistics {
        /// Name of the value.
        of: &'static str,
        /// Value in the statistics.
        stated: u64,
        /// Value calculated from the data.
        found: u64,
    },
    /// The statistics state another number of messages of a channel than the data has.
    Count {
        /// Number of the channel.
        id: u16,
        /// Value in the statistics.
        stated: u64,
        /// Value calculated from the data.
        found: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}", self.offset, self.kind)
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(lost) => write!(f, "{} bytes lost: {}", lost.len, lost.cause),
            Self::Summary(fault) => fault.fmt(f),
            Self::Library(library) if library.is_empty() => {
                f.write_str("the channels are those of blocksd, but the header is not")
            }
            Self::Library(library) => write!(f, "header has no valid version: {library:?}"),
            Self::Nonce => f.write_str("chunk does not begin with the nonce of the file"),
            Self::DataCrc { stored, calculated } => {
                write!(
                    f,
                    "CRC of the data section: expected {stored:08x}, found {calculated:08x}"
                )
            }
            Self::ChunkTimes => f.write_str("times of the chunk do not match its messages"),
            Self::MessageIndex => f.write_str("index of messages does not match the chunk"),
            Self::ChunkIndex { offset } => {
                write!(f, "index of chunks does not match the chunk at {offset}")
            }
            Self::Group { opcode } => write!(
                f,
                "group of records {opcode:#04x} is not at the stated offset"
            ),
            Self::Stray { opcode } => write!(f, "record {opcode:#04x} is not allowed here"),
            Self::Attachment => f.write_str("attachment is not whole"),
            Self::Channel { id } => write!(f, "conflicting definitions of channel {id}"),
            Self::Schema { id } => write!(f, "conflicting definitions of schema {id}, or none"),
            Self::UnknownChannel { id } => write!(f, "message of unknown channel {id}"),
            Self::Origin { channel: None } => f.write_str("origin of messages is too short"),
            Self::Origin { channel: Some(id) } => {
                write!(
                    f,
                    "origin of messages of channel {id}: wrong length, or unknown channel"
                )
            }
            Self::Sequence { topic, want, found } => {
                write!(f, "{topic}: sequence gap: expected {want}, found {found}")
            }
            Self::NoStatistics => f.write_str("summary has no statistics"),
            Self::Statistics { of, stated, found } => {
                write!(f, "statistics: {of}: stated {stated}, found {found}")
            }
            Self::Count { id, stated, found } => {
                write!(
                    f,
                    "statistics: messages of channel {id}: stated {stated}, found {found}"
                )
            }
        }
    }
}
