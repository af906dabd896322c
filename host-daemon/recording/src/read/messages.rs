//! The messages of recordings, in their order: a [`Reader`] hands them to a [`Visitor`].

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mcap::records::{Channel, Record};

use crate::error::Error;
use crate::format::filename::{self, parent};
use crate::format::nonce::FileNonce;
use crate::format::origin::Origins;
use crate::format::private::{SESSION_KEY, is_numbered};
use crate::format::record::{GAP, Raw, UNKNOWN_TOPIC};
use crate::lock::is_locked;
use crate::read::catalog::list;
use crate::read::gaps::{Gaps, Missed};
use crate::read::loss::{Losses, LostRange};
use crate::read::message::{ChannelInfo, Message, Wanted};
use crate::read::message_counts::MessageCounts;
use crate::read::position::TailPosition;
use crate::read::scan::{Found, Scan};
use crate::read::summary::Summary;
use crate::read::window::WindowedFile;

/// Receives the messages of recordings from a [`Reader`] or [`Tail`](crate::Tail).
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

    /// Receives a report about files that were deleted before they were read, in a directory or with this path.
    ///
    /// # Errors
    /// An error ends the visit.
    fn missed(&mut self, _path: &Path, _missed: &Missed) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called when a directory that is followed does not exist. The visit continues when it is created.
    ///
    /// # Errors
    /// An error ends the visit.
    fn missing(&mut self, _directory: &Path) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Receives the position after the last message, before [`idle`](Self::idle) and at the end of each file. Only for a
    /// directory that is followed.
    ///
    /// # Errors
    /// An error ends the visit.
    fn reached(&mut self, _position: &TailPosition) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called when no more messages are available now, or at the end. Use it to flush output.
    ///
    /// # Errors
    /// An error ends the visit.
    fn idle(&mut self) -> Result<(), Self::Error>;
}

/// Reads files, and directories in the order of their files. See [the crate](crate) for an example.
#[derive(Clone, Debug)]
pub struct Reader {
    paths: Vec<PathBuf>,
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
                Ok(None) => {
                    let missed = Missed {
                        files: 1,
                        messages: 0,
                    };
                    visitor.missed(&listed.path, &missed)?;
                }
                Ok(Some(opened)) => {
                    lost.bytes += visit_file(&listed.path, opened, &self.wanted, visitor)?;
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

/// Hands the messages of an open file to the visitor. The flag says whether it is being written.
fn visit_file<V: Visitor + ?Sized>(
    path: &Path,
    (mut input, is_open): (WindowedFile, bool),
    wanted: &Wanted,
    visitor: &mut V,
) -> Result<u64, V::Error> {
    let summary = Summary::of_sealed(&mut input, is_open)?;
    if summary.as_ref().is_some_and(|it| is_outside(it, wanted)) {
        return Ok(0);
    }
    let mut gaps = Gaps::default();
    let mut scan = Scan::new(input, summary.as_ref(), is_open);
    let mut file = FileReader::new(wanted, place_of(path), 0);
    if let Some(summary) = summary {
        scan.only(&summary, wanted.from, wanted.to);
        file.begin(&summary, &mut gaps);
    }
    file.read_on(&mut scan, path, &mut gaps, visitor)?;
    Ok(file.lost)
}

/// The number and nonce in the name of a file.
pub(super) fn place_of(path: &Path) -> Option<(u64, FileNonce)> {
    let name = path.file_name()?.to_str()?;
    Some((filename::number(name)?, filename::nonce(name)?))
}

/// Whether a process is still writing a file. A sealed file has another name.
pub(super) fn is_written(path: &Path) -> bool {
    fs::exists(path).unwrap_or(true) && is_locked(parent(path))
}

/// Whether the summary shows that a file contains no wanted message.
pub(super) fn is_outside(summary: &Summary, wanted: &Wanted) -> bool {
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

/// Reads the messages of one file.
pub(super) struct FileReader<'a> {
    wanted: &'a Wanted,
    /// Number and nonce of the file.
    place: Option<(u64, FileNonce)>,
    /// Channels by number, with their slots of [`Gaps`].
    channels: HashMap<u16, (Arc<ChannelInfo>, usize)>,
    origins: Origins,
    /// Messages before this one were read earlier.
    pub(super) skip: u64,
    /// The numbers of messages before its chunks, if the summary states them.
    counts: Option<MessageCounts>,
    /// Numbered messages of chunks from this offset on are not confirmed, and are passed over.
    pub(super) confirmed_len: u64,
    /// Messages up to the last one that was read: with those of lost chunks, if the summary states them.
    pub(super) messages: u64,
    /// Bytes that are lost.
    pub(super) lost: u64,
}

impl<'a> FileReader<'a> {
    /// Creates a reader that passes over the first `skip` messages.
    pub(super) fn new(wanted: &'a Wanted, place: Option<(u64, FileNonce)>, skip: u64) -> Self {
        Self {
            wanted,
            place,
            channels: HashMap::new(),
            origins: Origins::default(),
            skip,
            counts: None,
            confirmed_len: u64::MAX,
            messages: 0,
            lost: 0,
        }
    }

    /// Takes the channels of a summary, and the numbers of messages before the chunks.
    pub(super) fn begin(&mut self, summary: &Summary, gaps: &mut Gaps) {
        self.counts = MessageCounts::of(summary);
        for channel in summary.channels.values() {
            self.define(channel.clone(), gaps);
        }
    }

    /// Passes over the chunks that begin before an offset, if the summary states how many messages they have.
    pub(super) fn skip_to(&mut self, offset: u64) {
        if let Some(counts) = &self.counts {
            self.skip = counts.before(offset);
        }
    }

    /// Hands all messages that are there to the visitor.
    pub(super) fn read_on<V: Visitor + ?Sized>(
        &mut self,
        scan: &mut Scan,
        path: &Path,
        gaps: &mut Gaps,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        loop {
            let is_ours = scan.is_ours();
            let Some(found) = scan.advance()? else {
                break;
            };
            match found {
                Found::Chunk(chunk) => {
                    let counts = self.counts.as_ref();
                    if let Some(before) = counts.and_then(|it| it.before_chunk(chunk.offset)) {
                        // Chunks before it may be lost, or not selected.
                        self.messages = self.messages.max(before);
                    }
                    self.origins.begin_chunk(chunk.records);
                    let is_confirmed = chunk.offset < self.confirmed_len;
                    for (_, raw) in chunk.records() {
                        self.take((chunk.offset, &raw), is_confirmed, gaps, visitor)?;
                    }
                }
                // This library writes messages and their channels in chunks only.
                Found::Record { .. } if is_ours => {}
                Found::Record { offset, raw } => {
                    self.take((offset, &raw), true, gaps, visitor)?;
                }
                Found::Lost(lost) => {
                    let counts = self.counts.as_ref().filter(|_| self.skip != 0);
                    let end = lost.offset + lost.len;
                    if counts.is_none_or(|counts| self.skip < counts.before(end)) {
                        visitor.lost(path, &lost)?;
                    }
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
        (offset, raw): (u64, &Raw<'_>),
        is_confirmed: bool,
        gaps: &mut Gaps,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        let Some((header, data)) = raw.message() else {
            if let Some(Record::Channel(channel)) = raw.parse() {
                self.define(channel, gaps);
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
            let channel = Channel {
                id,
                schema_id: 0,
                topic: format!("{UNKNOWN_TOPIC}{id}"),
                message_encoding: String::new(),
                metadata: Default::default(),
            };
            self.define(channel, gaps);
        }
        self.messages += 1;
        if self.messages <= self.skip {
            return Ok(());
        }
        let Some((channel, slot)) = self.channels.get(&id) else {
            return Ok(());
        };
        if !is_confirmed && is_numbered(&channel.record) {
            return Ok(());
        }
        let is_counted = channel.is_wanted && channel.kind.is_payload();
        gaps.take(*slot, header.sequence, is_counted);
        let is_in_time = self.wanted.has_time(header.log_time);
        if !channel.is_wanted || !is_in_time {
            return Ok(());
        }
        visitor.message(&Message {
            channel,
            sequence: header.sequence,
            origin,
            time: header.log_time,
            data,
            index: self.messages - 1,
            offset,
            file: self.place.as_ref(),
        })
    }

    fn define(&mut self, channel: Channel, gaps: &mut Gaps) {
        let session = channel.metadata.get(SESSION_KEY).map(String::as_str);
        let slot = gaps.slot(&channel.topic, session);
        let id = channel.id;
        let info = ChannelInfo::of(channel, |device| self.wanted.has(device));
        self.channels.insert(id, (Arc::new(info), slot));
    }
}
