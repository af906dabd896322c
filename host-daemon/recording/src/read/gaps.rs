//! Counts the messages of files that were deleted before they were read: [`Gaps`] compares sequence numbers.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How long missed files wait for messages that show how many are missing.
const REPORT: Duration = Duration::from_secs(1);

/// Files of a recording that were deleted before they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missed {
    /// Number of files.
    pub files: u64,
    /// Number of messages in them, as far as the sequence numbers of later messages show it. A device that sends no more
    /// messages may have had others.
    pub messages: u64,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: u64, noun: &str| match count {
            1 => format!("1 {noun}"),
            count => format!("{count} {noun}s"),
        };
        let messages = counted(self.messages, "message");
        let (were, they) = match self.files {
            1 => ("was", "it was"),
            _ => ("were", "they were"),
        };
        let files = counted(self.files, "file");
        match (self.files, self.messages) {
            (0, _) => write!(
                f,
                "{messages} more {} in files that were deleted before they were read",
                if self.messages == 1 { "was" } else { "were" }
            ),
            (_, 0) => write!(f, "{files} {were} deleted before {they} read"),
            _ => write!(
                f,
                "{files} {were} deleted before {they} read, with {messages}"
            ),
        }
    }
}

/// The sequence numbers of all topics, to count missing messages after files were missed.
///
/// In a sound recording, the numbers of a topic continue from file to file. They begin again at 0 if the program that
/// records is restarted, or if the device was away during a whole file. Those of a session begin at any number.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    slots: Vec<Slot>,
    by_topic: HashMap<(String, Option<String>), usize>,
    /// How many times files were missed.
    epoch: u64,
    missed: Missed,
    /// When files were missed after which no message came yet.
    open: Option<Instant>,
    /// Files were passed over, so that the number of a topic's first message shows nothing.
    is_partial: bool,
}

/// The numbers of one topic, or of one session of it.
#[derive(Debug, Default)]
struct Slot {
    is_session: bool,
    /// The number after the last message; `None` before the first.
    next: Option<u32>,
    /// The epoch of the last message.
    epoch: u64,
}

impl Gaps {
    /// Returns the slot of a topic, or of a session of it.
    pub(super) fn slot(&mut self, topic: &str, session: Option<&str>) -> usize {
        let key = (topic.to_owned(), session.map(str::to_owned));
        if let Some(slot) = self.by_topic.get(&key) {
            return *slot;
        }
        self.slots.push(Slot {
            is_session: session.is_some(),
            ..Slot::default()
        });
        let slot = self.slots.len() - 1;
        self.by_topic.insert(key, slot);
        slot
    }

    /// Records that files were missed. The next message of each topic shows how many messages they had.
    pub(super) fn miss(&mut self, files: u64) {
        self.missed.files = self.missed.files.saturating_add(files);
        self.epoch += 1;
        self.open.get_or_insert_with(Instant::now);
    }

    /// Records that files are passed over: later numbers of a topic do not show that messages are missing before its first.
    pub(super) const fn pass_over(&mut self) {
        self.is_partial = true;
    }

    /// Takes the number of a message. `is_counted` says whether missing messages of its topic count.
    #[inline]
    pub(super) fn take(&mut self, slot: usize, sequence: u32, is_counted: bool) {
        let Some(slot) = self.slots.get_mut(slot) else {
            return;
        };
        if slot.epoch != self.epoch {
            slot.epoch = self.epoch;
            let ahead = slot.next.map(|next| sequence.wrapping_sub(next));
            // Where numbers begin at 0, at least the messages from 0 on are missing.
            let from_zero = if slot.is_session { 0 } else { sequence };
            let ahead = ahead.map(|ahead| {
                if ahead <= u32::MAX / 2 {
                    ahead
                } else {
                    from_zero
                }
            });
            let missing = ahead.unwrap_or(if self.is_partial { 0 } else { from_zero });
            if is_counted {
                self.missed.messages += u64::from(missing);
            }
            self.open = None;
        }
        slot.next = Some(sequence.wrapping_add(1));
    }

    /// Returns what was missed since the last call, if anything. Missed files are returned with the first messages after
    /// them, or after a moment.
    pub(super) fn report(&mut self) -> Option<Missed> {
        if self.open.is_some_and(|since| since.elapsed() < REPORT) {
            return None;
        }
        let missed = std::mem::take(&mut self.missed);
        (missed != Missed::default()).then_some(missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_numbers_count_only_after_missed_files() {
        let mut gaps = Gaps::default();
        let (a, b) = (gaps.slot("a", None), gaps.slot("b", None));
        gaps.take(a, 7, true);
        gaps.take(a, 20, true);
        gaps.take(b, 5, true);
        assert_eq!(gaps.report(), None);
        gaps.miss(2);
        gaps.take(a, 31, true);
        gaps.take(a, 50, true);
        let missed = Missed {
            files: 2,
            messages: 10,
        };
        assert_eq!(gaps.report(), Some(missed));
        // A topic that continues later, one that begins again, and one that began in the missed files.
        gaps.take(b, 6, true);
        assert_eq!(gaps.report(), None);
        gaps.miss(1);
        gaps.take(a, 3, true);
        let new = gaps.slot("new", None);
        gaps.take(new, 4, true);
        gaps.take(b, 100, false);
        assert_eq!(
            gaps.report(),
            Some(Missed {
                files: 1,
                messages: 7
            })
        );
        // Files that were missed before any message after them.
        gaps.miss(1);
        assert_eq!(gaps.report(), None);
        gaps.take(a, 4, true);
        assert_eq!(
            gaps.report(),
            Some(Missed {
                files: 1,
                messages: 0
            })
        );
        // The numbers of a session begin anywhere. Those of two sessions do not follow each other.
        let sessions = ["one", "other"].map(|session| gaps.slot("a", Some(session)));
        gaps.miss(1);
        gaps.take(sessions[0], 1_000, true);
        gaps.take(sessions[1], 5, true);
        let missed = |messages| Some(Missed { files: 1, messages });
        assert_eq!(gaps.report(), missed(0));
        gaps.miss(1);
        gaps.take(sessions[0], 1_003, true);
        gaps.take(sessions[1], 6, true);
        assert_eq!(gaps.report(), missed(2));
        // The first number of a topic shows nothing if its earlier files were not read.
        gaps.pass_over();
        gaps.miss(1);
        let late = gaps.slot("late", None);
        gaps.take(late, 1_000, true);
        assert_eq!(
            gaps.report(),
            Some(Missed {
                files: 1,
                messages: 0
            })
        );
        // Numbers begin again after the last one.
        gaps.take(a, 5, true);
        gaps.take(a, u32::MAX, true);
        gaps.miss(1);
        gaps.take(a, 2, true);
        assert_eq!(
            gaps.report(),
            Some(Missed {
                files: 1,
                messages: 2
            })
        );
    }

    #[test]
    fn what_was_missed_is_a_sentence() {
        let text = |files, messages| Missed { files, messages }.to_string();
        assert_eq!(
            text(1, 1),
            "1 file was deleted before it was read, with 1 message"
        );
        assert_eq!(
            text(3, 860),
            "3 files were deleted before they were read, with 860 messages"
        );
        assert_eq!(text(2, 0), "2 files were deleted before they were read");
        assert_eq!(
            text(0, 5),
            "5 messages more were in files that were deleted before they were read"
        );
    }
}
