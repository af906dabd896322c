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
    /// Bytes that are not whole.
    Lost(LostRange),
    /// There is no summary that can be believed.
    Summary(SummaryFault),
    /// A chunk does not begin with the nonce that the header names.
    Nonce,
    /// The header names another writer than the channels do, or no version of it.
    Library(String),
    /// The data section has another CRC.
    DataCrc {
        /// As it should be.
        stored: u32,
        /// As it is.
        calculated: u32,
    },
    /// A chunk's times are not those of its messages.
    ChunkTimes,
    /// The index behind a chunk is not that of its messages.
    MessageIndex,
    /// The summary says something else of a chunk than what is there.
    ChunkIndex {
        /// Where the chunk begins.
        offset: u64,
    },
    /// The summary says that a group of its records is where it is not.
    Group {
        /// Of which records.
        opcode: u8,
    },
    /// A record that has no place there.
    Stray {
        /// Of which kind.
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
    /// The statistics are not those of the data.
    Statistics {
        /// Of what.
        of: &'static str,
        /// What they say.
        told: u64,
        /// What is there.
        found: u64,
    },
    /// A channel has more or fewer messages than the statistics say.
    Count {
        /// Its number.
        id: u16,
        /// What they say.
        told: u64,
        /// What is there.
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
                f.write_str("the channels are of blocksd, but not the header")
            }
            Self::Library(library) => write!(f, "header names no version: {library:?}"),
            Self::Nonce => f.write_str("chunk does not begin with the nonce of the file"),
            Self::DataCrc { stored, calculated } => {
                write!(f, "data section has CRC {calculated:08x}, not {stored:08x}")
            }
            Self::ChunkTimes => f.write_str("times of the chunk are not those of its messages"),
            Self::MessageIndex => f.write_str("index of messages is not that of the chunk"),
            Self::ChunkIndex { offset } => {
                write!(f, "index of chunks is not that of the chunk at {offset}")
            }
            Self::Group { opcode } => write!(
                f,
                "no group of records {opcode:#04x} at the offset in the summary"
            ),
            Self::Stray { opcode } => write!(f, "record {opcode:#04x} has no place here"),
            Self::Attachment => f.write_str("attachment is not whole"),
            Self::Channel { id } => write!(f, "conflicting definitions of channel {id}"),
            Self::Schema { id } => write!(f, "conflicting definitions of schema {id}, or none"),
            Self::UnknownChannel { id } => write!(f, "message of unknown channel {id}"),
            Self::Sequence { topic, want, found } => {
                write!(f, "{topic}: sequence gap: expected {want}, found {found}")
            }
            Self::NoStatistics => f.write_str("summary has no statistics"),
            Self::Statistics { of, told, found } => {
                write!(f, "statistics say {of} {told}, there is {found}")
            }
            Self::Count { id, told, found } => {
                write!(
                    f,
                    "channel {id} has {found} messages, statistics say {told}"
                )
            }
        }
    }
}
