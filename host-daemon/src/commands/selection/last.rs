//! Where the last messages of a recording begin: [`begin`].

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::cli::Last;
use crate::error::CommandError;
use blocksd_recording::catalog::list;
use blocksd_recording::{Error, LostRange, Message, Reader, Visitor, Wanted};

/// How much earlier than a message an event may be that is recorded after it, in nanoseconds: it waits while the disk is slow.
const EVENT_DELAY_NS: u64 = 5_000_000_000;

/// Finds the time from which on to read, and how many of the selected messages from then on precede the last ones.
/// Reads the newest files only, until they have enough messages.
///
/// # Errors
/// [`Error::Read`] if a path does not exist.
pub(super) fn begin(
    paths: &[PathBuf],
    wanted: &Wanted,
    last: Last,
) -> Result<(u64, u64), CommandError> {
    let nothing = (wanted.from, 0);
    let count = match last {
        Last::Count(count) => count,
        Last::Within(_) => 1,
    };
    if !paths.iter().all(|path| path.exists()) {
        // The command reports the path, or waits for it.
        return Ok(nothing);
    }
    let mut found = Newest::default();
    for file in list(paths)?.into_iter().rev() {
        let missing = count.saturating_sub(found.times.len() as u64);
        if missing == 0 {
            break;
        }
        let mut newest = Newest::of(missing);
        // The command itself reports what cannot be read.
        let _ = Reader::new(vec![file.path], wanted.clone()).visit(&mut newest);
        found.precede(newest);
    }
    let Some(newest) = found.newest else {
        return Ok(nothing);
    };
    if let Last::Within(duration) = last {
        let duration = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        return Ok((newest.saturating_sub(duration), 0));
    }
    let first = found.times.iter().copied().min().unwrap_or(wanted.from);
    let from = first.saturating_sub(EVENT_DELAY_NS).max(wanted.from);
    // Some of these messages precede the last ones.
    let range = Wanted {
        from,
        ..wanted.clone()
    };
    let mut counted = Newest::of(0);
    Reader::new(paths.to_vec(), range).visit(&mut counted)?;
    Ok((from, counted.count.saturating_sub(count)))
}

/// The times of the newest messages.
#[derive(Debug, Default)]
struct Newest {
    times: VecDeque<u64>,
    max: u64,
    count: u64,
    newest: Option<u64>,
}

impl Newest {
    /// Keeps the times of up to `max` messages.
    fn of(max: u64) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// Puts the messages of an earlier file before these.
    fn precede(&mut self, earlier: Self) {
        for time in earlier.times.into_iter().rev() {
            self.times.push_front(time);
        }
        self.newest = self.newest.max(earlier.newest);
    }
}

impl Visitor for Newest {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        if !message.channel.kind.is_payload() {
            return Ok(());
        }
        self.count += 1;
        self.newest = self.newest.max(Some(message.time));
        if self.max != 0 {
            if self.max <= self.times.len() as u64 {
                self.times.pop_front();
            }
            self.times.push_back(message.time);
        }
        Ok(())
    }

    fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), CommandError> {
        Ok(())
    }

    fn unreadable(&mut self, _: Error) -> Result<(), CommandError> {
        Ok(())
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        Ok(())
    }
}
