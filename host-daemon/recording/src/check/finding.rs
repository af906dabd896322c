//! Findings of a check: [`Finding`].

use std::fmt;

use crate::read::loss::LostRange;
use crate::read::summary::SummaryFault;

/// A defect of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// Its kind.
    pub kind: FindingKind,
}

/// The kind of a [`Finding`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// A range of bytes that is not whole.
    Lost(LostRange),
    /// The file has no valid summary.
    Summary(SummaryFault),
    /// A chunk does not begin with the nonce that the header names.
    Nonce,
    /// The header names another writer than the channels do, or no version of it.
    Library(String),
    /// The CRC of the data section does not match.
    DataCrc {
        /// The stored CRC.
        stored: u32,
        /// The calculated CRC.
        calculated: u32,
    },
    /// The times of a chunk do not match its messages.
    ChunkTimes,
    /// The index after a chunk does not match its messages.
    MessageIndex,
    /// The summary does not match a chunk.
    ChunkIndex {
        /// Offset of the chunk in the file.
        offset: u64,
    },
    /// A group of records is not at the offset that the summary states.
    Group {
        /// The opcode of the records.
        opcode: u8,
    },
    /// A record that is not allowed there.
    Stray {
        /// Its opcode.
        opcode: u8,
    },
    /// An attachment that is not whole.
    Attachment,
    /// A channel with conflicting definitions.
    Channel {
        /// Its number.
        id: u16,
    },
    /// A schema with conflicting definitions, or without any.
    Schema {
        /// Its number.
        id: u16,
    },
    /// A message of a channel that is not defined.
    UnknownChannel {
        /// The number of the channel.
        id: u16,
    },
    /// Messages of a device are missing.
    Sequence {
        /// The topic of the channel.
        topic: String,
        /// Number that should have come.
        want: u32,
        /// Number that came.
        found: u32,
    },
    /// A summary without statistics.
    NoStatistics,
    /// A figure of the statistics does not match the data.
    Statistics {
        /// The name of the figure.
        of: &'static str,
        /// Figure in the statistics.
        stated: u64,
        /// Figure in the data.
        found: u64,
    },
    /// A channel has more or fewer messages than the statistics say.
    Count {
        /// Its number.
        id: u16,
        /// Figure in the statistics.
        stated: u64,
        /// Figure in the data.
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
                f.write_str("the channels are of blocksd, but the header is not")
            }
            Self::Library(library) => write!(f, "header names no version: {library:?}"),
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
