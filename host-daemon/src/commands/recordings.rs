//! `blocksd recordings`: lists files and their contents. Start with [`recordings_command`].

use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::commands::content::{FileRow, report_empty};
use crate::commands::report::reason;
use crate::commands::table::{time, write_table};
use crate::error::CommandError;
use crate::escape::json::write_json;
use crate::escape::printable;
use crate::service::log::print_status;
use blocksd_engine::stdio;
use blocksd_recording::catalog::list;

/// Lists files, and those of directories, as a table or as one JSON object per line.
///
/// # Errors
/// [`CommandError::Recording`].
pub fn recordings_command(paths: &[PathBuf], as_json: bool) -> Result<(), CommandError> {
    let mut out = stdio::stdout();
    let mut rows = Vec::new();
    let mut unread = 0;
    let is_single = matches!(paths, [path] if !path.is_dir());
    report_empty(paths)?;
    for listed in list(paths)? {
        let opened = listed.open().and_then(|opened| match opened {
            Some((input, is_open)) => FileRow::of(input, is_open).map(Some),
            None => Ok(None),
        });
        let (row, error) = match opened {
            Ok(None) => continue,
            Ok(Some(row)) => (row, None),
            Err(error) if is_single => return Err(error.into()),
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
            if let (None, Some(row)) = (listed.path.to_str(), row.as_object_mut()) {
                // JSON holds text only, so `name` and `path` cannot be opened.
                let bytes = STANDARD.encode(listed.path.as_os_str().as_bytes());
                row.insert("path_base64".to_owned(), bytes.into());
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
        let names = [
            "NAME",
            "STATE",
            "FROM",
            "TO",
            "DEVICES",
            "BLOCKS",
            "BYTES",
            "SIZE",
            "COMPRESSION",
        ];
        write_table(&mut out, names, rows, 4..8).map_err(CommandError::stdout)?;
    }
    match unread {
        0 => Ok(()),
        unread => Err(CommandError::NotWhole { lost: 0, unread }),
    }
}
