//! Repairs the torn files of a folder: [`repair_dir`]. It can be interrupted anywhere and repeated.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use crate::check::plan::Plan;
use crate::check::recover::{Recovered, check, recover_anew};
use crate::check::sequences::SequenceRanges;
use crate::check::set_aside::Confirmed;
use crate::durable::sync_directory;
use crate::error::Error;
use crate::format::filename::{LOST, NEW};
use crate::read::loss::LostRange;
use crate::read::message::{Message, Wanted};
use crate::read::messages::{Reader, Visitor};
use crate::read::window::WindowedFile;

/// Bytes of two files that are compared in one step.
const COMPARE_LEN: usize = 1 << 20;

/// The repair of one torn file.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// Path of the torn file. It no longer exists under this name.
    pub from: PathBuf,
    /// Path of the sealed file in its place; `None` if nothing could be kept.
    pub to: Option<PathBuf>,
    /// Path of the original, if more is lost than an unfinished record.
    pub original: Option<PathBuf>,
    /// The content that was kept, and the losses.
    pub recovered: Recovered,
}

/// A torn file that could not be repaired. The file is unchanged.
#[derive(Debug)]
pub struct Unrepaired {
    /// Path of the torn file.
    pub path: PathBuf,
    /// Why it could not be repaired.
    pub error: Error,
}

/// See [`Checker::repair_dir`](crate::check::Checker::repair_dir).
pub(super) fn repair_dir<'a>(
    directory: &Path,
    ranges: &'a dyn SequenceRanges,
) -> Result<impl Iterator<Item = Result<Repaired, Unrepaired>> + use<'a>, Error> {
    let Plan { torn, is_backwards } = Plan::of(directory)?;
    let directory = directory.to_owned();
    let repair_one = move |(from, confirmed): (PathBuf, Confirmed)| {
        let sealed = from.with_extension("");
        let repaired = check_regular(&from)
            .and_then(|()| repair(&directory, &from, &sealed, ranges, confirmed));
        repaired.map_err(|error| Unrepaired { path: from, error })
    };
    // Each file is repaired when the iterator reaches it; with `is_backwards`, all of them when it is first called.
    let mut torn = Some(torn);
    let (mut done, mut rest) = (Vec::new().into_iter(), Vec::new().into_iter());
    Ok(std::iter::from_fn(move || {
        if let Some(torn) = torn.take() {
            if is_backwards {
                let mut all: Vec<_> = torn.into_iter().rev().map(&repair_one).collect();
                all.reverse();
                done = all.into_iter();
            } else {
                rest = torn.into_iter();
            }
        }
        done.next().or_else(|| rest.next().map(&repair_one))
    }))
}

/// Refuses anything but a regular file. Opening a pipe would block.
fn check_regular(path: &Path) -> Result<(), Error> {
    let failure = |error| Error::read(path, error);
    if !fs::metadata(path).map_err(failure)?.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(failure(error));
    }
    Ok(())
}

fn repair(
    directory: &Path,
    from: &Path,
    sealed: &Path,
    ranges: &dyn SequenceRanges,
    confirmed: Confirmed,
) -> Result<Repaired, Error> {
    let new = with_ending(sealed, NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::write(&new, error));
        }
        _ => {}
    }
    let recovered = recover_anew(from, &new, ranges, confirmed)?;
    let mut original = None;
    if recovered.complete && !recovered.written {
        // A file of another program, or one without messages.
        sync_file(from)?;
        place(from, sealed, ranges)?;
    } else {
        if recovered.written {
            place(&new, sealed, ranges).inspect_err(|_| {
                let _ = fs::remove_file(&new);
            })?;
            // The repaired file must have its name before the original is removed.
            sync_directory(directory)?;
        }
        if recovered.damaged {
            let lost = with_ending(sealed, LOST);
            // The file is kept, so a disk that cannot sync it loses nothing here.
            let _ = sync_file(from);
            place(from, &lost, ranges)?;
            original = Some(lost);
        } else {
            remove(from)?;
        }
    }
    sync_directory(directory)?;
    let to = (recovered.complete || recovered.written).then(|| sealed.to_owned());
    Ok(Repaired {
        from: from.to_owned(),
        to,
        original,
        recovered,
    })
}

/// Renames a file. An existing file with the new name is never replaced. If it has the same content, as after an
/// interrupted repair, it is kept.
fn place(from: &Path, to: &Path, ranges: &dyn SequenceRanges) -> Result<(), Error> {
    // A dangling link counts as an existing file.
    match fs::symlink_metadata(to) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fs::rename(from, to).map_err(|error| Error::write(to, error));
        }
        Err(error) => return Err(Error::write(to, error)),
    }
    if holds_the_same(from, to, ranges)? {
        return remove(from);
    }
    let error = io::Error::new(
        io::ErrorKind::AlreadyExists,
        "another file with this name exists; move it away and start again",
    );
    Err(Error::write(to, error))
}

/// Whether two files have the same bytes, or are sound recordings with the same messages. The header differs between
/// two repairs of the same file.
fn holds_the_same(one: &Path, other: &Path, ranges: &dyn SequenceRanges) -> Result<bool, Error> {
    if has_the_same_bytes(
        &mut WindowedFile::open(one)?,
        &mut WindowedFile::open(other)?,
    )? {
        return Ok(true);
    }
    let is_sound = check(one, ranges)?.is_some() && check(other, ranges)?.is_some();
    Ok(is_sound && Digest::of(one)? == Digest::of(other)?)
}

/// A hash of all messages of a recording, with their topics, numbers and times.
#[derive(Debug, Default)]
struct Digest(DefaultHasher);

impl Digest {
    fn of(path: &Path) -> Result<u64, Error> {
        let mut digest = Self::default();
        Reader::new(vec![path.into()], Wanted::default()).visit(&mut digest)?;
        Ok(digest.0.finish())
    }
}

impl Visitor for Digest {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let topic = &message.channel.record.topic;
        (topic, message.sequence, message.time, message.data).hash(&mut self.0);
        Ok(())
    }

    fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), Error> {
        // Only sound files are compared.
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn has_the_same_bytes(one: &mut WindowedFile, other: &mut WindowedFile) -> Result<bool, Error> {
    if one.len() != other.len() {
        return Ok(false);
    }
    let mut at = 0;
    while at < one.len() {
        let bytes = one.at(at, COMPARE_LEN)?;
        if bytes.is_empty() || bytes != other.at(at, COMPARE_LEN)? {
            return Ok(false);
        }
        at += bytes.len() as u64;
        let is_unknown = |file: &WindowedFile| file.unreadable(0, at).is_some();
        if is_unknown(one) || is_unknown(other) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn sync_file(path: &Path) -> Result<(), Error> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| Error::write(path, error))
}

fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|error| Error::write(path, error))
}
