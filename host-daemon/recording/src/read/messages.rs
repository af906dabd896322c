//! The messages of recordings, in their order: [`Reader`] reads files, and [`Tail`] follows a recording that is being
//! written.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcap::records::{Channel, Record};

use crate::error::Error;
use crate::format::filename::parent;
use crate::format::origin::{MessageOrigin, Origins};
use crate::format::record::{GAP, Kind, Raw, UNKNOWN_TOPIC, device};
use crate::lock::is_locked;
use crate::read::catalog::{RecordingFile, list, list_directory, number};
use crate::read::loss::{Losses, LostRange};
use crate::read::scan::{Found, Scan};
use crate::read::summary::Summary;
use crate::read::window::WindowedFile;

/// How often a file that is being written is checked for new data.
const LOOK: Duration = Duration::from_millis(50);

/// Selects messages by device and time.
///
/// # Examples
/// ```
/// use blocksd_recording::Wanted;
///
/// let wanted = Wanted { devices: vec!["10.0.0.7".to_owned()], ..Wanted::default() };
/// assert!(wanted.has("10.0.0.7") && !wanted.has("10.0.0.8"));
/// ```
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Messages of these devices. Empty for all devices.
    pub devices: Vec<String>,
    /// Messages received at this time or later, in nanoseconds since 1970.
    pub from: u64,
    /// Messages received before this time, in nanoseconds since 1970. The largest number is no limit, since messages
    /// after 2554 have it as their time.
    pub to: u64,
}

/// A channel, with the information from its topic and metadata.
#[derive(Debug)]
pub struct ChannelInfo {
    /// The record of the channel.
    pub record: Channel,
    /// The kind of its messages.
    pub kind: Kind,
    /// The device that sent its messages.
    pub device: Arc<str>,
    is_wanted: bool,
}

/// A message of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The channel of the message.
    pub channel: &'a Arc<ChannelInfo>,
    /// Sequence number in the channel.
    pub sequence: u32,
    /// The connection that it came over, if that is recorded.
    pub origin: Option<MessageOrigin>,
    /// Time of reception, in nanoseconds since 1970.
    pub time: u64,
    /// The payload.
    pub data: &'a [u8],
}

/// Receives the messages of recordings from a [`Reader`] or [`Tail`].
///
/// # Examples
/// ```
/// use std::path::Path;
/// use blocksd_recording::{Error, LostRange, Message, Visitor};
///
/// /// Counts payload bytes.
/// struct Bytes(u64);
///
/// impl Visitor for Bytes {
///     type Error = Error;
///
///     fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
///         self.0 += message.data.len() as u64;
///         Ok(())
///     }
///
///     fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Error> {
///         eprintln!("{}: {lost}", file.display());
///         Ok(())
///     }
///
///     fn idle(&mut self) -> Result<(), Error> {
///         Ok(())
///     }
/// }
/// ```
pub trait Visitor {
    /// The error of the visitor. An error of reading is converted to it.
    type Error: From<Error>;

    /// Receives the next message.
    ///
    /// # Errors
    /// An error ends the visit.
    fn message(&mut self, message: &Message<'_>) -> Result<(), Self::Error>;

    /// Receives a range of a file that is lost.
    ///
    /// # Errors
    /// An error ends the visit.
    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Self::Error>;

    /// Called in a repaired file where messages may be missing. The messages before and after do not follow each other.
    ///
    /// # Errors
    /// An error ends the visit.
    fn gap(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Receives the error of a file that cannot be read, such as one without permission. The other files are read if this
    /// returns `Ok`. By default, the error ends the visit.
    ///
    /// A single file is not left to this: its error ends the visit.
    ///
    /// # Errors
    /// An error ends the visit.
    fn unreadable(&mut self, error: Error) -> Result<(), Self::Error> {
        Err(error.into())
    }

    /// Called when no more messages are available now, or at the end. Use it to flush output.
    ///
    /// # Errors
    /// An error ends the visit.
    fn idle(&mut self) -> Result<(), Self::Error>;
}

impl Default for Wanted {
    /// All messages.
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            from: 0,
            to: u64::MAX,
        }
    }
}

impl Wanted {
    /// Returns whether messages of a device are wanted.
    #[must_use]
    pub fn has(&self, device: &str) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|wanted| wanted == device)
    }

    /// Returns whether messages of this time are wanted.
    #[must_use]
    pub const fn has_time(&self, time: u64) -> bool {
        self.from <= time && (time < self.to || self.to == u64::MAX)
    }

    const fn is_any_time(&self) -> bool {
        self.from == 0 && self.to == u64::MAX
    }
}

/// Reads files, and directories in the order of their files. See [the crate](crate) for an example.
#[derive(Clone, Debug)]
pub struct Reader {
    paths: Vec<PathBuf>,
    wanted: Wanted,
}

/// Follows one file or directory, and waits for new messages: in a directory without end, in a file until it is sealed.
/// Checks for new data every 50 ms.
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
}

impl Reader {
    /// Creates a reader of these files and directories.
    #[must_use]
    pub const fn new(paths: Vec<PathBuf>, wanted: Wanted) -> Self {
        Self { paths, wanted }
    }

    /// Hands every selected message to the visitor. Returns the losses.
    ///
    /// # Errors
    /// [`Error::Read`], and any error of the visitor.
    pub fn visit<V: Visitor + ?Sized>(&self, visitor: &mut V) -> Result<Losses, V::Error> {
        let mut lost = Losses::default();
        let is_single = matches!(self.paths.as_slice(), [path] if !path.is_dir());
        for listed in list(&self.paths)? {
            match listed.open() {
                Ok(None) => {}
                Ok(Some(opened)) => {
                    lost.bytes += visit_file(&listed.path, opened, &self.wanted, false, visitor)?;
                }
                Err(error) if is_single => return Err(error.into()),
                Err(error) => {
                    visitor.unreadable(error)?;
                    lost.files += 1;
                }
            }
        }
        visitor.idle()?;
        Ok(lost)
    }
}

impl Tail {
    /// Creates a tail of this file or directory.
    #[must_use]
    pub const fn new(path: PathBuf, wanted: Wanted) -> Self {
        Self { path, wanted }
    }

    /// Hands every selected message to the visitor. Returns the losses once a file is sealed; never
    /// returns for a directory, unless the visitor returns an error.
    ///
    /// # Errors
    /// [`Error::Read`], and any error of the visitor.
    pub fn visit<V: Visitor + ?Sized>(&self, visitor: &mut V) -> Result<Losses, V::Error> {
        let (path, wanted) = (&self.path, &self.wanted);
        if !path.is_dir() {
            let bytes = match RecordingFile::of(path.clone()).open()? {
                Some(opened) => visit_file(path, opened, wanted, true, visitor)?,
                None => 0,
            };
            visitor.idle()?;
            return Ok(Losses { bytes, files: 0 });
        }
        let mut done = None;
        loop {
            for listed in list_directory(path)? {
                let number = number(&listed.path);
                if done < Some(number) {
                    match listed.open() {
                        Ok(None) => {}
                        Ok(Some(opened)) => {
                            visit_file(&listed.path, opened, wanted, true, visitor)?;
                        }
                        Err(error) => visitor.unreadable(error)?,
                    }
                    done = Some(number);
                }
            }
            visitor.idle()?;
            std::thread::sleep(LOOK);
        }
    }
}

/// Hands the messages of an open file to the visitor. `is_open` says whether it is being written.
fn visit_file<V: Visitor + ?Sized>(
    path: &Path,
    (mut input, mut is_open): (WindowedFile, bool),
    wanted: &Wanted,
    follow: bool,
    visitor: &mut V,
) -> Result<u64, V::Error> {
    let summary = Summary::of_sealed(&mut input, is_open)?;
    if summary.as_ref().is_some_and(|it| is_outside(it, wanted)) {
        return Ok(0);
    }
    let mut scan = Scan::new(input, summary.as_ref(), is_open);
    let mut file = FileReader {
        wanted,
        channels: HashMap::new(),
        origins: Origins::default(),
        lost: 0,
    };
    if let Some(summary) = summary {
        scan.only(&summary, wanted.from, wanted.to);
        for channel in summary.channels.into_values() {
            file.define(channel);
        }
    }
    loop {
        file.read_on(&mut scan, path, visitor)?;
        if !is_open || !follow || scan.has_ended() {
            return Ok(file.lost);
        }
        visitor.idle()?;
        std::thread::sleep(LOOK);
        // Check before refreshing the length: everything that was written before the file was sealed is visible then.
        is_open = is_written(path);
        scan.refresh(is_open)?;
    }
}

/// Whether a process is still writing a file. A sealed file has another name.
fn is_written(path: &Path) -> bool {
    fs::exists(path).unwrap_or(true) && is_locked(parent(path))
}

/// Whether the summary shows that a file contains no wanted message.
fn is_outside(summary: &Summary, wanted: &Wanted) -> bool {
    // Otherwise wrong statistics would hide messages.
    if wanted.is_any_time() {
        return false;
    }
    summary.statistics.as_ref().is_some_and(|statistics| {
        let (start, end) = (statistics.message_start_time, statistics.message_end_time);
        let is_after = wanted.to != u64::MAX && wanted.to <= start;
        statistics.message_count == 0 || end < wanted.from || is_after
    })
}

struct FileReader<'a> {
    wanted: &'a Wanted,
    channels: HashMap<u16, Arc<ChannelInfo>>,
    origins: Origins,
    lost: u64,
}

impl FileReader<'_> {
    fn read_on<V: Visitor + ?Sized>(
        &mut self,
        scan: &mut Scan,
        path: &Path,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        loop {
            let is_ours = scan.is_ours();
            let Some(found) = scan.advance()? else {
                break;
            };
            match found {
                Found::Chunk(chunk) => {
                    self.origins.begin_chunk(chunk.records);
                    for (_, raw) in chunk.records() {
                        self.take(&raw, visitor)?;
                    }
                }
                // This library writes messages and their channels in chunks only.
                Found::Record { .. } if is_ours => {}
                Found::Record { raw, .. } => self.take(&raw, visitor)?,
                Found::Lost(lost) => {
                    visitor.lost(path, &lost)?;
                    self.lost += lost.len;
                }
                Found::Header(_) => {}
            }
            if scan.has_ended() {
                break;
            }
        }
        Ok(())
    }

    fn take<V: Visitor + ?Sized>(
        &mut self,
        raw: &Raw<'_>,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        let Some((header, data)) = raw.message() else {
            if let Some(Record::Channel(channel)) = raw.parse() {
                self.define(channel);
            }
            self.origins.record(raw);
            return match raw.opcode {
                GAP => visitor.gap(),
                _ => Ok(()),
            };
        };
        let id = header.channel_id;
        // Messages that are not selected count, too.
        let origin = self.origins.message(id);
        if !self.channels.contains_key(&id) {
            // The record of the channel is lost, but the message is not.
            self.define(Channel {
                id,
                schema_id: 0,
                topic: format!("{UNKNOWN_TOPIC}{id}"),
                message_encoding: String::new(),
                metadata: Default::default(),
            });
        }
        let is_in_time = self.wanted.has_time(header.log_time);
        match self.channels.get(&id) {
            Some(channel) if channel.is_wanted && is_in_time => visitor.message(&Message {
                channel,
                sequence: header.sequence,
                origin,
                time: header.log_time,
                data,
            }),
            _ => Ok(()),
        }
    }

    fn define(&mut self, channel: Channel) {
        let kind = Kind::of(&channel.topic);
        let device = device(&channel);
        // Events name their device themselves.
        let is_wanted = kind == Kind::Events || self.wanted.has(device);
        let device = device.into();
        let id = channel.id;
        let info = ChannelInfo {
            record: channel,
            kind,
            device,
            is_wanted,
        };
        self.channels.insert(id, Arc::new(info));
    }
}
