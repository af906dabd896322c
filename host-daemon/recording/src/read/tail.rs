//! Follows a recording that is being written: a [`Tail`] hands every new message to a visitor, or reports what it missed.

mod directory;
mod open_file;

use std::path::PathBuf;
use std::time::Duration;

use self::directory::Follower;
use self::open_file::OpenFile;
use crate::format::filename;
use crate::read::catalog::{RecordingFile, list_directory};
use crate::read::gaps::Gaps;
use crate::read::loss::Losses;
use crate::read::messages::{Visitor, Wanted};
use crate::read::position::TailPosition;

/// How often a file that is being written is checked for new data.
const LOOK: Duration = Duration::from_millis(50);

/// Follows one file or directory, and waits for new messages: in a directory without end, in a file until it is sealed.
/// Checks for new data every 50 ms.
///
/// In a directory, a file is known by its nonce. So a file that is sealed, repaired or packed meanwhile is read once, and
/// so is a copy beside it. A file that is new is read whatever its number is. A file that is deleted before it is read
/// is reported to [`Visitor::missed`]. The directory may be created later, and may be removed and created again.
///
/// # Examples
/// ```
/// use blocksd_recording::{Channel, ChannelSpec, Error, Log, LogOptions, LostRange, Message};
/// use blocksd_recording::{Tail, Visitor, Wanted};
///
/// struct Print;
///
/// impl Visitor for Print {
///     type Error = Error;
///
///     fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
///         println!("{} {}", message.channel.record.topic, message.data.escape_ascii());
///         Ok(())
///     }
///
///     fn lost(&mut self, _: &std::path::Path, lost: &LostRange) -> Result<(), Error> {
///         println!("{lost}");
///         Ok(())
///     }
///
///     fn idle(&mut self) -> Result<(), Error> {
///         Ok(())
///     }
/// }
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut log = Log::open(folder, LogOptions::default())?;
/// let channel = log.channel(&mut Channel::default(), ChannelSpec::default)?;
/// log.append(channel, 0, 0, b"message")?;
/// log.finish()?;
/// let file = blocksd_recording::catalog::list_directory(folder)?.remove(0);
/// let losses = Tail::new(file.path, Wanted::default()).visit(&mut Print)?;
/// assert!(losses.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tail {
    path: PathBuf,
    wanted: Wanted,
    from: Option<TailPosition>,
}

impl Tail {
    /// Creates a tail of this file or directory.
    #[must_use]
    pub const fn new(path: PathBuf, wanted: Wanted) -> Self {
        Self {
            path,
            wanted,
            from: None,
        }
    }

    /// Continues in a directory at a position that an earlier tail reached. Files with lower numbers are not read. If
    /// files after it were deleted, [`Visitor::missed`] is called first.
    #[must_use]
    pub const fn from_position(mut self, position: TailPosition) -> Self {
        self.from = Some(position);
        self
    }

    /// Hands every selected message to the visitor. Returns the losses once a file is sealed; never
    /// returns for a directory, unless the visitor returns an error.
    ///
    /// # Errors
    /// [`Error::Read`](crate::Error::Read), and any error of the visitor. A directory that does not exist is not an error if it can be created
    /// in an existing one.
    pub fn visit<V: Visitor + ?Sized>(&self, visitor: &mut V) -> Result<Losses, V::Error> {
        let path = &self.path;
        if path.metadata().is_ok_and(|it| !it.is_dir()) {
            return self.visit_file(visitor);
        }
        let parent = filename::parent(path);
        if !parent.is_dir() {
            // Not a directory that will be created, but a mistake.
            list_directory(path)?;
        }
        Follower::new(path, &self.wanted, self.from).run(visitor)
    }

    fn visit_file<V: Visitor + ?Sized>(&self, visitor: &mut V) -> Result<Losses, V::Error> {
        let listed = RecordingFile::of(self.path.clone());
        let mut gaps = Gaps::default();
        let mut bytes = 0;
        if let Some(mut file) = OpenFile::open(&listed, &self.wanted, 0, &mut gaps)? {
            file.read(&mut gaps, visitor)?;
            while !file.is_done() {
                visitor.idle()?;
                std::thread::sleep(LOOK);
                file.refresh()?;
                file.read(&mut gaps, visitor)?;
            }
            bytes = file.reader.lost;
        }
        visitor.idle()?;
        Ok(Losses { bytes, files: 0 })
    }
}
