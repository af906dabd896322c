//! The recordings of the demo. [`recording`] records the demo's daemon, and [`read`] reads a recording.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blocksd_recording::topic::Kind;
use blocksd_recording::{
    Lock, LogOptions, LostRange, Message, Reader, Retention, Stats, Visitor, Wanted,
};
use tokio::sync::mpsc::unbounded_channel;

use crate::error::CommandError;
use crate::sinks::recording::{self, Recording};
use crate::view::RecordingSource;

/// The recorded messages of each device.
pub(super) type Messages = HashMap<Arc<str>, Vec<Vec<u8>>>;

/// The sink that records to `folder`, and what a view shows of it.
///
/// # Errors
/// If the folder cannot be used.
pub(super) fn recording(folder: &Path) -> Result<(Recording, RecordingSource), CommandError> {
    let lock = Lock::take(folder)?;
    let source = RecordingSource {
        directory: folder.to_owned(),
        stats: Arc::<Stats>::default(),
        retention: Retention::new(None),
        sync_after: LogOptions::default().sync_after,
    };
    let (stats, retention) = (Arc::clone(&source.stats), Arc::clone(&source.retention));
    let context = recording::context(&lock, stats, retention)?;
    // The demo records no events of the daemon itself.
    let (_, lifecycle) = unbounded_channel();
    let options = LogOptions::default();
    let recording = Recording::open(lock, options, context, Arc::default(), lifecycle)?;
    Ok((recording, source))
}

/// Reads the messages in a folder.
///
/// # Errors
/// [`CommandError::Recording`].
pub(super) fn read(folder: PathBuf) -> Result<Messages, CommandError> {
    let mut kept = Kept(HashMap::new());
    // A lost range has no messages, so the counts show it.
    Reader::new(vec![folder], Wanted::default()).visit(&mut kept)?;
    Ok(kept.0)
}

/// Messages of a session, compared with those that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Number of sent messages that were kept.
    pub(super) kept: u64,
    /// Their bytes, and those of messages that were not sent.
    pub(super) bytes: u64,
    /// Number of messages that were kept although they were kept before.
    pub(super) twice: u64,
}

/// Compares messages that are all different with the kept ones.
pub(super) fn compare(sent: &[Vec<u8>], kept: &[Vec<u8>]) -> Compared {
    let distinct: HashSet<_> = kept.iter().collect();
    Compared {
        kept: sent.iter().filter(|sent| distinct.contains(sent)).count() as u64,
        bytes: distinct.iter().map(|message| message.len() as u64).sum(),
        twice: (kept.len() - distinct.len()) as u64,
    }
}

struct Kept(Messages);

impl Visitor for Kept {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        if message.channel.kind == Kind::Blocks {
            let device = Arc::clone(&message.channel.device);
            let messages = self.0.entry(device).or_default();
            messages.push(message.data.to_vec());
        }
        Ok(())
    }

    fn lost(&mut self, _file: &Path, _lost: &LostRange) -> Result<(), CommandError> {
        Ok(())
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_repeated_and_foreign_messages_are_seen() {
        let messages = |texts: &[&str]| -> Vec<Vec<u8>> {
            let texts = texts.iter();
            texts.map(|text| text.as_bytes().to_vec()).collect()
        };
        let sent = messages(&["one", "two", "three"]);
        for (kept, counts) in [
            (&["one", "two", "three"][..], (3, 11, 0)),
            (&["one", "three"], (2, 8, 0)),
            (&["one", "two", "two", "three"], (3, 11, 1)),
            (&["one", "two", "three", "four"], (3, 15, 0)),
        ] {
            let compared = compare(&sent, &messages(kept));
            let Compared { kept, bytes, twice } = compared;
            assert_eq!((kept, bytes, twice), counts);
        }
    }
}
