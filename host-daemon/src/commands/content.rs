//! What files of recordings contain, by their summaries where they have one: [`FileRow`] and [`Content`].

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use mcap::records::Record;

use crate::error::CommandError;
use crate::escape::printable;
use crate::service::log::print_status;
use blocksd_recording::catalog::{FileState, RecordingFile, list, list_directory};
use blocksd_recording::scan::{Found, Raw, Scan, Summary};
use blocksd_recording::topic::{Kind, device};
use blocksd_recording::{Error, WindowedFile};

/// The content of a file.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Times of the first and the last message or event, in nanoseconds since 1970.
    pub(super) bounds: Option<(u64, u64)>,
    /// The devices that sent messages; for a message of another program, its topic.
    pub(super) devices: BTreeSet<String>,
    /// Messages that were received whole, and those of other programs.
    pub(super) blocks: u64,
    /// Payload bytes of all messages except events.
    pub(super) bytes: u64,
    /// Bytes that belong to no whole chunk.
    pub(super) lost: u64,
    /// Compression of the first chunk.
    pub(super) compression: Option<String>,
}

/// A file, its state and its content.
pub(super) struct FileRow {
    pub(super) state: FileState,
    pub(super) content: Content,
    /// Length of the file, in bytes.
    pub(super) size: u64,
}

/// Lists recordings as [`list`] does, but each file once, also if it or its folder was given again.
///
/// # Errors
/// [`Error::Read`].
pub(super) fn list_once(paths: &[PathBuf]) -> Result<Vec<RecordingFile>, Error> {
    let mut listed = list(paths)?;
    let mut known = BTreeSet::new();
    listed.retain(|file| {
        let real = file.path.canonicalize();
        known.insert(real.unwrap_or_else(|_| file.path.clone()))
    });
    Ok(listed)
}

impl FileRow {
    /// Reads the summary of a file, or all of it.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(super) fn of(mut input: WindowedFile, is_open: bool) -> Result<Self, Error> {
        let size = input.len();
        let summary = Summary::of_sealed(&mut input, is_open)?;
        let (state, content) = match summary {
            Some(summary) => {
                let mut content = Content::of_summary(&summary);
                content.bytes = match summary.payload_bytes() {
                    Some(bytes) => bytes,
                    // A file of an earlier version, or of another program, must be read.
                    None => Content::scan(Scan::new(input, Some(&summary), false))?.bytes,
                };
                (FileState::Sealed, content)
            }
            None if is_open => (
                FileState::Open,
                Content::scan(Scan::new(input, None, true))?,
            ),
            None => (
                FileState::Torn,
                Content::scan(Scan::new(input, None, false))?,
            ),
        };
        Ok(Self {
            state,
            content,
            size,
        })
    }

    /// A file that cannot be read.
    pub(super) fn unreadable(listed: &RecordingFile) -> Self {
        Self {
            state: FileState::Unreadable,
            content: Content::default(),
            size: listed.path.metadata().map_or(0, |it| it.len()),
        }
    }
}

/// Prints a line for each directory without recordings.
///
/// # Errors
/// [`Error::Read`].
pub(super) fn report_empty(paths: &[PathBuf]) -> Result<(), CommandError> {
    for directory in paths.iter().filter(|path| path.is_dir()) {
        if list_directory(directory)?.is_empty() {
            let directory = printable(directory.display());
            print_status(format_args!(
                "blocksd: {directory}: contains no recordings, which are files named *.mcap or, unfinished, *.mcap.part"
            ));
        }
    }
    Ok(())
}

/// The content of all readable files. Unreadable ones are reported by the command itself.
///
/// # Errors
/// [`Error::Read`] if a path does not exist.
pub(super) fn content_of(paths: &[PathBuf]) -> Result<Content, Error> {
    let mut sum = Content::default();
    for listed in list(paths)? {
        if let Ok(Some((input, is_open))) = listed.open()
            && let Ok(row) = FileRow::of(input, is_open)
        {
            sum.add(row.content);
        }
    }
    Ok(sum)
}

impl Content {
    fn add(&mut self, other: Self) {
        self.bounds = match (self.bounds, other.bounds) {
            (Some((from, to)), Some((start, end))) => Some((from.min(start), to.max(end))),
            (one, other) => one.or(other),
        };
        self.devices.extend(other.devices);
        self.blocks = self.blocks.saturating_add(other.blocks);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.lost += other.lost;
    }

    fn of_summary(summary: &Summary) -> Self {
        let mut content = Self {
            compression: summary.compression.clone().map(named),
            ..Self::default()
        };
        for channel in summary.channels.values() {
            if Kind::of(&channel.topic).is_payload() {
                content.devices.insert(device(channel).to_owned());
            }
        }
        let Some(statistics) = &summary.statistics else {
            return content;
        };
        let whole = [Kind::Blocks, Kind::Other].map(|kind| summary.count(kind).unwrap_or_default());
        content.blocks = whole.into_iter().fold(0, u64::saturating_add);
        let bounds = (statistics.message_start_time, statistics.message_end_time);
        content.bounds = (statistics.message_count != 0).then_some(bounds);
        content
    }

    fn scan(mut scan: Scan) -> Result<Self, Error> {
        let mut content = Self::default();
        let mut kinds = HashMap::new();
        while let Some(found) = scan.advance()? {
            match found {
                Found::Chunk(chunk) => {
                    let compression = chunk.header.compression.clone();
                    content
                        .compression
                        .get_or_insert_with(|| named(compression));
                    chunk
                        .records()
                        .for_each(|(_, raw)| content.take(&raw, &mut kinds));
                }
                Found::Record { raw, .. } => content.take(&raw, &mut kinds),
                Found::Lost(lost) if lost.cause.loses_messages() => content.lost += lost.len,
                _ => {}
            }
            if scan.has_ended() {
                break;
            }
        }
        Ok(content)
    }

    fn take(&mut self, raw: &Raw<'_>, kinds: &mut HashMap<u16, Kind>) {
        if let Some((header, data)) = raw.message() {
            let time = header.log_time;
            let (from, to) = self.bounds.unwrap_or((time, time));
            self.bounds = Some((from.min(time), to.max(time)));
            // The record of a channel may be lost: `read` shows its messages as those of another program.
            let kind = kinds
                .get(&header.channel_id)
                .copied()
                .unwrap_or(Kind::Other);
            if kind.is_payload() {
                self.bytes += data.len() as u64;
            }
            self.blocks += u64::from(matches!(kind, Kind::Blocks | Kind::Other));
        } else if let Some(Record::Channel(channel)) = raw.parse() {
            let kind = Kind::of(&channel.topic);
            if kind.is_payload() {
                self.devices.insert(device(&channel).to_owned());
            }
            kinds.insert(channel.id, kind);
        }
    }
}

fn named(compression: String) -> String {
    match compression.as_str() {
        "" => "none".to_owned(),
        _ => compression,
    }
}
