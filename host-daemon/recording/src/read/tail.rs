//! Follows a recording that is being written: a [`Tail`] hands every new message to a visitor, or reports what it missed.

mod directory;
mod open_file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::directory::Follower;
use self::open_file::{Bound, OpenFile, Progress};
use crate::durability::{Durability, Moment};
use crate::format::filename;
use crate::read::catalog::{RecordingFile, list_directory};
use crate::read::gaps::Gaps;
use crate::read::loss::Losses;
use crate::read::message::Wanted;
use crate::read::messages::{Visitor, place_of};
use crate::read::position::TailPosition;

/// How often a file that is being written is checked for new data.
const LOOK: Duration = Duration::from_millis(50);

/// Follows one file or directory, and waits for new messages: in a directory without end, in a file until it is sealed.
/// Checks for new data every 50 ms, and after each commit if it reads only what is [durable](Self::durable).
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
    durability: Option<Arc<Durability>>,
}

impl Tail {
    /// Creates a tail of this file or directory.
    #[must_use]
    pub const fn new(path: PathBuf, wanted: Wanted) -> Self {
        Self {
            path,
            wanted,
            from: None,
            durability: None,
        }
    }

    /// Continues in a directory at a position that an earlier tail reached. Earlier files are not read.
    ///
    /// If the file of the position was deleted, the tail continues with the file of the next higher number, and
    /// [`Visitor::missed`] is called first: with the files from that of the position on, as far as they are gone.
    ///
    /// If the recording was replaced, nothing of the new one is skipped: it is read from its first file, and
    /// [`Visitor::missed`] is called. It counts as replaced if the file of the position is gone, and either another file has its
    /// number or all files have lower numbers. Then messages may come a second time if only the file of the position was removed,
    /// and its number was given again. A new recording that has only higher numbers is not told from the old one.
    #[must_use]
    pub const fn from_position(mut self, position: TailPosition) -> Self {
        self.from = Some(position);
        self
    }

    /// Reads only what is durable of the files that the log of this process writes: what [`Log::on_commit`](crate::Log::on_commit)
    /// has reported. Each commit wakes the tail, so that its messages arrive within milliseconds. Files of earlier processes are
    /// read as they are: call [`repair_dir`](crate::repair_dir) before the visit.
    ///
    /// After a failed sync, the tail waits at the end of the durable part of the broken file, and later files wait, too. Once a
    /// later file is durable that declares the broken one void, the rest of the broken file is read: its messages of channels with
    /// the metadata key `session`, and its entries about sessions, are passed over, because the next repair sets them aside and
    /// their sender sends them again. The other messages are delivered. They are not on the disk for certain: if the power fails
    /// before the next start, the recording may lack them.
    ///
    /// If no later file follows, because the process ends, the rest is not delivered: the repair decides about it, and a tail that
    /// continues at the [position](Self::from_position) reads what it has kept. A message has the same place in the repaired file.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use blocksd_recording::{Channel, ChannelSpec, Error, Log, LogOptions, LostRange, Message};
    /// use blocksd_recording::{Tail, TailPosition, Visitor, Wanted};
    ///
    /// /// Ends the visit after the first message.
    /// struct First(Option<TailPosition>);
    ///
    /// impl Visitor for First {
    ///     type Error = Error;
    ///
    ///     fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
    ///         self.0 = message.position();
    ///         let enough = std::io::Error::other("enough");
    ///         Err(Error::Read { path: "".into(), source: enough })
    ///     }
    ///
    ///     fn lost(&mut self, _: &std::path::Path, _: &LostRange) -> Result<(), Error> {
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
    /// let tail = Tail::new(folder.into(), Wanted::default());
    /// let tail = tail.durable(Arc::clone(log.durability()));
    /// let follower = std::thread::spawn(move || {
    ///     let mut first = First(None);
    ///     let ended = tail.visit(&mut first);
    ///     (first.0, ended.is_err())
    /// });
    /// let channel = log.channel(&mut Channel::default(), ChannelSpec::default)?;
    /// log.append(channel, 0, 0, b"message")?;
    /// log.commit()?;
    /// let (position, _) = follower.join().unwrap();
    /// assert_eq!(position.map(|it| (it.number, it.messages)), Some((1, 1)));
    /// # log.finish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn durable(mut self, durability: Arc<Durability>) -> Self {
        self.durability = Some(durability);
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
        let durability = self.durability.as_deref();
        Follower::new(path, &self.wanted, durability, self.from).run(visitor)
    }

    fn visit_file<V: Visitor + ?Sized>(&self, visitor: &mut V) -> Result<Losses, V::Error> {
        let listed = RecordingFile::of(self.path.clone());
        let mut gaps = Gaps::default();
        let mut bytes = 0;
        let durability = self.durability.as_deref();
        let nonce = place_of(&self.path).map(|(_, nonce)| nonce);
        let bound = Bound { durability, nonce };
        let now = || durability.map(Durability::moment).unwrap_or_default();
        let mut moment = now();
        if let Some(mut file) = OpenFile::open(
            &listed,
            &self.wanted,
            bound,
            &Progress::default(),
            &mut gaps,
        )? {
            file.read(&mut gaps, visitor)?;
            while !file.is_done() {
                visitor.idle()?;
                wait(durability, moment);
                moment = now();
                file.refresh()?;
                file.read(&mut gaps, visitor)?;
            }
            bytes = file.reader.lost;
        }
        visitor.idle()?;
        Ok(Losses { bytes, files: 0 })
    }
}

/// Waits until there may be more to read: for a commit since a moment, or for a while.
fn wait(durability: Option<&Durability>, since: Moment) {
    match durability {
        Some(durability) => durability.wait(since, LOOK),
        None => std::thread::sleep(LOOK),
    }
}
