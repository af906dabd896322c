//! The extent of a failed sync: an [`Epoch`] is the time between two failed syncs that the writer has noticed.
//!
//! After a failed sync, messages of the same file may be lost, and numbered messages of later files would follow a hole. So no
//! file of the epoch becomes durable any further, until the writer begins a new one.

use std::sync::atomic::{AtomicBool, Ordering};

/// The result of a commit, or of the sync that precedes the sealing of a file.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::sync::Arc;
/// use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut log = Log::open(folder, LogOptions::default())?;
/// let durable = Arc::<AtomicU64>::default();
/// let last = Arc::clone(&durable);
/// log.on_commit(move |commit| {
///     if commit.is_durable {
///         last.store(commit.number, Ordering::Relaxed);
///     }
/// });
/// let channel = log.channel(&mut Channel::default(), ChannelSpec::default)?;
/// log.append(channel, 0, 1_000_000_000, b"message")?;
/// let commit = log.next_commit();
/// log.finish()?;
/// assert_eq!(durable.load(Ordering::Relaxed), commit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitOutcome {
    /// The number of the commit, from 1.
    pub number: u64,
    /// Everything that was appended before the commit, to the same file, is on the disk. False if its sync failed, or an
    /// earlier one of the same epoch.
    pub is_durable: bool,
}

/// The state of an epoch, shared by its files, the writer and the sync thread.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    /// A sync failed. Only the sync thread sets it.
    has_failed: AtomicBool,
    /// A file has a numbered channel. Only the writer sets it.
    is_numbered: AtomicBool,
}

impl Epoch {
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// A file has a numbered channel.
    pub(super) fn number(&self) {
        self.is_numbered.store(true, Ordering::Release);
    }

    /// Makes the failure visible to the writer.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// Whether a failed sync makes all files void, and not only its own.
    pub(super) fn is_void(&self) -> bool {
        self.has_failed() && self.is_numbered.load(Ordering::Acquire)
    }
}
