//! The files of a recording that clusters still need: [`KeptFiles`].

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use blocksd_forward::Progress;
use blocksd_forward::place::Place;
use blocksd_recording::{LogReport, Retention, catalog};

use crate::config::{ForwardConfig, ForwardKeep};

/// The files of a recording that clusters still need.
pub(crate) struct KeptFiles {
    retention: Arc<Retention>,
    /// The first file that each cluster needs.
    numbers: Mutex<Vec<u64>>,
    /// How many clusters have begun.
    begun: AtomicUsize,
    /// How far all clusters have got.
    all: Mutex<Vec<Arc<Progress>>>,
}

/// The files that one cluster still needs.
pub(super) struct Keep {
    kept: Arc<KeptFiles>,
    index: usize,
}

impl KeptFiles {
    /// Keeps all files for these clusters, until it is known what each of them has.
    pub(crate) fn new(retention: Arc<Retention>, clusters: &[ForwardConfig]) -> Arc<Self> {
        let keeping = clusters
            .iter()
            .filter(|it| it.keep() == ForwardKeep::Forwarded);
        let numbers = vec![0; keeping.count()];
        if !numbers.is_empty() {
            retention.keep_from(Some(0));
        }
        Arc::new(Self {
            retention,
            numbers: Mutex::new(numbers),
            begun: AtomicUsize::new(0),
            all: Mutex::default(),
        })
    }

    /// A cluster is forwarded to. It counts what is deleted before that.
    pub(super) fn add(&self, progress: Arc<Progress>) {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(progress);
    }

    /// Takes a report of the recording.
    pub(crate) fn reported(&self, report: &LogReport<'_>) {
        let LogReport::Deleted { file, messages, .. } = report else {
            return;
        };
        let number = catalog::number(Path::new(file));
        for progress in &*self.all.lock().unwrap_or_else(PoisonError::into_inner) {
            progress.deleted(number, messages.unwrap_or(1));
        }
    }

    /// The files of the next cluster.
    pub(super) fn next(self: &Arc<Self>) -> Keep {
        Keep {
            kept: Arc::clone(self),
            index: self.begun.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Keep {
    /// Keeps the files from a place on, or all.
    pub(super) fn keep_from(&self, place: Option<Place>) {
        let numbers = &self.kept.numbers;
        let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = numbers.get_mut(self.index) {
            *number = place.map_or(0, |it| it.number);
        }
        self.kept.retention.keep_from(numbers.iter().min().copied());
    }
}
