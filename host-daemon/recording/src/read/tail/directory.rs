//! Follows a directory: a [`Follower`] finds new files, knows files by their nonces, and notices files that it missed.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::open_file::{Bound, OpenFile, Progress, is_part, number};
use super::wait;
use crate::durability::{Durability, Moment, ReadableExtent};
use crate::error::Error;
use crate::format::filename;
use crate::format::nonce::FileNonce;
use crate::read::catalog::{RecordingFile, list_directory};
use crate::read::gaps::Gaps;
use crate::read::loss::Losses;
use crate::read::message::Wanted;
use crate::read::messages::Visitor;
use crate::read::position::TailPosition;
use crate::read::scan::{Found, Scan};

/// How often a directory is listed even if it seems unchanged.
const LIST: Duration = Duration::from_secs(1);
/// Largest number of files that are remembered although they are no longer listed.
const REMEMBERED: usize = 1 << 16;

/// What identifies a file, whatever its name is now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum FileId {
    Nonce(FileNonce),
    /// A file without a nonce: its path once it is sealed; device and inode if it is not a file of a recording.
    Path(PathBuf, Option<(u64, u64)>),
}

/// A file of the last listing.
#[derive(Debug)]
struct Listed {
    id: FileId,
    /// Its number, if it has the name of a file of a recording.
    number: Option<u64>,
    file: RecordingFile,
}

impl Listed {
    /// The progress of a file that was not read.
    fn unread(&self) -> Progress {
        Progress {
            number: self.number,
            ..Progress::default()
        }
    }
}

/// What changes if a file is replaced or written: device, inode, length, and time of the last change.
type Stamp = (u64, u64, u64, i64, i64);

/// Follows a directory.
pub(super) struct Follower<'a> {
    directory: &'a Path,
    wanted: &'a Wanted,
    /// What may be read of the files that this process writes.
    durability: Option<&'a Durability>,
    /// The position to begin at, until the directory is listed.
    from: Option<TailPosition>,
    /// The files of the last listing, in their order.
    listed: Vec<Listed>,
    /// When the directory was listed, and when it had last been changed.
    listing: Option<(Instant, SystemTime)>,
    /// The changes of files at that time.
    listed_files: u64,
    /// Files of the listing wait for the rest of the current one.
    is_behind: bool,
    /// The identities of files without a nonce in their names.
    ids: HashMap<PathBuf, (Stamp, FileId)>,
    progress: HashMap<FileId, Progress>,
    /// The file that is being written.
    current: Option<(FileId, OpenFile<'a>)>,
    /// The highest number of the files that were listed; `None` before the first listing.
    newest: Option<u64>,
    gaps: Gaps,
    /// Runs of missed files: the last number, and how many. The next message of a file with a higher number shows how many
    /// messages they had.
    missed: Vec<(u64, u64)>,
    is_missing: bool,
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        directory: &'a Path,
        wanted: &'a Wanted,
        durability: Option<&'a Durability>,
        from: Option<TailPosition>,
    ) -> Self {
        Self {
            directory,
            wanted,
            durability,
            from,
            listed: Vec::new(),
            listing: None,
            listed_files: 0,
            is_behind: false,
            ids: HashMap::new(),
            progress: HashMap::new(),
            current: None,
            newest: None,
            gaps: Gaps::default(),
            missed: Vec::new(),
            is_missing: false,
        }
    }

    /// Follows the directory until the visitor returns an error.
    pub(super) fn run<V: Visitor + ?Sized>(mut self, visitor: &mut V) -> Result<Losses, V::Error> {
        loop {
            let moment = self.durability.map(Durability::moment).unwrap_or_default();
            match self.list(moment) {
                Ok(is_new) => {
                    self.is_missing = false;
                    if is_new || self.is_behind {
                        self.is_behind = !self.read_all(visitor)?;
                    }
                }
                Err(error) if error.is_not_found() => {
                    if !std::mem::replace(&mut self.is_missing, true) {
                        visitor.missing(self.directory)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            self.read_current(visitor)?;
            if let Some(missed) = self.gaps.report() {
                visitor.missed(self.directory, &missed)?;
            }
            visitor.idle()?;
            wait(self.durability, moment);
        }
    }

    /// Reads the files of the listing in their order. Returns `false` if some must wait, because more of an earlier one may
    /// become durable.
    fn read_all<V: Visitor + ?Sized>(&mut self, visitor: &mut V) -> Result<bool, V::Error> {
        if self.is_behind || !self.is_listed() {
            // It holds the others up, or was removed or renamed. Later files come after it.
            self.read_current(visitor)?;
            if self.is_held() {
                return Ok(false);
            }
        }
        for index in 0..self.listed.len() {
            if self.read_listed(index, visitor)? {
                return Ok(false);
            }
        }
        self.pass_missed(u64::MAX);
        Ok(true)
    }

    /// Whether more of the current file may become durable.
    fn is_held(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|(_, file)| file.is_held())
    }

    /// The part of a file that may be read.
    fn bound(&self, id: &FileId) -> Bound<'a> {
        let durability = self.durability;
        let nonce = match id {
            FileId::Nonce(nonce) => Some(*nonce),
            FileId::Path(..) => None,
        };
        Bound { durability, nonce }
    }

    /// Whether the current file, if there is one, is in the listing.
    fn is_listed(&self) -> bool {
        let current = self.current.as_ref().map(|(id, _)| id);
        current.is_none_or(|current| self.listed.iter().any(|it| it.id == *current))
    }

    /// Lists the directory, and notes the files that were missed. Returns `false` if it seems unchanged.
    fn list(&mut self, moment: Moment) -> Result<bool, Error> {
        let modified = fs::metadata(self.directory).and_then(|it| it.modified());
        let modified = modified.map_err(|error| Error::read(self.directory, error))?;
        let is_same =
            |(at, before): (Instant, SystemTime)| before == modified && at.elapsed() < LIST;
        if self.listing.is_some_and(is_same) && self.listed_files == moment.files {
            return Ok(false);
        }
        self.listed_files = moment.files;
        self.listing = Some((Instant::now(), modified));
        let files = list_directory(self.directory)?;
        let ids = std::mem::take(&mut self.ids);
        let mut listed = Vec::new();
        for file in files {
            if let Some(id) = self.identify(&file.path, &ids) {
                let number = number(&file.path);
                listed.push(Listed { id, number, file });
            }
        }
        // Of a file and its copies, follow the one with the name of a file of a recording.
        let named = listed.iter().filter(|it| it.number.is_some());
        let named: HashSet<FileId> = named.map(|it| it.id.clone()).collect();
        let mut seen = HashSet::new();
        listed.retain(|it| {
            let is_copy = it.number.is_none() && named.contains(&it.id);
            !is_copy && seen.insert(it.id.clone())
        });
        self.note_missed(&listed, &seen);
        self.listed = listed;
        if REMEMBERED < self.progress.len() {
            self.progress.retain(|id, _| seen.contains(id));
        }
        Ok(true)
    }

    /// Identifies a file. Returns `None` if it has no header yet, or was removed.
    fn identify(
        &mut self,
        path: &Path,
        known: &HashMap<PathBuf, (Stamp, FileId)>,
    ) -> Option<FileId> {
        if let Some(nonce) = name(path).and_then(filename::nonce) {
            return Some(FileId::Nonce(nonce));
        }
        let file = fs::metadata(path).ok()?;
        let stamp = (
            file.dev(),
            file.ino(),
            file.len(),
            file.mtime(),
            file.mtime_nsec(),
        );
        let id = match known.get(path) {
            Some((before, id)) if *before == stamp => id.clone(),
            _ => match header_nonce(path) {
                Ok(None) => return None,
                Ok(Some(Some(nonce))) => FileId::Nonce(nonce),
                Err(error) if error.is_not_found() => return None,
                // A file that cannot be read has no other identity.
                Ok(Some(None)) | Err(_) => {
                    let sealed = filename::sealed_name(path, filename::PART);
                    let is_own = name(path).and_then(filename::number).is_some();
                    let inode = (!is_own).then(|| (file.dev(), file.ino()));
                    FileId::Path(sealed.unwrap_or_else(|| path.to_owned()), inode)
                }
            },
        };
        self.ids.insert(path.to_owned(), (stamp, id.clone()));
        Some(id)
    }

    /// Compares a listing with the previous one.
    fn note_missed(&mut self, listed: &[Listed], present: &HashSet<FileId>) {
        let numbers = || listed.iter().filter_map(|it| it.number);
        let Some(mut newest) = self.newest else {
            let last = self.from.take().map(|from| self.begin_at(from, listed));
            self.newest = Some(numbers().max().unwrap_or(0).max(last.unwrap_or(0)));
            for it in listed {
                self.progress
                    .entry(it.id.clone())
                    .or_insert_with(|| it.unread());
            }
            return;
        };
        let current = self.current.as_ref().map(|(id, _)| id);
        for (id, progress) in &mut self.progress {
            if !progress.is_done && !present.contains(id) && Some(id) != current {
                progress.is_done = true;
                self.missed.push((progress.number.unwrap_or(0), 1));
            }
        }
        // Numbers begin again when all files were moved away.
        let begins_again = numbers().all(|number| number != newest);
        for it in listed {
            if self.progress.contains_key(&it.id) {
                continue;
            }
            self.progress.insert(it.id.clone(), it.unread());
            match it.number {
                Some(number) if newest < number => {
                    self.missed.push((number - 1, number - newest - 1));
                    newest = number;
                }
                Some(number @ 1..) if begins_again && number != newest => {
                    self.missed.push((number - 1, number - 1));
                    newest = number;
                }
                _ => {}
            }
        }
        self.newest = Some(newest);
    }

    /// Counts the missed files before a number. Call it before a file with this number is read.
    fn pass_missed(&mut self, number: u64) {
        let mut passed = 0_u64;
        self.missed.retain(|(last, count)| {
            let is_passed = *last < number;
            passed = passed.saturating_add(if is_passed { *count } else { 0 });
            !is_passed
        });
        if passed != 0 {
            self.gaps.miss(passed);
        }
    }

    /// Passes over what was read before a position. Returns its number, or 0 if the recording is another one.
    fn begin_at(&mut self, from: TailPosition, listed: &[Listed]) -> u64 {
        let own = FileId::Nonce(from.nonce);
        let at = listed.iter().position(|it| it.id == own);
        let done = Progress {
            is_done: true,
            is_sealed: true,
            ..Progress::default()
        };
        if at.is_none() && is_replaced(from, listed) {
            // At least the rest of the file.
            self.gaps.pass_over();
            self.gaps.miss(1);
            return 0;
        }
        let is_before = |index: usize, it: &Listed| match at {
            Some(at) => index < at,
            None => it.number.is_some_and(|number| number <= from.number),
        };
        for (index, it) in listed.iter().enumerate() {
            if is_before(index, it) {
                self.progress.insert(it.id.clone(), done);
            }
        }
        self.gaps.pass_over();
        if at.is_some() {
            let progress = Progress {
                messages: from.messages,
                number: Some(from.number),
                ..Progress::default()
            };
            self.progress.insert(own, progress);
        } else {
            // The rest of the file, and the files up to the next one that is there.
            let later = listed.iter().filter_map(|it| it.number);
            let next = later.filter(|number| from.number < *number).min();
            self.gaps.miss(next.map_or(1, |next| next - from.number));
        }
        from.number
    }

    /// Reads a listed file that has, or may have, more messages. Returns whether later files must wait, because more of it may
    /// become durable.
    fn read_listed<V: Visitor + ?Sized>(
        &mut self,
        index: usize,
        visitor: &mut V,
    ) -> Result<bool, V::Error> {
        let Some(Listed { id, file, .. }) = self.listed.get(index) else {
            return Ok(false);
        };
        let (id, file) = (id.clone(), file.clone());
        let current = self.current.as_ref();
        if current.is_some_and(|(current, _)| *current == id) {
            self.read_current(visitor)?;
            if self.current.is_some() {
                return Ok(self.is_held());
            }
        }
        let bound = self.bound(&id);
        let is_bounded = matches!(bound.extent(), ReadableExtent::Synced(_));
        let progress = self.progress.get(&id).copied().unwrap_or_default();
        let is_renamed = progress.was_part && !is_part(&file.path);
        let is_longer = || fs::metadata(&file.path).is_ok_and(|it| it.len() != progress.len);
        let is_unread = !progress.is_done && progress.len == 0;
        if progress.is_sealed || !(is_unread || is_renamed || is_longer()) {
            return Ok(is_bounded && !progress.is_done && is_part(&file.path));
        }
        if let Some(number) = number(&file.path) {
            self.pass_missed(number);
        }
        let gaps = &mut self.gaps;
        let mut opened = match OpenFile::open(&file, self.wanted, bound, &progress, gaps) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(false),
            Err(error) => {
                // Try again when it has another length.
                let given_up = Progress {
                    len: fs::metadata(&file.path).map_or(0, |it| it.len()),
                    is_done: true,
                    ..progress
                };
                self.progress.insert(id, given_up);
                visitor.unreadable(error)?;
                return Ok(false);
            }
        };
        if !(progress.is_done && opened.was_read()) {
            opened.read(gaps, visitor)?;
        } else if self.is_later_reached(index) {
            // Everything was read before the file was sealed. Its true position is not reported after that of a later file.
            let sealed = opened.progress();
            self.progress.insert(id, sealed);
            return Ok(false);
        }
        let is_held = opened.is_held();
        self.keep(id, opened, visitor)?;
        Ok(is_held)
    }

    /// Whether messages of a file after this one in the listing were read.
    fn is_later_reached(&self, index: usize) -> bool {
        let mut later = self.listed.iter().skip(index + 1);
        later.any(|it| self.progress.get(&it.id).is_some_and(|it| it.messages != 0))
    }

    /// Reads what was added to the current file.
    fn read_current<V: Visitor + ?Sized>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
        let Some((id, mut current)) = self.current.take() else {
            return Ok(());
        };
        current.refresh()?;
        current.read(&mut self.gaps, visitor)?;
        self.keep(id, current, visitor)
    }

    /// Records how far a file was read. Keeps it open if it is being written.
    fn keep<V: Visitor + ?Sized>(
        &mut self,
        id: FileId,
        opened: OpenFile<'a>,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        let progress = opened.progress();
        let before = self.progress.insert(id.clone(), progress);
        let before = before.map_or(0, |before| before.messages);
        let is_new = before != progress.messages;
        if let (FileId::Nonce(nonce), Some(number), true) = (&id, progress.number, is_new) {
            visitor.reached(&TailPosition {
                number,
                nonce: *nonce,
                messages: progress.messages,
            })?;
        }
        // A file of which nothing is durable may be created a second time, and is opened anew.
        let is_unsynced = opened.is_held() && progress.len == 0;
        if !progress.is_done && !is_unsynced {
            self.current = Some((id, opened));
        }
        if let Some(missed) = self.gaps.report() {
            visitor.missed(self.directory, &missed)?;
        }
        Ok(())
    }
}

/// Whether a directory without the file of a position has another recording, whose numbers have begun again: with another file of
/// that number, or with lower numbers only.
fn is_replaced(from: TailPosition, listed: &[Listed]) -> bool {
    let numbers = || listed.iter().filter_map(|it| it.number);
    let newest = numbers().max();
    newest.is_some_and(|newest| newest < from.number) || numbers().any(|it| it == from.number)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Reads the nonce from the header of a file: `None` if it has no header yet, `Some(None)` if the header has none.
fn header_nonce(path: &Path) -> Result<Option<Option<FileNonce>>, Error> {
    let mut scan = Scan::open(path, true)?;
    let is_empty = scan.input().is_empty();
    Ok(match scan.advance()? {
        Some(Found::Header(header)) => Some(FileNonce::of_library(&header.library)),
        None if is_empty => None,
        Some(_) | None => Some(None),
    })
}
