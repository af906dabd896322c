//! `blocksd recover` and `blocksd verify`: repair and check files, and print a report.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::commands::content::{list_once, report_empty};
use crate::error::CommandError;
use crate::escape::printable;
use crate::output::counted;
use crate::recorded::journal::SessionAudit;
use crate::recorded::ranges::CHECKER;
use crate::service::log::print_status;
use blocksd_engine::stdio;
use blocksd_recording::catalog::RecordingFile;
use blocksd_recording::{Error, Lock, Recovered, Repaired, Unrepaired, parent, sync_directory};

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
        report_empty(&[path.into()])?;
        return recover_directory(&mut out, path);
    }
    // A copy with another name does not disturb the daemon.
    if output.is_none() && RecordingFile::of(path.into()).is_open {
        return Err(CommandError::BeingWritten { path: path.into() });
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

/// Checks files, and prints a line for each sound file, for each finding, for each file that cannot be read, and for each
/// session.
///
/// # Errors
/// [`CommandError::Unsound`], [`CommandError::UnsoundSessions`], [`CommandError::Recording`].
pub fn verify_command(paths: &[PathBuf]) -> Result<(), CommandError> {
    let mut out = stdio::stdout();
    let (mut unsound, mut total) = (0, 0);
    let is_single = matches!(paths, [path] if !path.is_dir());
    report_empty(paths)?;
    let mut audit = SessionAudit::default();
    for listed in list_once(paths)? {
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
        let is_given = paths.contains(&listed.path);
        let verified = verified.and_then(|it| audit.file(&listed, is_given).map(|()| it));
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
    let sessions = report_sessions(&mut out, audit);
    match unsound {
        0 => sessions,
        files => Err(CommandError::Unsound { files, of: total }),
    }
}

/// Prints a line for each session with messages or gaps.
fn report_sessions(out: &mut impl Write, audit: SessionAudit) -> Result<(), CommandError> {
    let (mut unsound, mut total) = (0, 0);
    let malformed = audit.malformed();
    for session in audit.finish() {
        if session.first.is_some() {
            writeln!(out, "{}", printable(&session)).map_err(CommandError::stdout)?;
        }
        unsound += u64::from(!session.is_sound());
        total += 1;
    }
    if malformed != 0 {
        let line = writeln!(
            out,
            "sessions: {malformed} entries or channels are malformed, or of a later version"
        );
        line.map_err(CommandError::stdout)?;
    }
    match unsound {
        0 => Ok(()),
        sessions => Err(CommandError::UnsoundSessions {
            sessions,
            of: total,
        }),
    }
}

/// Why a file cannot be read.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Read { source, .. } => format!("cannot be read: {source}"),
        error => error.to_string(),
    }
}
