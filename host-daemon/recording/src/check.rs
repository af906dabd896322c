//! Checks recordings and repairs torn ones: [`Checker`].

pub(crate) mod finding;
mod order;
mod rebuild;
pub mod recover;
pub(crate) mod repair;
pub(crate) mod sequences;
mod survey;
pub mod verify;

use std::path::Path;

use crate::check::finding::Finding;
use crate::check::recover::Recovered;
use crate::check::repair::{Repaired, Unrepaired};
use crate::check::sequences::SequenceRanges;
use crate::check::verify::Verified;
use crate::error::Error;
use crate::read::window::WindowedFile;

/// Verifies, recovers and repairs recordings whose messages may stand for [ranges](SequenceRanges) of sequence numbers.
/// The functions [`verify()`], [`recover()`] and [`repair_dir`] do the same for recordings without such messages.
///
/// ```
/// use blocksd_recording::{Checker, SequenceRange, SequenceRanges};
///
/// /// On the topic `/skipped`, each message is the count of the numbers that were skipped on `/device/a/blocks`.
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
///         Some(SequenceRange { topic, len })
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Checker<'a> {
    ranges: &'a dyn SequenceRanges,
}

impl Default for Checker<'_> {
    /// For recordings in which every sequence number has a message.
    fn default() -> Self {
        Self::new(&())
    }
}

impl<'a> Checker<'a> {
    /// For recordings with these ranges.
    #[must_use]
    pub const fn new(ranges: &'a dyn SequenceRanges) -> Self {
        Self { ranges }
    }

    /// Checks a file and reports each finding. `growing`: another process is writing the file, so it need not have an
    /// end.
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

    /// Checks a sealed file. Returns its content if it is sound, except for messages that may be missing.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn check(self, path: &Path) -> Result<Option<Verified>, Error> {
        recover::check(path, self.ranges)
    }

    /// Writes a sealed file `to`, which must not exist, with all that is whole in `from`, and syncs it. Chunks are
    /// copied as they are. Writes nothing if `from` is sealed and sound, or if nothing in it is whole.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Write`], [`Error::UnsoundRepair`]; then there is no file `to`.
    pub fn recover(self, from: &Path, to: &Path) -> Result<Recovered, Error> {
        recover::recover(from, to, self.ranges)
    }

    /// Seals every torn file of a folder, in the order of their names. A file that cannot be repaired does not keep the
    /// others from it. A file is repaired when the iterator comes to it. The caller holds the [`Lock`](crate::Lock) of
    /// the folder.
    ///
    /// A torn file is removed only after its content is on the disk under the new name, except for a record that was
    /// not finished when the writing ended. If more is lost, the original is kept under the sealed name with the ending
    /// `.lost`. A repair that was interrupted may be repeated.
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

/// Checks a file and reports each finding, as [`Checker::verify`].
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

/// Writes what is whole in `from` to a sealed file `to`, as [`Checker::recover`].
///
/// # Errors
/// [`Error::Read`], [`Error::Write`], [`Error::UnsoundRepair`].
pub fn recover(from: &Path, to: &Path) -> Result<Recovered, Error> {
    Checker::default().recover(from, to)
}

/// Seals every torn file of a folder, as [`Checker::repair_dir`].
///
/// # Errors
/// [`Error::Read`] if the folder cannot be read.
pub fn repair_dir(
    folder: &Path,
) -> Result<impl Iterator<Item = Result<Repaired, Unrepaired>>, Error> {
    Checker::default().repair_dir(folder)
}
