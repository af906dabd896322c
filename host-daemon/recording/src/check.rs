//! Verifies recordings, recovers torn ones, and repairs folders: start with [`Checker`].

pub(crate) mod finding;
mod order;
mod plan;
mod rebuild;
pub mod recover;
mod recovered;
pub(crate) mod repair;
pub(crate) mod sequences;
mod set_aside;
mod survey;
mod tally;
pub mod verify;

use std::path::Path;

use crate::check::finding::Finding;
use crate::check::recover::Recovered;
use crate::check::repair::{Repaired, Unrepaired};
use crate::check::sequences::SequenceRanges;
use crate::check::verify::Verified;
use crate::error::Error;
use crate::read::window::WindowedFile;

/// Verifies, recovers and repairs recordings in which a message may stand for a [range](SequenceRanges) of sequence
/// numbers. The functions [`verify()`], [`recover()`] and [`repair_dir`] do the same for recordings without such
/// messages.
///
/// ```
/// use blocksd_recording::{Checker, SequenceRange, SequenceRanges};
///
/// /// A message on the topic `/skipped` holds the count of numbers that were skipped on `/device/a/blocks`.
/// #[derive(Debug)]
/// struct Skipped;
///
/// impl SequenceRanges for Skipped {
///     fn range(&self, topic: Option<&str>, data: &[u8]) -> Option<SequenceRange> {
///         if topic.is_some_and(|topic| topic != "/skipped") {
///             return None;
///         }
///         let len = std::str::from_utf8(data).ok()?.parse().ok()?;
///         let topic = "/device/a/blocks".to_owned();
///         Some(SequenceRange { topic, len, ..SequenceRange::default() })
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Checker<'a> {
    ranges: &'a dyn SequenceRanges,
}

impl Default for Checker<'_> {
    /// Creates a checker for recordings in which every sequence number has a message.
    fn default() -> Self {
        Self::new(&())
    }
}

impl<'a> Checker<'a> {
    /// Creates a checker for recordings with these ranges.
    #[must_use]
    pub const fn new(ranges: &'a dyn SequenceRanges) -> Self {
        Self { ranges }
    }

    /// Checks a file, and calls `report` for each finding. `growing` says that another process is writing the file, so
    /// that it need not have an end.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn verify(
        self,
        input: WindowedFile,
        growing: bool,
        report: &mut dyn FnMut(&Finding),
    ) -> Result<Verified, Error> {
        verify::verify(input, growing, self.ranges, report)
    }

    /// Checks a sealed file. Returns its content if it is sound; missing messages are allowed.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn check(self, path: &Path) -> Result<Option<Verified>, Error> {
        recover::check(path, self.ranges)
    }

    /// Writes everything that is whole in `from` to a new sealed file `to`, and syncs it. Chunks are copied unchanged.
    /// Writes nothing if `from` is sealed and sound, or if nothing in it is whole.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::UnsoundRepair`], or [`Error::Write`], for example if `to` exists. Then `to` is not
    /// created.
    pub fn recover(self, from: &Path, to: &Path) -> Result<Recovered, Error> {
        recover::recover(from, to, self.ranges)
    }

    /// As [`recover`](Self::recover), for an open file.
    ///
    /// # Errors
    /// As [`recover`](Self::recover).
    #[doc(hidden)]
    pub fn recover_file(self, from: &WindowedFile, to: &Path) -> Result<Recovered, Error> {
        recover::recover_file(from, to, self.ranges)
    }

    /// Seals every torn file of a folder, in the order of their names. The iterator repairs one file at each step, and
    /// continues after a file that cannot be repaired. The caller must hold the [`Lock`](crate::Lock) of the folder.
    ///
    /// A torn file is removed only when its content is on the disk under the sealed name, except for an unfinished
    /// record at its end. If more is lost, the original is kept under the sealed name with the suffix `.lost`. An
    /// interrupted repair can be repeated.
    ///
    /// # Errors
    /// [`Error::Read`] if the folder cannot be read.
    pub fn repair_dir(
        self,
        folder: &Path,
    ) -> Result<impl Iterator<Item = Result<Repaired, Unrepaired>> + use<'a>, Error> {
        repair::repair_dir(folder, self.ranges)
    }
}

/// Checks a file, and calls `report` for each finding. See [`Checker::verify`].
///
/// # Errors
/// [`Error::Read`].
pub fn verify(
    input: WindowedFile,
    growing: bool,
    report: &mut dyn FnMut(&Finding),
) -> Result<Verified, Error> {
    Checker::default().verify(input, growing, report)
}

/// Writes everything that is whole in `from` to a new sealed file `to`. See [`Checker::recover`].
///
/// # Errors
/// [`Error::Read`], [`Error::Write`], [`Error::UnsoundRepair`].
pub fn recover(from: &Path, to: &Path) -> Result<Recovered, Error> {
    Checker::default().recover(from, to)
}

/// Seals every torn file of a folder. See [`Checker::repair_dir`].
///
/// # Errors
/// [`Error::Read`] if the folder cannot be read.
pub fn repair_dir(
    folder: &Path,
) -> Result<impl Iterator<Item = Result<Repaired, Unrepaired>>, Error> {
    Checker::default().repair_dir(folder)
}
