//! What a dispatcher takes, and why it ends: [`Input`], [`Start`] and [`End`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;
use crate::confirm::Unsettled;
use crate::cursor::Newest;
use crate::files::KnownFiles;
use crate::place::{Instance, Place};
use crate::progress::Unread;
use crate::stream::Extent;

/// What was read of the recording.
#[derive(Debug)]
pub(crate) enum Input {
    /// Batches, in their order, and where the part of the recording begins that is not read; `None` if that is nothing.
    Batches(Vec<Batch>, Option<Unread>),
    /// Everything before this place was read.
    Reached(Place),
    /// Everything that was recorded before the start was read.
    CaughtUp {
        /// Except for a part that could not be read.
        is_damaged: bool,
    },
    /// What was recorded of these sessions was read.
    Unsettled(Vec<Asked>),
}

/// A session that is to be settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The subject of its device.
    pub subject: Arc<str>,
    /// The gap after its last message: numbers from one to before another.
    pub gap: Option<(u64, u64)>,
    /// All of the recording could be read, as far as that shows.
    pub is_whole: bool,
    /// The session.
    pub unsettled: Unsettled,
}

/// Where a recording has got to in a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// For each subject, the place, and the message that says so.
    pub subjects: HashMap<Arc<str>, (Place, Newest)>,
    /// A stream that has these messages has everything that was reached. The stream may have lost them since.
    pub proofs: Vec<Newest>,
    /// When the stream was created.
    pub created: i128,
}

/// Why a dispatcher has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The input has ended, and everything is stored.
    Finished,
    /// The stream has lost messages that it had acknowledged: begin again at the newest cursor that it still has.
    Lost,
    /// Another recording has the same identity: begin again at the last cursor, with a new one.
    Copied(Reached),
    /// Begin again at the last cursor, for this reason.
    Again(Reached, Again),
}

/// Why a recording is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// The longest body of a message of the stream is another one.
    BodyMax {
        /// Its length before, in bytes.
        before: usize,
        /// Its length now, in bytes.
        now: usize,
    },
    /// Of a subject that the stream takes again, not all was kept.
    Parked,
}

/// What is known before anything is published.
pub(crate) struct Start {
    /// The identity of the recording.
    pub instance: Instance,
    /// Its files.
    pub files: KnownFiles,
    /// The stream.
    pub extent: Extent,
    /// The newest message of the cursor at which the reading begins.
    pub newest: Option<Newest>,
    /// What an earlier dispatcher knew.
    pub reached: Reached,
    /// The stream has gone back to an older state, and has everything up to this sequence number. Later messages are read: the headers of
    /// those that were on their way meanwhile name lost ones.
    pub since: Option<u64>,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BodyMax { before, now } => write!(
                f,
                "the body of a message has at most {now} bytes now, and had {before} (`max_msg_size` of the stream, or `max_payload` \
                 of the server)"
            ),
            Self::Parked => f.write_str(
                "a subject that the stream did not take is taken again, and not all of it was kept in memory",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_again_has_a_reason() {
        let subject = Again::Parked.to_string();
        assert!(subject.contains("is taken again"), "{subject}");
        let (before, now) = (262_144, 49_152);
        let size = Again::BodyMax { before, now }.to_string();
        assert!(
            size.contains("at most 49152 bytes now, and had 262144 (`max_msg_size`"),
            "{size}"
        );
    }
}
