//! Ranges of a file that are lost: [`LostRange`].

use std::fmt;

use crate::format::chunk::ChunkFault;

/// A range of bytes that are not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// Where they begin in the file.
    pub offset: u64,
    /// How many they are.
    pub len: u64,
    /// Why they are lost.
    pub cause: LossCause,
}

/// Why bytes are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// The file does not begin as a recording.
    NoHeader,
    /// A chunk that is not whole.
    Chunk(ChunkFault),
    /// The beginning of a record that was not finished: it ends with the file.
    Cut,
    /// Zeros up to the end of the file: space that was never written.
    Zeros,
    /// No record, or one that has no place here.
    NoRecord,
    /// What is broken is the summary: no message stood there.
    Summary,
}

impl LossCause {
    /// Whether messages are, or may be, lost.
    #[must_use]
    pub const fn loses_messages(&self) -> bool {
        !matches!(self, Self::Summary | Self::Zeros)
    }

    /// Whether this is all that a crash leaves of what was not written whole, if it reaches to the end of the file.
    #[must_use]
    pub const fn is_tail(&self) -> bool {
        let cut = matches!(self, Self::Cut | Self::Chunk(ChunkFault::Cut { .. }));
        cut || matches!(self, Self::Summary | Self::Zeros)
    }
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => f.write_str("no header of an MCAP file"),
            Self::Chunk(fault) => fault.fmt(f),
            Self::Cut => f.write_str("cut in the middle of a record"),
            Self::NoRecord => f.write_str("no record"),
            Self::Zeros => f.write_str("zeros, never written"),
            Self::Summary => f.write_str("the summary is broken"),
        }
    }
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, len, cause } = self;
        write!(f, "{len} bytes lost at {offset}: {cause}")
    }
}
