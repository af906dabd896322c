//! The messages of recordings in their order: of sealed files, of torn ones, and of one that is being written.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcap::records::{Channel, Record};

use crate::error::Error;
use crate::format::filename::parent;
use crate::format::record::{Kind, Raw, UNKNOWN_TOPIC, device};
use crate::lock::is_locked;
use crate::read::catalog::{RecordingFile, list, list_directory, number};
use crate::read::loss::LostRange;
use crate::read::scan::{Found, Scan};
use crate::read::summary::Summary;

/// How often a file that is being written is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Selects messages by device and time.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of these devices; of all, if there are none.
    pub devices: Vec<String>,
    /// Received from then on, in nanoseconds since 1970.
    pub from: u64,
    /// Received before then.
    pub to: u64,
}

/// A channel: its record, and what its topic and metadata say.
#[derive(Debug)]
pub struct ChannelInfo {
    /// Its record.
    pub record: Channel,
    /// The kind of its messages.
    pub kind: Kind,
    /// The device that they come from.
    pub device: Arc<str>,
    is_wanted: bool,
}

/// A message of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its channel.
    pub channel: &'a Arc<ChannelInfo>,
    /// Its number in the channel.
    pub sequence: u32,
    /// When it was received, in nanoseconds since 1970.
    pub time: u64,
    /// Its payload.
    pub data: &'a [u8],
}

/// Receives the messages of recordings.
pub trait Visitor {
    /// The error of the visitor; a recording that cannot be read is one, too.
    type Error: From<Error>;

    /// Receives the next message.
    ///
    /// # Errors
    /// Any error ends the visit.
    fn message(&mut self, message: &Message<'_>) -> Result<(), Self::Error>;

    /// Receives a range of a file that is lost.
    ///
    /// # Errors
    /// Any error ends the visit.
    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Self::Error>;

    /// No more messages come for a while, or at all.
    ///
    /// # Errors
    /// Any error ends the visit.
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
    /// Whether a device is wanted.
    #[must_use]
    pub fn has(&self, device: &str) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|wanted| wanted == device)
    }
}

/// Goes through files, and directories in the order of their files.
#[derive(Clone, Debug)]
pub struct Reader {
    paths: Vec<PathBuf>,
    wanted: Wanted,
}

/// Goes through one file or directory, and goes on with what is written: in a directory for ever, in a file until it
/// is sealed.
#[derive(Clone, Debug)]
pub struct Tail {
    path: PathBuf,
    wanted: Wanted,
}

impl Reader {
    /// Of these files and directories.
    #[must_use]
    pub const fn new(paths: Vec<PathBuf>, wanted: Wanted) -> Self {
        Self { paths, wanted }
    }

    /// Hands every selected message to the visitor. Returns the number of lost bytes.
    ///
    /// # Errors
    /// [`Error::Read`], and any error of the visitor.
    pub fn visit<V: Visitor + ?Sized>(&self, visitor: &mut V) -> Result<u64, V::Error> {
        let mut lost = 0;
        for listed in list(&self.paths)? {
            lost += visit_file(&listed, &self.wanted, false, visitor)?;
        }
        visitor.idle()?;
        Ok(lost)
    }
}

impl Tail {
    /// Of this file or directory.
    #[must_use]
    pub const fn new(path: PathBuf, wanted: Wanted) -> Self {
        Self { path, wanted }
    }

    /// Hands every selected message to the visitor. Returns the number of lost bytes.
    ///
    /// # Errors
    /// [`Error::Read`], and any error of the visitor.
    pub fn visit<V: Visitor + ?Sized>(&self, visitor: &mut V) -> Result<u64, V::Error> {
        let (path, wanted) = (&self.path, &self.wanted);
        if !path.is_dir() {
            let lost = visit_file(&RecordingFile::of(path.clone()), wanted, true, visitor)?;
            visitor.idle()?;
            return Ok(lost);
        }
        let mut done = None;
        loop {
            for listed in list_directory(path)? {
                let number = number(&listed.path);
                if done < Some(number) {
                    visit_file(&listed, wanted, true, visitor)?;
                    done = Some(number);
                }
            }
            visitor.idle()?;
            std::thread::sleep(LOOK);
        }
    }
}

fn visit_file<V: Visitor + ?Sized>(
    listed: &RecordingFile,
    wanted: &Wanted,
    follow: bool,
    visitor: &mut V,
) -> Result<u64, V::Error> {
    let Some((mut input, mut is_open)) = listed.open()? else {
        return Ok(0);
    };
    let summary = Summary::of_sealed(&mut input, is_open)?;
    if summary.as_ref().is_some_and(|it| is_outside(it, wanted)) {
        return Ok(0);
    }
    let mut scan = Scan::new(input, summary.as_ref(), is_open);
    let mut file = FileReader {
        wanted,
        channels: HashMap::new(),
        lost: 0,
    };
    if let Some(summary) = summary {
        scan.only(&summary, wanted.from, wanted.to);
        for channel in summary.channels.into_values() {
            file.define(channel);
        }
    }
    loop {
        file.read_on(&mut scan, &listed.path, visitor)?;
        if !is_open || !follow || scan.has_ended() {
            return Ok(file.lost);
        }
        visitor.idle()?;
        std::thread::sleep(LOOK);
        // Asked before the length is: what was written before it was sealed is there.
        is_open = is_written(&listed.path);
        scan.refresh(is_open)?;
    }
}

/// Whether a daemon still writes a file that it wrote: sealed, it has another name.
fn is_written(path: &Path) -> bool {
    fs::exists(path).unwrap_or(true) && is_locked(parent(path))
}

/// Whether the summary says that nothing in a file is wanted.
fn is_outside(summary: &Summary, wanted: &Wanted) -> bool {
    summary.statistics.as_ref().is_some_and(|statistics| {
        let (start, end) = (statistics.message_start_time, statistics.message_end_time);
        statistics.message_count == 0 || end < wanted.from || wanted.to <= start
    })
}

struct FileReader<'a> {
    wanted: &'a Wanted,
    channels: HashMap<u16, Arc<ChannelInfo>>,
    lost: u64,
}

impl FileReader<'_> {
    fn read_on<V: Visitor + ?Sized>(
        &mut self,
        scan: &mut Scan,
        path: &Path,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        while let Some(found) = scan.advance()? {
            match found {
                Found::Chunk(chunk) => {
                    for (_, raw) in chunk.records() {
                        self.take(&raw, visitor)?;
                    }
                }
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
            return Ok(());
        };
        let id = header.channel_id;
        if !self.channels.contains_key(&id) {
            // Its record is lost; the message is not.
            self.define(Channel {
                id,
                schema_id: 0,
                topic: format!("{UNKNOWN_TOPIC}{id}"),
                message_encoding: String::new(),
                metadata: Default::default(),
            });
        }
        let is_in_time = (self.wanted.from..self.wanted.to).contains(&header.log_time);
        match self.channels.get(&id) {
            Some(channel) if channel.is_wanted && is_in_time => visitor.message(&Message {
                channel,
                sequence: header.sequence,
                time: header.log_time,
                data,
            }),
            _ => Ok(()),
        }
    }

    fn define(&mut self, channel: Channel) {
        let kind = Kind::of(&channel.topic);
        let device = device(&channel);
        // Events say themselves of whom they are.
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
