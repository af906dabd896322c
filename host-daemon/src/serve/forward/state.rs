//! How the forwarding to one cluster goes: [`ForwardState`].

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use blocksd_forward::{Nats, Progress};
use blocksd_recording::catalog::{list_directory, number};
use tracing::warn;

use super::PAUSE;

/// How the forwarding to one cluster goes.
#[derive(Debug)]
pub(super) struct ForwardState {
    /// Cluster and stream, for the log.
    label: String,
    pub(super) progress: Arc<Progress>,
    /// The cluster was reached, and its stream can be used.
    has_begun: AtomicBool,
    /// Why it has not begun; later, why the servers answer nothing.
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

    /// Finds out why a cluster takes nothing, while that is so.
    pub(super) async fn watch(&self, nats: &Nats) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                // The requests that it concerns take longer to fail.
                denied = nats.next_denied() => {
                    self.failed(denied);
                    continue;
                }
            }
            let trouble = match self.progress.read().problem {
                Some(_) => nats.trouble().await,
                None => None,
            };
            match trouble {
                Some(reason) => self.failed(reason),
                None => {
                    self.note(None);
                }
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

    /// Bytes that are not stored in the cluster: those that are read, and the files that are not.
    pub(super) fn backlog_bytes(&self) -> u64 {
        let progress = self.progress.read();
        let place = progress.place.map_or(0, |place| place.number);
        let files = list_directory(&self.folder).unwrap_or_default();
        let later = files.iter().filter(|file| place < number(&file.path));
        let later = later.filter_map(|file| fs::metadata(&file.path).ok());
        progress.queued_bytes + later.map(|file| file.len()).sum::<u64>()
    }

    /// Notes why the cluster takes nothing. Returns whether that is new.
    fn note(&self, reason: Option<&String>) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = trouble.as_ref() != reason;
        *trouble = reason.cloned();
        is_new
    }
}
