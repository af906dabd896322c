//! The files of the current epoch, as the writer sees them: [`Epochs`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::format::private::VoidedFile;
use crate::write::active::SegmentFile;
use crate::write::epoch::Epoch;

/// The current epoch, as the writer sees it.
#[derive(Debug)]
pub(super) struct Epochs {
    number: u64,
    current: Arc<Epoch>,
    /// The files that were begun in it, without those that were completely synced.
    files: Vec<Arc<SegmentFile>>,
}

impl Epochs {
    pub(super) fn new() -> Self {
        Self {
            number: 1,
            current: Arc::default(),
            files: Vec::new(),
        }
    }

    /// The number of the current epoch.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// The current epoch.
    pub(super) const fn current(&self) -> &Arc<Epoch> {
        &self.current
    }

    /// Adds a file that was begun.
    pub(super) fn add(&mut self, file: &Arc<SegmentFile>) {
        self.files.push(Arc::clone(file));
    }

    /// Closes the files that are completely synced.
    pub(super) fn prune(&mut self) {
        self.files
            .retain(|file| !file.is_complete.load(Ordering::Acquire));
    }

    /// Begins a new epoch after a failed sync. Returns the files that are void from now on. None of them is sealed, not even
    /// after a later sync that succeeds.
    pub(super) fn renew(&mut self) -> Vec<VoidedFile> {
        let failed = std::mem::take(&mut self.current);
        self.number += 1;
        let is_void = |file: &Arc<SegmentFile>| match failed.is_void() {
            // After the failure, no file becomes complete.
            true => !file.is_complete.load(Ordering::Acquire),
            // A file without numbered messages does not depend on the others.
            false => file.is_broken.load(Ordering::Acquire),
        };
        let files = std::mem::take(&mut self.files);
        let voided = files.into_iter().filter(is_void);
        voided
            .map(|file| {
                file.is_broken.store(true, Ordering::Release);
                VoidedFile {
                    nonce: file.nonce,
                    synced_len: file.synced_len.load(Ordering::Acquire),
                }
            })
            .collect()
    }
}
