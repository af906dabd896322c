//! How the forwarding to one cluster goes: [`ForwardState`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blocksd_forward::{Nats, Progress, ProgressSnapshot, REASONS, Unread};
use blocksd_recording::catalog::{list_directory, number};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{PANIC_PAUSE, PAUSE};

/// How long a server may answer nothing, while others may, until the daemon connects again.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How the forwarding to one cluster goes.
#[derive(Debug)]
pub(super) struct ForwardState {
    /// Cluster and stream, for the log.
    label: String,
    pub(super) progress: Arc<Progress>,
    /// The cluster was reached, and its stream can be used.
    has_begun: AtomicBool,
    /// Why it has not begun; later, why no server accepts the connection.
    trouble: Mutex<Option<String>>,
    folder: PathBuf,
}

impl ForwardState {
    pub(super) fn new(label: String, folder: PathBuf) -> Self {
        Self {
            progress: Arc::new(Progress::to(label.clone())),
            label,
            has_begun: AtomicBool::new(false),
            trouble: Mutex::new(Some("connecting".to_owned())),
            folder,
        }
    }

    /// The cluster was reached, and its stream can be used.
    pub(super) fn begun(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
        self.note(None);
    }

    /// Notes why the cluster takes nothing. Logs that if it is new.
    pub(super) fn failed(&self, reason: String) {
        if self.note(Some(&reason)) {
            warn!("forward to {}: {reason}; trying again", self.label);
        }
    }

    /// Notes that what forwards has panicked, and begins again after a pause. Logs that.
    pub(super) fn panicked(&self, message: &str) {
        self.has_begun.store(false, Ordering::Relaxed);
        let pause = PANIC_PAUSE.as_secs();
        let reason = format!("it has panicked: {message}; beginning again within {pause} s");
        error!("forward to {}: {reason}", self.label);
        self.note(Some(&reason));
    }

    /// Finds out why a cluster takes nothing, while that is so. Connects to another server if this one answers nothing. Returns when
    /// the client has ended.
    pub(super) async fn watch(&self, nats: &Nats) {
        let mut silence = Silence::new();
        loop {
            tokio::time::sleep(PAUSE).await;
            let progress = self.progress.read();
            if progress.problem.is_some() && nats.has_ended().await {
                return;
            }
            // Over a slow way, an answer may take longer.
            let max = SILENCE_MAX.max(2 * nats.request_timeout());
            let is_too_long = silence.is_too_long(&progress, nats.lacks_answers(), max);
            let trouble = match progress.problem {
                Some(_) => nats.trouble().await,
                None => None,
            };
            if let Some(reason) = trouble {
                // The client connects as soon as a server accepts that.
                silence.begin();
                self.failed(reason);
                continue;
            }
            self.note(None);
            if is_too_long {
                if silence.is_first() {
                    info!("forward to {}: no answer; connecting again", self.label);
                }
                nats.reconnect().await;
            }
        }
    }

    /// Why the cluster takes nothing.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = self.progress.read().problem;
        if self.has_begun.load(Ordering::Relaxed) && problem.is_none() {
            return None;
        }
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone().or(problem)
    }

    /// Bytes that are not stored in the cluster: those that are read, and the part of the files that is not.
    pub(super) fn backlog_bytes(&self) -> u64 {
        let progress = self.progress.read();
        let unread = progress
            .unread
            .map_or(0, |from| unread_bytes(&self.folder, from));
        progress.queued_bytes + unread
    }

    /// Notes why the cluster takes nothing. Returns whether that is new.
    fn note(&self, reason: Option<&String>) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = trouble.as_ref() != reason;
        *trouble = reason.cloned();
        is_new
    }
}

/// How long a server that is connected has answered nothing.
#[derive(Debug)]
struct Silence {
    since: Instant,
    /// It was logged since a server has answered last.
    is_logged: bool,
    answered: u64,
    unanswered: u64,
}

impl Silence {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            is_logged: false,
            answered: 0,
            unanswered: 0,
        }
    }

    /// Begins anew.
    fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// Whether this is the first time since a server has answered.
    const fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.is_logged, true)
    }

    /// Takes what is known now, and whether answers are not permitted. Returns whether requests have had no answers for that time, and
    /// begins anew then.
    fn is_too_long(&mut self, now: &ProgressSnapshot, lacks_answers: bool, max: Duration) -> bool {
        let failures = REASONS.iter().zip(now.failures);
        let unanswered = failures.filter(|(reason, _)| ["timeout", "other"].contains(reason));
        let unanswered = unanswered.map(|(_, count)| count).sum();
        let has_answered = self.answered != now.answered || now.problem.is_none();
        let before = std::mem::replace(&mut self.unanswered, unanswered);
        let is_asked = lacks_answers || before != unanswered;
        self.answered = now.answered;
        let is_too_long = !has_answered && is_asked && max <= self.since.elapsed();
        if has_answered || is_too_long {
            self.begin();
        }
        self.is_logged &= !has_answered;
        is_too_long
    }
}

/// Bytes of the files of a folder from a place on.
fn unread_bytes(folder: &Path, from: Unread) -> u64 {
    let files = list_directory(folder).unwrap_or_default();
    let files = files.iter().map(|it| (number(&it.path), &it.path));
    let unread = files.filter(|(number, _)| from.number <= *number);
    let lens = unread.filter_map(|(number, path)| {
        let len = fs::metadata(path).ok()?.len();
        let is_begun = number == from.number;
        Some(len.saturating_sub(if is_begun { from.offset } else { 0 }))
    });
    lens.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_server_that_answers_nothing_is_left() {
        let mut silence = Silence::new();
        let mut now = ProgressSnapshot {
            problem: Some("no answer".to_owned()),
            ..ProgressSnapshot::default()
        };
        // Timeouts; timeouts of some calls and answers to others.
        let left = rounds(&mut silence, &mut now, false, |it| it.failures[0] += 1);
        assert_eq!(left.await, 3);
        let mixed: fn(&mut ProgressSnapshot) = |it| {
            it.failures[0] += 1;
            it.answered += 1;
        };
        assert_eq!(rounds(&mut silence, &mut now, false, mixed).await, 0);
        // A stream that is missing, and permissions or subjects that are refused.
        for reason in [1, 2, 3] {
            let refused: &dyn Fn(&mut ProgressSnapshot) = &|it| it.failures[reason] += 1;
            assert_eq!(rounds(&mut silence, &mut now, false, refused).await, 0);
        }
        // The permission to get answers has an effect with the next connection.
        let left = rounds(&mut silence, &mut now, true, |it| it.failures[3] += 1);
        assert_eq!(left.await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_logged_once_until_a_server_answers() {
        let mut silence = Silence::new();
        let mut now = ProgressSnapshot {
            problem: Some("no answer".to_owned()),
            ..ProgressSnapshot::default()
        };
        for _ in 0..2 {
            let left = rounds(&mut silence, &mut now, false, |it| it.failures[0] += 1);
            assert_ne!(left.await, 0);
            assert!(silence.is_first());
            let left = rounds(&mut silence, &mut now, false, |it| it.failures[0] += 1);
            assert_ne!(left.await, 0);
            assert!(!silence.is_first());
            rounds(&mut silence, &mut now, false, |it| it.answered += 1).await;
        }
    }

    /// How often the server is left within 30 s, with a change a second.
    async fn rounds(
        silence: &mut Silence,
        now: &mut ProgressSnapshot,
        lacks_answers: bool,
        change: impl Fn(&mut ProgressSnapshot),
    ) -> u32 {
        let mut left = 0;
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            change(now);
            left += u32::from(silence.is_too_long(now, lacks_answers, SILENCE_MAX));
        }
        left
    }

    #[test]
    fn what_waits_is_the_rest_of_a_file_and_those_after_it() {
        let folder = tempfile::tempdir().unwrap();
        for (number, len) in [(1, 100), (2, 1_000), (3, 10_000)] {
            let name = format!("{number:08}-20261129T160050Z-45a1d5e37ef1e513.mcap");
            fs::write(folder.path().join(name), vec![0; len]).unwrap();
        }
        fs::write(folder.path().join("blocksd.instance"), [0; 16]).unwrap();
        let from = |number, offset| unread_bytes(folder.path(), Unread { number, offset });
        assert_eq!(from(0, 0), 11_100);
        assert_eq!(from(2, 300), 10_700);
        assert_eq!(from(3, 20_000), 0);
    }
}
