//! How far a forwarder has got: [`Progress`], for metrics, health, and the retention of the recording.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use blocksd_recording::Missed;
use tokio::time::Instant;

use crate::place::Place;
use crate::stream::StreamError;

/// The reasons of failures, in the order of [`ProgressSnapshot::failures`].
pub const REASONS: [&str; 6] = [
    "timeout",
    "no_stream",
    "foreign",
    "refused",
    "other",
    "moved",
];

/// Largest number of reasons that are logged until it works again.
const LOGGED_MAX: usize = 16;

/// A failure that passes is not logged so shortly after it has worked again: after the loss of a leader, some subjects are taken
/// before others.
const UNSETTLED: Duration = Duration::from_secs(5);

/// Counters and state of a forwarder. Each figure is exact, but they are not read at one moment.
#[derive(Debug, Default)]
pub struct Progress {
    /// Cluster and stream, for the log.
    to: String,
    messages: AtomicU64,
    bytes: AtomicU64,
    published: AtomicU64,
    answered: AtomicU64,
    missed: AtomicU64,
    failures: [AtomicU64; REASONS.len()],
    queued_bytes: AtomicU64,
    oldest_ns: AtomicU64,
    state: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    place: Option<Place>,
    problem: Option<String>,
    /// The reasons that were logged since it has worked last.
    logged: Vec<String>,
    /// When the log has said last that it works again.
    works_since: Option<Instant>,
    unread: Option<Unread>,
    /// Where that begins which was read and cannot be handed over yet.
    held: Option<Unread>,
    reading: ReadingAt,
}

/// Which files of a recording are read, and which were deleted before.
#[derive(Debug, Default)]
struct ReadingAt {
    /// The newest file whose reading has begun.
    file: u64,
    /// Where reading begins: the file, and how many of its messages are stored.
    begin: (u64, u64),
    /// The files that were deleted before they were read, and their messages, as far as they are counted and the reader has not
    /// noticed it.
    deleted: (u64, u64),
    /// Messages of them that the log has named, and the report of the reader has not.
    named: u64,
    /// The files that were deleted after their reading had begun, and their messages: some may be stored.
    read: Vec<(u64, u64)>,
}

/// Where the part of a recording begins that is not read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Number of the file.
    pub number: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
}

/// A copy of [`Progress`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// Messages of devices, pieces and events that the stream has stored since the start.
    pub messages: u64,
    /// Bytes of the bodies that it has stored.
    pub bytes: u64,
    /// Messages of the stream that hold them.
    pub published: u64,
    /// Calls for subjects that the stream has answered.
    pub answered: u64,
    /// Messages of the recording that were deleted before they were read.
    pub missed: u64,
    /// Failures by [reason](REASONS).
    pub failures: [u64; REASONS.len()],
    /// Bytes that are read and not stored yet.
    pub queued_bytes: u64,
    /// When the oldest message that is read and not stored yet was received, in nanoseconds since 1970; 0 if there is none.
    pub oldest_ns: u64,
    /// Everything before this place is stored.
    pub place: Option<Place>,
    /// What keeps the forwarder from its work, if something does.
    pub problem: Option<String>,
    /// The beginning of the unread part; `None` if everything is read.
    pub unread: Option<Unread>,
}

impl Progress {
    /// Of a forwarder to this cluster and stream, such as `nats://n1:4222 stream=fleet`: each line of the log names them.
    #[must_use]
    pub fn to(label: impl Into<String>) -> Self {
        Self {
            to: label.into(),
            state: Mutex::new(Shown {
                unread: Some(Unread::default()),
                ..Shown::default()
            }),
            ..Self::default()
        }
    }

    /// Returns a copy.
    #[must_use]
    pub fn read(&self) -> ProgressSnapshot {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shown = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        ProgressSnapshot {
            messages: of(&self.messages),
            bytes: of(&self.bytes),
            published: of(&self.published),
            answered: of(&self.answered),
            missed: of(&self.missed),
            failures: self.failures.each_ref().map(of),
            queued_bytes: of(&self.queued_bytes),
            oldest_ns: of(&self.oldest_ns),
            place: shown.place,
            problem: shown.problem.clone(),
            unread: shown.unread.or(shown.held),
        }
    }

    /// The stream has answered a call for a subject.
    pub(crate) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stored(&self, messages: u64, bytes: usize) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing keeps the forwarder from its work. Logs that if the log has a reason why it did not work.
    pub(crate) fn works(&self) {
        let is_news = self.shown(|it| {
            it.problem = None;
            let is_news = !it.logged.is_empty();
            if is_news {
                it.logged.clear();
                it.works_since = Some(Instant::now());
            }
            is_news
        });
        if is_news {
            tracing::info!("forward to {}: it works again", self.to);
        }
    }

    /// The stream has everything again that it had lost. Logs that.
    pub(crate) fn repaired(&self) {
        tracing::info!("forward to {}: the stream has all messages again", self.to);
    }

    /// Something keeps the forwarder from its work. Logs the first reason, and each other one that says what to do, until it works
    /// again. Shortly after that, only a reason that says what to do.
    pub(crate) fn failed(&self, error: &StreamError) {
        self.count(error.reason());
        let text = error.to_string();
        let is_vague = matches!(
            error,
            StreamError::Timeout(_) | StreamError::NoStream | StreamError::Other(_)
        );
        let is_new = self.shown(|it| {
            let count = it.logged.len();
            let is_unsettled = it.works_since.is_some_and(|at| at.elapsed() < UNSETTLED);
            let is_wanted = match is_vague {
                true => count == 0 && !is_unsettled,
                false => count < LOGGED_MAX,
            };
            let is_new = is_wanted && !it.logged.contains(&text);
            if is_new {
                it.logged.push(text.clone());
            }
            it.problem = Some(text);
            is_new
        });
        if is_new {
            self.note(format_args!("{error}; trying again"));
        }
    }

    /// Logs a warning, which names cluster and stream.
    pub(crate) fn note(&self, warning: impl Display) {
        tracing::warn!("forward to {}: {warning}", self.to);
    }

    /// Counts that another daemon has written to the subject of a device.
    pub(crate) fn moved(&self) {
        self.count("moved");
    }

    /// Notes that the recording deletes a file with this number, and the number of its messages. Counts those that were not read.
    pub fn deleted(&self, number: u64, messages: u64) {
        let missed = self.shown(|it| {
            let reading = &mut it.reading;
            if number <= reading.file {
                reading.read.push((number, messages));
                return 0;
            }
            let stored = match reading.begin {
                (begin, stored) if begin == number => stored,
                _ => 0,
            };
            let missed = messages.saturating_sub(stored);
            reading.deleted.0 += 1;
            reading.deleted.1 += missed;
            missed
        });
        if missed != 0 {
            self.missed.fetch_add(missed, Ordering::Relaxed);
            self.note(format_args!(
                "{missed} messages of file {number} of the recording were deleted before they were forwarded"
            ));
        }
    }

    /// Reading begins at a place, or at the first file.
    pub fn begins(&self, place: Option<Place>) {
        let (number, messages) = place.map_or((0, 0), |it| (it.number, it.messages));
        self.shown(|it| {
            it.reading.file = number.saturating_sub(1);
            it.reading.begin = (number, messages);
            if place.is_none() {
                // Nobody notices that files before the first one are missing.
                it.reading.deleted = (0, 0);
                it.reading.named = 0;
            }
            it.unread = Some(Unread { number, offset: 0 });
        });
    }

    /// Reading begins again, not after the file `first`, and nothing after the place `taken` was taken. So many messages before it waited
    /// whose files, of this number, were deleted: they and those after it are never stored.
    pub(crate) fn dropped(&self, first: u64, taken: Place, files: u64, messages: u64) {
        let (files, messages) = self.shown(|it| {
            let reading = &mut it.reading;
            reading.file = reading.file.min(first.saturating_sub(1));
            let (mut files, mut messages) = (files, messages);
            for (number, count) in reading.read.drain(..) {
                let is_begun = number == taken.number;
                if is_begun || taken.number < number {
                    files += u64::from(!is_begun);
                    messages += count.saturating_sub(if is_begun { taken.messages } else { 0 });
                }
            }
            reading.deleted.0 += files;
            reading.deleted.1 += messages;
            (files, messages)
        });
        if messages != 0 {
            self.missed.fetch_add(messages, Ordering::Relaxed);
            self.note(format_args!(
                "{messages} messages waited whose files ({files}) were deleted, and are not forwarded"
            ));
        }
    }

    /// Reading of a file begins.
    pub(crate) fn reads(&self, number: u64) {
        self.shown(|it| it.reading.file = number.max(it.reading.file));
    }

    /// The reader has noticed that files are missing. Counts those whose [deletion](Self::deleted) was not noted: at least one
    /// message of each. Returns how many of the messages the log has named before, or `None` if it has named all that is missing.
    pub(crate) fn missed(&self, missed: &Missed) -> Option<u64> {
        let (deleted, named) = self.shown(|it| {
            let reading = &mut it.reading;
            let deleted = std::mem::take(&mut reading.deleted);
            if missed.files != 0 {
                reading.named = 0;
            }
            reading.named += deleted.1;
            let named = reading.named.min(missed.messages);
            reading.named -= named;
            (deleted, named)
        });
        let files = missed.files.saturating_sub(deleted.0);
        let messages = missed.messages.saturating_sub(deleted.1);
        if files != 0 {
            self.missed
                .fetch_add(messages.max(files), Ordering::Relaxed);
        }
        let is_named = files == 0 && named == missed.messages;
        (!is_named).then_some(named)
    }

    pub(crate) fn queued(&self, bytes: usize, oldest_ns: u64) {
        self.queued_bytes.store(bytes as u64, Ordering::Relaxed);
        self.oldest_ns.store(oldest_ns, Ordering::Relaxed);
    }

    pub(crate) fn reached(&self, place: Place) {
        self.shown(|it| {
            it.place = Some(place);
            it.reading.read.retain(|file| place.number <= file.0);
        });
    }

    pub(crate) fn unread(&self, unread: Option<Unread>) {
        self.shown(|it| it.unread = unread);
    }

    /// What begins there was read, and must wait until other messages are stored; `None` if it need not any more.
    pub(crate) fn held(&self, held: Option<Unread>) {
        self.shown(|it| it.held = held);
    }

    fn count(&self, reason: &str) {
        let index = REASONS.iter().position(|it| *it == reason);
        if let Some(counter) = index.and_then(|index| self.failures.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn shown<T>(&self, change: impl FnOnce(&mut Shown) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::CheckError;

    #[test]
    fn the_last_reason_is_shown_until_it_works_again() {
        let progress = Progress::default();
        let shown = |error: &StreamError| {
            progress.failed(error);
            progress.read().problem.unwrap_or_default()
        };
        assert!(shown(&StreamError::NoStream).ends_with("or elects a leader"));
        let missing = CheckError::NoStream("nats stream add".to_owned());
        let missing = shown(&StreamError::Unfit(missing));
        assert!(
            missing.starts_with("the stream does not exist"),
            "{missing}"
        );
        let denied = shown(&StreamError::Denied("x".to_owned()));
        let wanted = CheckError::Denied("x".to_owned()).to_string();
        assert_eq!(denied, wanted);
        assert_eq!(progress.read().failures, [0, 2, 0, 1, 0, 0]);
        progress.works();
        assert_eq!(progress.read().problem, None);
    }

    #[test]
    fn what_was_read_and_not_taken_is_missed_if_its_files_are_deleted() {
        let progress = Progress::default();
        progress.begins(None);
        progress.reads(6);
        for number in 2..=6 {
            progress.deleted(number, 100);
        }
        assert_eq!(progress.read().missed, 0);
        let nonce = blocksd_recording::FileNonce::new();
        let place = |number, messages| Place {
            number,
            nonce,
            messages,
            bytes: 0,
        };
        // All of the file 2 is stored.
        progress.reached(place(3, 0));
        // Of the files 3 and 4, 50 messages waited. 70 of those of the file 4 were taken, and none of the files 5 and 6.
        progress.dropped(3, place(4, 70), 2, 50);
        assert_eq!(progress.read().missed, 50 + 30 + 200);
        progress.deleted(7, 1);
        assert_eq!(progress.read().missed, 281);
    }

    #[test]
    fn what_was_named_when_it_was_deleted_is_not_named_again() {
        let progress = Progress::default();
        let missed = |files, messages| {
            let mut missed = Missed::default();
            (missed.files, missed.messages) = (files, messages);
            progress.missed(&missed)
        };
        progress.begins(None);
        progress.reads(16);
        progress.deleted(17, 4147);
        progress.deleted(18, 4147);
        // The numbers of a later message show the rest.
        assert_eq!(missed(2, 8000), None);
        assert_eq!(missed(0, 294), None);
        assert_eq!(missed(0, 1), Some(0));
        progress.deleted(19, 10);
        // Another program has deleted the file 20.
        assert_eq!(missed(2, 15), Some(10));
        assert_eq!(missed(1, 0), Some(0));
        assert_eq!(progress.read().missed, 8294 + 10 + 5 + 1);
    }

    #[test]
    fn each_reason_that_says_what_to_do_is_logged_once() {
        let progress = Progress::default();
        let logged = |errors: &[StreamError]| {
            errors.iter().for_each(|it| progress.failed(it));
            progress.shown(|it| it.logged.len())
        };
        let denied = |subject: &str| StreamError::Denied(subject.to_owned());
        let slow = || StreamError::Timeout(5000);
        assert_eq!(logged(&[slow(), StreamError::NoStream, slow()]), 1);
        assert_eq!(logged(&[denied("a"), slow(), denied("b"), denied("a")]), 3);
        let many: Vec<_> = (0..2 * LOGGED_MAX)
            .map(|it| denied(&it.to_string()))
            .collect();
        assert_eq!(logged(&many), LOGGED_MAX);
        progress.works();
        assert_eq!(logged(&[denied("a")]), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_passes_is_not_logged_again_at_once() {
        let progress = Progress::default();
        let logged = || {
            progress.failed(&StreamError::NoStream);
            progress.shown(|it| it.logged.len())
        };
        assert_eq!(logged(), 1);
        for _ in 0..5 {
            progress.works();
            assert_eq!(logged(), 0);
            assert_ne!(progress.read().problem, None);
        }
        // It lasts.
        tokio::time::sleep(UNSETTLED).await;
        assert_eq!(logged(), 1);
        // It works for a while, and fails again.
        progress.works();
        tokio::time::sleep(UNSETTLED).await;
        assert_eq!(logged(), 1);
    }
}
