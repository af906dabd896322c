//! What a dispatcher takes, and why it ends: [`Input`], [`Start`] and [`End`].

use std::collections::HashMap;
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
    /// The stream has lost messages that it had acknowledged: begin again at the beginning.
    Lost,
    /// Another recording has the same identity: begin again at the last cursor, with a new one.
    Copied(Reached),
    /// What was read was not kept, or the longest message of the stream is another one now: begin again at the last cursor.
    Again(Reached),
}

/// What is known before anything is published.
pub(crate) struct Start {
    /// The identity of the recording.
    pub instance: Instance,
    /// Its files.
    pub files: KnownFiles,
    /// The stream.
    pub extent: Extent,
    /// The newest message that the stream has acknowledged.
    pub newest: Option<Newest>,
    /// What an earlier dispatcher knew.
    pub reached: Reached,
}
