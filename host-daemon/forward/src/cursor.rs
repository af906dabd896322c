//! Where a forwarder begins after a restart: a [`Cursor`], in a file that may be deleted.
//!
//! The stream itself says for each subject how far a recording was forwarded. The file only saves reading the recording from
//! its beginning to find out.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blocksd_recording::FileNonce;

use crate::files;
use crate::place::Place;
use crate::stream::{At, Extent, Last, Stream, StreamError};
use crate::subject::Subjects;

/// Begin of the names of the files with the places of a recording, in its folder.
pub const CURSOR_FILES: &str = "blocksd.forward-";
/// Largest number of earlier files that are saved with a cursor.
const EARLIER_MAX: usize = 64;
/// Largest number of cursors that are saved: one for each doubling of the age, in seconds.
const CURSORS_MAX: usize = 64;
/// The word that says that the recording has lost something.
const LOST: &str = "lost";
/// The word that says that the stream has gone back to an older state, and that the repair has not ended.
const GONE_BACK: &str = "gone-back";
/// The last word of a file, before the CRC-32 of the text before it: 8 hexadecimal digits.
const CHECKSUM: &str = " crc32:";

/// Everything before a place was stored when a message was the newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// When the stream was created.
    pub created: i128,
    /// The place.
    pub place: Place,
    /// The newest message then.
    pub newest: Newest,
}

/// A message that the stream had. Where it is the newest one, nothing before it is lost either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// Its sequence number.
    pub sequence: u64,
    /// Its nonce.
    pub nonce: u64,
}

impl Newest {
    /// This message.
    pub(crate) const fn of(last: &Last) -> Self {
        Self {
            sequence: last.sequence,
            nonce: last.head.nonce,
        }
    }

    /// Whether the stream, of this extent, still has the message, or has removed it on purpose: at a limit, or because somebody has deleted
    /// it. A stream that loses acknowledged messages, in a power failure of its servers, loses the newest ones, and gives their
    /// numbers to others.
    pub(crate) async fn is_intact<S: Stream>(
        &self,
        stream: &S,
        extent: &Extent,
    ) -> Result<bool, StreamError> {
        Ok(self.is_intact_with(&self.found(stream, extent).await?, extent))
    }

    /// Whether the stream still has the message, or has removed all up to it. In a stream that has gone back, a message that was removed
    /// later may have had the number.
    pub(crate) async fn is_shown<S: Stream>(
        &self,
        stream: &S,
        extent: &Extent,
    ) -> Result<bool, StreamError> {
        let found = self.found(stream, extent).await?;
        let is_there = matches!(found, At::Message(nonce) if nonce == self.nonce);
        Ok(is_there || self.sequence < extent.first)
    }

    /// What the stream has at its number.
    async fn found<S: Stream>(&self, stream: &S, extent: &Extent) -> Result<At, StreamError> {
        if self.sequence < extent.first || extent.last < self.sequence {
            return Ok(At::Nothing);
        }
        stream.at(self.sequence).await
    }

    /// The same as [`is_intact`](Self::is_intact), with what the stream has at its number.
    pub(crate) fn is_intact_with(&self, at: &At, extent: &Extent) -> bool {
        if self.sequence < extent.first {
            return true;
        }
        match at {
            At::Nothing => self.sequence <= extent.last,
            At::Message(nonce) => *nonce == self.nonce,
            At::Foreign => false,
        }
    }
}

/// A cursor, and when it was saved, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dated {
    /// The cursor.
    pub cursor: Cursor,
    /// The time.
    pub at_s: u64,
}

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    /// The cursors, from the last place to the first. A stream that has gone back to an older state may have the newest messages of the
    /// later ones only.
    pub cursors: Vec<Dated>,
    /// A part of the recording could not be read, at any time before.
    pub has_lost: bool,
    /// The stream has gone back to an older state, and may lack some of what it had.
    pub has_gone_back: bool,
}

impl Saved {
    /// Keeps what is of the stream that was created then.
    pub(crate) fn retain_of(&mut self, created: i128) {
        let was_empty = self.cursors.is_empty();
        self.cursors.retain(|it| it.cursor.created == created);
        self.has_gone_back &= was_empty || !self.cursors.is_empty();
    }

    /// Removes the last places, as far as the stream, of this extent, has lost their messages. Returns whether it has lost any.
    pub(crate) async fn remove_lost<S: Stream>(
        &mut self,
        stream: &S,
        extent: &Extent,
    ) -> Result<bool, StreamError> {
        let mut lost = 0;
        for Dated { cursor, .. } in &self.cursors {
            let is_true = match self.has_gone_back {
                true => cursor.newest.is_shown(stream, extent).await?,
                false => cursor.newest.is_intact(stream, extent).await?,
            };
            if is_true {
                break;
            }
            lost += 1;
        }
        self.cursors.drain(..lost);
        Ok(lost != 0)
    }

    /// The last place.
    pub(crate) fn place(&self) -> Option<Place> {
        self.cursors.first().map(|it| it.cursor.place)
    }

    /// Adds a cursor. Of the older ones, some of each age are left.
    pub(crate) fn add(&mut self, cursor: Cursor, now_s: u64) {
        self.retain_of(cursor.created);
        // The oldest one of those of which none is more than twice as old as another.
        let class = |it: &mut Dated| now_s.saturating_sub(it.at_s).checked_ilog2();
        self.cursors.reverse();
        self.cursors.dedup_by_key(class);
        self.cursors.push(Dated {
            cursor,
            at_s: now_s,
        });
        self.cursors.reverse();
        self.cursors.truncate(CURSORS_MAX);
    }
}

/// The file of a cursor.
///
/// It also names the files of the recording before the place. A copy that lacks the file of the place goes on after the newest
/// of them that it has.
#[derive(Clone, Debug)]
pub(crate) struct CursorFile {
    path: PathBuf,
    folder: PathBuf,
    /// The subjects that are forwarded to: a wildcard.
    subjects: String,
    /// The cursors to save with the next one.
    saved: Saved,
    /// It could not be written when that was tried last.
    is_failing: bool,
    /// The number of the file of the last place, and the newest files before it.
    earlier: (u64, Vec<(u64, FileNonce)>),
}

impl CursorFile {
    /// The file of this name, in the folder of a recording that is forwarded to these subjects.
    pub(crate) fn new(folder: &Path, name: &str, subjects: &Subjects) -> Self {
        Self {
            path: folder.join(name),
            folder: folder.to_owned(),
            subjects: subjects.all(),
            saved: Saved::default(),
            is_failing: false,
            earlier: (0, Vec::new()),
        }
    }

    /// Reads it. `None` without a file, or if it is damaged or not understood by this version.
    pub(crate) fn load(&self) -> Option<Saved> {
        Some(self.read(&self.path)?.0)
    }

    /// What is saved for the stream that was created then, and what to log of it. The servers may have had other names, which are those of
    /// other files.
    pub(crate) fn load_all(&self, created: i128) -> (Saved, Option<String>) {
        let own = self.load();
        let is_damaged = own.is_none() && self.path.exists();
        let is_first = own.is_none();
        let mut all = own.unwrap_or_default();
        let has_own = !all.cursors.is_empty();
        all.retain_of(created);
        // What a damaged file knew of that is gone with it.
        all.has_lost |= is_damaged;
        for (_, mut other) in self.others() {
            all.has_lost |= other.has_lost;
            other.retain_of(created);
            // Later, this file says so itself.
            all.has_gone_back |= is_first && other.has_gone_back && !other.cursors.is_empty();
            all.cursors.extend(other.cursors);
        }
        let order = |it: &Dated| Reverse((it.cursor.place, it.cursor.newest.sequence));
        all.cursors.sort_by_key(order);
        let note = if is_damaged {
            let path = self.path.display();
            Some(format!(
                "{path}: the saved place is damaged, or of another version: reading the recording from its beginning, or from another \
                 saved place of the stream"
            ))
        } else {
            let is_foreign = has_own && all.cursors.is_empty();
            is_foreign.then(|| {
                "the saved place is that of another stream: beginning again with what the recording has".to_owned()
            })
        };
        (all, note)
    }

    /// Saves these with the next one.
    pub(crate) fn keep(&mut self, saved: Saved) {
        self.saved = saved;
    }

    /// The files of other names of servers, for the same subjects.
    fn others(&self) -> Vec<(PathBuf, Saved)> {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten();
        let paths = files.flatten().map(|it| it.path());
        let is_other = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            *path != self.path && name.starts_with(CURSOR_FILES)
        };
        let others = paths.filter(is_other).filter_map(|path| {
            let (saved, subjects) = self.read(&path)?;
            (subjects.as_deref() == Some(&*self.subjects)).then_some((path, saved))
        });
        others.collect()
    }

    /// What a file has saved, and for which subjects.
    fn read(&self, path: &Path) -> Option<(Saved, Option<String>)> {
        let text = std::fs::read_to_string(path).ok()?;
        let mut lines = unsealed(&text)?.lines();
        let mut words = lines.next()?.split_whitespace().peekable();
        let subjects = words.next_if(|it| it.ends_with('>')).map(str::to_owned);
        let has_lost = words.next_if_eq(&LOST).is_some();
        let has_gone_back = words.next_if_eq(&GONE_BACK).is_some();
        let earlier: Vec<_> = words.map(file_of).collect::<Option<_>>()?;
        let mut cursors: Vec<_> = lines.map(dated).collect::<Option<_>>()?;
        for Dated { cursor, .. } in &mut cursors {
            cursor.place = self.place_here(cursor.place, &earlier);
        }
        let saved = Saved {
            cursors,
            has_lost,
            has_gone_back,
        };
        Some((saved, subjects))
    }

    /// A place, or that after the newest of the earlier files that are here, if the recording is one without the file of the place.
    fn place_here(&self, place: Place, earlier: &[(u64, FileNonce)]) -> Place {
        let here = files::list(&self.folder).unwrap_or_default();
        let has_place = here.contains(&(place.number, place.nonce));
        let newest = here.iter().map(|(number, _)| *number).max();
        // Otherwise, it was deleted.
        let is_copy = newest < Some(place.number) || here.iter().any(|it| it.0 == place.number);
        let known = earlier.iter().filter(|it| here.contains(it)).max();
        match known {
            Some((number, nonce)) if is_copy && !has_place => Place {
                number: *number,
                nonce: *nonce,
                messages: u64::MAX,
                bytes: 0,
            },
            _ => place,
        }
    }

    /// Saves a cursor, and some of those before it. Everything that was recorded before its place is stored: a stream that had gone back is
    /// repaired.
    ///
    /// Returns what to log if that fails, unless it has failed the time before, too.
    pub(crate) fn save(&mut self, cursor: &Cursor, has_lost: bool) -> Option<String> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        self.saved
            .add(cursor.clone(), since_1970.unwrap_or_default().as_secs());
        (self.saved.has_lost, self.saved.has_gone_back) = (has_lost, false);
        self.write_or_say()
    }

    /// Saves that the stream has gone back, so that the repair goes on after a crash. Returns what to log, as [`save`](Self::save).
    pub(crate) fn save_gone_back(&mut self, has_lost: bool) -> Option<String> {
        (self.saved.has_lost, self.saved.has_gone_back) = (has_lost, true);
        self.write_or_say()
    }

    /// Writes again what could not be written.
    pub(crate) fn write_again(&mut self) {
        if self.is_failing {
            self.is_failing = self.write().is_err();
        }
    }

    fn write_or_say(&mut self) -> Option<String> {
        let failure = self.write().err();
        let was_failing = std::mem::replace(&mut self.is_failing, failure.is_some());
        let failure = failure.filter(|_| !was_failing)?;
        // It names the file that would have replaced this one.
        let failure = failure.to_string();
        let cause = failure.split(" at path ").next().unwrap_or_default();
        Some(format!(
            "the place is not saved in {}: {cause}; until it is, a restart begins reading at the place that was saved before",
            self.path.display()
        ))
    }

    fn write(&mut self) -> io::Result<()> {
        let mut text = self.subjects.clone();
        let Saved {
            cursors,
            has_lost,
            has_gone_back,
        } = &self.saved;
        for (is_so, word) in [(has_lost, LOST), (has_gone_back, GONE_BACK)] {
            if *is_so {
                text.push(' ');
                text.push_str(word);
            }
        }
        let number = self.saved.place().map_or(0, |it| it.number);
        // Writing to a text does not fail.
        for (number, nonce) in earlier_than(&mut self.earlier, &self.folder, number) {
            let _ = write!(text, " {number}.{nonce}");
        }
        for Dated { cursor, at_s } in cursors {
            let Cursor {
                created,
                place,
                newest: Newest { sequence, nonce },
            } = cursor;
            let _ = write!(text, "\n{created} {place} {sequence} {nonce:016x} {at_s}");
        }
        files::replace(&self.path, sealed(&text).as_bytes())
    }
}

/// The newest files of a folder before a number. They are listed again if the number is another one.
fn earlier_than<'a>(
    known: &'a mut (u64, Vec<(u64, FileNonce)>),
    folder: &Path,
    number: u64,
) -> &'a [(u64, FileNonce)] {
    if known.0 != number {
        let mut earlier = files::list(folder).unwrap_or_default();
        earlier.retain(|it| it.0 < number);
        earlier.sort_unstable();
        earlier.drain(..earlier.len().saturating_sub(EARLIER_MAX));
        *known = (number, earlier);
    }
    &known.1
}

/// The cursor of a line.
fn dated(line: &str) -> Option<Dated> {
    let mut words = line.split(' ');
    let mut word = || words.next();
    let cursor = Cursor {
        created: word()?.parse().ok()?,
        place: word()?.parse().ok()?,
        newest: Newest {
            sequence: word()?.parse().ok()?,
            nonce: u64::from_str_radix(word()?, 16).ok()?,
        },
    };
    let at_s = word()?.parse().ok()?;
    word().is_none().then_some(Dated { cursor, at_s })
}

/// Lines with their checksum.
fn sealed(lines: &str) -> String {
    let checksum = crc32fast::hash(lines.as_bytes());
    format!("{lines}{CHECKSUM}{checksum:08x}\n")
}

/// The lines before a checksum. `None` if the checksum is wrong or missing.
fn unsealed(text: &str) -> Option<&str> {
    let (lines, _) = text.rsplit_once(CHECKSUM)?;
    (sealed(lines) == text).then_some(lines)
}

/// The number and the nonce of a file: `NUMBER.NONCE`.
fn file_of(word: &str) -> Option<(u64, FileNonce)> {
    let (number, nonce) = word.split_once('.')?;
    Some((number.parse().ok()?, FileNonce::of_digits(nonce)?))
}

#[cfg(test)]
mod tests;
