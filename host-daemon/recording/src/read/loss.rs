//! Ranges of a file that are lost: [`LostRange`].

use std::fmt;

use crate::format::chunk::ChunkFault;
use crate::read::unreadable::UnreadableRange;

/// A range of bytes in a file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// Offset of the range in the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Why the range is lost.
    pub cause: LossCause,
}

/// The losses of a visit of recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Number of lost bytes in the files that were read.
    pub bytes: u64,
    /// Number of files that cannot be read.
    pub files: u64,
}

impl Losses {
    /// Returns whether nothing is lost.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.bytes == 0 && self.files == 0
    }
}

/// Why a range is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// The file does not begin with the header of a recording.
    NoHeader,
    /// A chunk is not whole.
    Chunk(ChunkFault),
    /// An unfinished record at the end of the file.
    Cut,
    /// Zeros up to the end of the file: space that was allocated and never written.
    Zeros,
    /// Not a record, or a record that is not allowed here.
    NoRecord,
    /// The summary is damaged. It contains no messages.
    Summary,
    /// A record without messages that exceeds the longest length that is read.
    TooLong,
    /// The disk cannot read these bytes of the range.
    Unreadable(UnreadableRange),
}

impl LossCause {
    /// Returns whether messages may be lost.
    #[must_use]
    pub const fn loses_messages(&self) -> bool {
        !matches!(self, Self::Summary | Self::Zeros | Self::TooLong)
    }

    /// Returns whether a crash alone can leave such a range at the end of a file.
    #[must_use]
    pub const fn is_tail(&self) -> bool {
        let cut = matches!(self, Self::Cut | Self::Chunk(ChunkFault::Cut { .. }));
        cut || matches!(self, Self::Summary | Self::Zeros)
    }
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => f.write_str("not the header of an MCAP file"),
            Self::Chunk(fault) => fault.fmt(f),
            Self::Cut => f.write_str("cut in the middle of a record"),
            Self::NoRecord => f.write_str("not a valid record"),
            Self::Zeros => f.write_str("zeros, never written"),
            Self::Summary => f.write_str("the summary is broken"),
            Self::TooLong => {
                f.write_str("an attachment, or another record without messages, that is too long")
            }
            Self::Unreadable(range) => range.fmt(f),
        }
    }
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, len, cause } = self;
        write!(f, "{len} bytes lost at {offset}: {cause}")
    }
}
