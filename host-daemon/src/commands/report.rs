//! `blocksd recover`, `blocksd verify` and `blocksd recordings`: repair, check and list files, and print a report.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;

use crate::error::CommandError;
use crate::escape::json::write_json;
use crate::escape::printable;
use crate::output::counted;
use crate::recorded::ranges::CHECKER;
use crate::service::log::print_status;
use blocksd_engine::stdio;
use blocksd_recording::catalog::{FileState, RecordingFile, list, list_directory};
use blocksd_recording::scan::{Found, Raw, Scan, Summary};
use blocksd_recording::topic::{Kind, device};
use blocksd_recording::{
    Error, Lock, Recovered, Repaired, Unrepaired, WindowedFile, parent, sync_directory,
};
use mcap::records::Record;

/// Maximum number of findings that are printed for a file.
const FINDINGS_MAX: u64 = 1000;

/// Recovers the intact data of a torn file into a new one, or of all torn files of a directory in place.
///
/// # Errors
/// [`CommandError::Locked`] if a daemon is writing, [`CommandError::NothingWhole`], [`CommandError::Unrepaired`],
/// [`CommandError::File`], [`CommandError::Recording`].
pub fn recover_command(path: &Path, output: Option<&Path>) -> Result<(), CommandError> {
    let failure = |error| CommandError::File {
        path: path.into(),
        error,
    };
    let mut out = stdio::stdout();
    if path.metadata().map_err(failure)?.is_dir() {
        if output.is_some() {
            return Err(CommandError::Conflict {
                one: "--output",
                other: "a directory",
            });
        }
        let _lock = Lock::existing(path)?;
        return recover_directory(&mut out, path);
    }
    if RecordingFile::of(path.into()).is_open {
        let path = parent(path).into();
        return Err(CommandError::Locked { path });
    }
    let to = output.map_or_else(|| beside(path), Path::to_path_buf);
    let recovered = CHECKER.recover(path, &to)?;
    if recovered.complete {
        let line = writeln!(
            out,
            "{}: sealed and sound already",
            printable(path.display())
        );
        return line.map_err(CommandError::stdout);
    }
    let to = recovered.written.then_some(to);
    if let Some(to) = &to {
        // An error is ignored, since the original file is kept in any case.
        let _ = sync_directory(parent(to));
    }
    print_recovered(&mut out, path, to.as_deref(), None, &recovered)?;
    to.map(|_| ())
        .ok_or_else(|| CommandError::NothingWhole { path: path.into() })
}

fn recover_directory(out: &mut impl Write, directory: &Path) -> Result<(), CommandError> {
    let (mut failed, mut total) = (0, 0);
    let mut reported = Ok(());
    for repaired in CHECKER.repair_dir(directory)? {
        total += 1;
        match repaired {
            Ok(Repaired {
                from,
                to,
                original,
                recovered,
            }) => {
                // The file has no intact data.
                failed += u64::from(to.is_none() && original.is_some());
                let (to, original) = (to.as_deref(), original.as_deref());
                // If a line cannot be printed, the other files are repaired nevertheless.
                let line = print_recovered(out, &from, to, original, &recovered);
                reported = reported.and(line);
            }
            Err(Unrepaired { path, error }) => {
                let failure = CommandError::from(error);
                let failure = printable(format_args!("{}: {failure}", path.display()));
                print_status(format_args!("blocksd: {failure}"));
                failed += 1;
            }
        }
    }
    reported?;
    match failed {
        0 => Ok(()),
        files => Err(CommandError::Unrepaired { files, of: total }),
    }
}

/// The path of the recovered file: the sealed name, or `NAME.recovered.mcap` if the torn file has that name itself.
fn beside(path: &Path) -> PathBuf {
    let file = RecordingFile::of(path.into());
    file.sealed_path()
        .unwrap_or_else(|| path.with_extension("recovered.mcap"))
}

fn print_recovered(
    out: &mut impl Write,
    from: &Path,
    to: Option<&Path>,
    original: Option<&Path>,
    recovered: &Recovered,
) -> Result<(), CommandError> {
    let from = printable(from.display());
    let mut line = match to {
        Some(to) => format!("{from} -> {}: {recovered}", printable(to.display())),
        None => format!("{from}: {recovered}"),
    };
    if let Some(original) = original {
        line += &format!("; original kept as {}", printable(original.display()));
    }
    writeln!(out, "{line}").map_err(CommandError::stdout)?;
    for hint in recovered.hints() {
        writeln!(out, "{from}: {hint}").map_err(CommandError::stdout)?;
    }
    for lost in &recovered.lost {
        writeln!(out, "{from}: {lost}").map_err(CommandError::stdout)?;
    }
    Ok(())
}

/// Checks files, and prints a line for each sound file, for each finding, and for each file that cannot be read.
///
/// # Errors
/// [`CommandError::Unsound`], [`CommandError::Recording`].
pub fn verify_command(paths: &[PathBuf]) -> Result<(), CommandError> {
    let mut out = stdio::stdout();
    let (mut unsound, mut total) = (0, 0);
    let is_single = matches!(paths, [path] if !path.is_dir());
    for listed in list(paths)? {
        let name = printable(listed.path.display());
        let (mut reported, mut findings) = (Ok(()), 0_u64);
        let mut is_open = false;
        let opened = match listed.open() {
            Ok(None) => continue,
            Ok(Some(opened)) => Ok(opened),
            Err(error) if is_single => return Err(error.into()),
            Err(error) => Err(error),
        };
        total += 1;
        let verified = opened.and_then(|(input, is_written)| {
            is_open = is_written;
            CHECKER.verify(input, is_written, &mut |finding| {
                if reported.is_ok() && findings < FINDINGS_MAX {
                    reported = writeln!(out, "{name}: {}", printable(finding));
                }
                findings += 1;
            })
        });
        reported.map_err(CommandError::stdout)?;
        let verified = match verified {
            Ok(verified) => verified,
            Err(error) => {
                let line = writeln!(out, "{name}: {}", printable(reason(&error)));
                line.map_err(CommandError::stdout)?;
                unsound += 1;
                continue;
            }
        };
        let blocks = counted(verified.blocks, "block");
        let devices = counted(verified.devices, "device");
        let messages = counted(verified.messages, "message");
        let chunks = counted(verified.chunks, "chunk");
        let state = if is_open { "open, being written" } else { "ok" };
        let line = match findings {
            0 => writeln!(
                out,
                "{name}: {state}: {blocks} of {devices}, {messages}, {chunks}"
            ),
            1..=FINDINGS_MAX => Ok(()),
            _ => writeln!(out, "{name}: ... and {} more", findings - FINDINGS_MAX),
        };
        line.map_err(CommandError::stdout)?;
        unsound += u64::from(findings != 0);
    }
    match unsound {
        0 => Ok(()),
        files => Err(CommandError::Unsound { files, of: total }),
    }
}

/// Why a file cannot be read.
fn reason(error: &Error) -> String {
    match error {
        Error::Read { source, .. } => format!("cannot be read: {source}"),
        error => error.to_string(),
    }
}

/// The content of a file.
#[derive(Debug, Default)]
struct Content {
    bounds: Option<(u64, u64)>,
    devices: BTreeSet<String>,
    blocks: u64,
    /// Payload bytes of all messages except events.
    bytes: u64,
    lost: u64,
    compression: Option<String>,
}

/// Lists the files of a directory, as a table or as one JSON object per line.
///
/// # Errors
/// [`CommandError::Recording`].
pub fn recordings_command(directory: &Path, as_json: bool) -> Result<(), CommandError> {
    let mut out = stdio::stdout();
    let mut rows = vec![
        [
            "NAME",
            "STATE",
            "FROM",
            "TO",
            "DEVICES",
            "BLOCKS",
            "BYTES",
            "SIZE",
            "COMPRESSION",
        ]
        .map(str::to_owned),
    ];
    let mut unread = 0;
    for listed in list_directory(directory)? {
        let opened = listed.open().and_then(|opened| match opened {
            Some((input, is_open)) => FileRow::of(input, is_open).map(Some),
            None => Ok(None),
        });
        let (row, error) = match opened {
            Ok(None) => continue,
            Ok(Some(row)) => (row, None),
            Err(error) => (FileRow::unreadable(&listed), Some(reason(&error))),
        };
        if let Some(error) = &error {
            unread += 1;
            let line = printable(format_args!("{}: {error}", listed.path.display()));
            print_status(format_args!("blocksd: {line}"));
        }
        let FileRow {
            state,
            content,
            size,
        } = row;
        let name = listed
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        // JSON has no other way to hold a path that is not UTF-8.
        let path = listed.path.to_string_lossy();
        let (from, to) = content
            .bounds
            .map(|(from, to)| (time(from), time(to)))
            .unzip();
        if as_json {
            let mut row = json!({
                "name": name, "path": path, "state": state.as_str(), "from": from, "to": to,
                "devices": content.devices, "blocks": content.blocks, "bytes": content.bytes,
                "size": size, "compression": content.compression, "lost": content.lost,
            });
            if let (Some(error), Some(row)) = (error, row.as_object_mut()) {
                row.insert("error".to_owned(), error.into());
            }
            let written = write_json(&mut out, &row).and_then(|()| writeln!(out));
            written.map_err(CommandError::stdout)?;
            continue;
        }
        let none = || "-".to_owned();
        rows.push([
            printable(name),
            state.to_string(),
            from.unwrap_or_else(none),
            to.unwrap_or_else(none),
            content.devices.len().to_string(),
            content.blocks.to_string(),
            content.bytes.to_string(),
            size.to_string(),
            content.compression.map_or_else(none, printable),
        ]);
    }
    if !as_json {
        write_table(&mut out, &rows).map_err(CommandError::stdout)?;
    }
    match unread {
        0 => Ok(()),
        unread => Err(CommandError::NotWhole { lost: 0, unread }),
    }
}

/// A file in the list.
struct FileRow {
    state: FileState,
    content: Content,
    /// Length of the file, in bytes.
    size: u64,
}

impl FileRow {
    fn of(mut input: WindowedFile, is_open: bool) -> Result<Self, Error> {
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

    fn unreadable(listed: &RecordingFile) -> Self {
        Self {
            state: FileState::Unreadable,
            content: Content::default(),
            size: listed.path.metadata().map_or(0, |it| it.len()),
        }
    }
}

/// Writes columns as wide as their longest cell; numbers are aligned to the right.
fn write_table<const N: usize>(out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
    const NUMBERS: std::ops::Range<usize> = 4..8;
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let widths = rows.iter().filter_map(|row| row.get(column));
            let width = widths.map(String::len).max().unwrap_or_default();
            line += &match NUMBERS.contains(&column) {
                true => format!("{cell:>width$}  "),
                false => format!("{cell:<width$}  "),
            };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A time in RFC 3339, rounded down to the millisecond.
fn time(nanoseconds: u64) -> String {
    let time = Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

impl Content {
    fn of_summary(summary: &Summary) -> Self {
        let mut content = Self {
            compression: summary.compression.clone().map(named),
            ..Self::default()
        };
        for channel in summary.channels.values() {
            if matches!(Kind::of(&channel.topic), Kind::Blocks | Kind::Pieces) {
                content.devices.insert(device(channel).to_owned());
            }
        }
        let Some(statistics) = &summary.statistics else {
            return content;
        };
        content.blocks = summary.count(Kind::Blocks).unwrap_or_default();
        let bounds = (statistics.message_start_time, statistics.message_end_time);
        content.bounds = (statistics.message_count != 0).then_some(bounds);
        content
    }

    fn scan(mut scan: Scan) -> Result<Self, Error> {
        let mut content = Self::default();
        let mut kinds = std::collections::HashMap::new();
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

    fn take(&mut self, raw: &Raw<'_>, kinds: &mut std::collections::HashMap<u16, Kind>) {
        if let Some((header, data)) = raw.message() {
            let time = header.log_time;
            let (from, to) = self.bounds.unwrap_or((time, time));
            self.bounds = Some((from.min(time), to.max(time)));
            let kind = kinds.get(&header.channel_id);
            if kind != Some(&Kind::Events) {
                self.bytes += data.len() as u64;
            }
            self.blocks += u64::from(kind == Some(&Kind::Blocks));
        } else if let Some(Record::Channel(channel)) = raw.parse() {
            let kind = Kind::of(&channel.topic);
            if matches!(kind, Kind::Blocks | Kind::Pieces) {
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
