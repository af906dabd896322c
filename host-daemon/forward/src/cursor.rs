//! Where a forwarder begins after a restart: a [`Cursor`], in a file that may be deleted.
//!
//! The stream itself says for each subject how far a recording was forwarded. The file only saves reading the recording from
//! its beginning to find out.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use blocksd_recording::FileNonce;

use crate::files;
use crate::place::Place;
use crate::stream::{At, Extent, Last, Stream, StreamError};
use crate::subject::Subjects;

/// Begin of the names of the files with the places of a recording, in its folder.
pub const CURSOR_FILES: &str = "blocksd.forward-";
/// Largest number of earlier files that are saved with a cursor.
const EARLIER_MAX: usize = 64;
/// The word after which a recording has lost something.
const LOST: &str = "lost";
/// The last word of a file, before the CRC-32 of what comes before it: 8 hexadecimal digits.
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
        if self.sequence < extent.first || extent.last < self.sequence {
            return Ok(self.is_intact_with(&At::Nothing, extent));
        }
        Ok(self.is_intact_with(&stream.at(self.sequence).await?, extent))
    }

    /// The same, with what the stream has at its number.
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

/// A cursor as it is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// The cursor.
    pub cursor: Cursor,
    /// A part of the recording could not be read, at any time before.
    pub has_lost: bool,
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
            is_failing: false,
            earlier: (0, Vec::new()),
        }
    }

    /// Reads it. `None` without a file, or if it is damaged or not understood by this version.
    pub(crate) fn load(&self) -> Option<Saved> {
        Some(self.read(&self.path)?.0)
    }

    /// What to log if there is a file that is damaged, or not understood by this version.
    pub(crate) fn damage(&self) -> Option<String> {
        let path = &self.path;
        (self.load().is_none() && path.exists()).then(|| {
            format!(
                "{}: the saved place is damaged, or of another version: reading the recording from its beginning, or from another saved \
                 place of the stream",
                path.display()
            )
        })
    }

    /// What is saved for the stream that was created then, from the last place to the first: the servers may have had other names,
    /// which are those of other files.
    pub(crate) fn load_all(&self, created: i128) -> Vec<Saved> {
        let own = self.load().into_iter();
        let others = self.others().into_iter().map(|(_, saved)| saved);
        let mut all: Vec<_> = own.chain(others).collect();
        all.retain(|it| it.cursor.created == created);
        all.sort_by_key(|it| Reverse(it.cursor.place));
        all
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
        let mut words = unsealed(&text)?.split_whitespace().peekable();
        let mut word = || words.next();
        let cursor = Cursor {
            created: word()?.parse().ok()?,
            place: word()?.parse().ok()?,
            newest: Newest {
                sequence: word()?.parse().ok()?,
                nonce: u64::from_str_radix(word()?, 16).ok()?,
            },
        };
        let subjects = words.next_if(|it| it.ends_with('>')).map(str::to_owned);
        let has_lost = words.next_if_eq(&LOST).is_some();
        let earlier: Vec<_> = words.map(file_of).collect::<Option<_>>()?;
        let place = self.place_here(cursor.place, &earlier);
        let cursor = Cursor { place, ..cursor };
        Some((Saved { cursor, has_lost }, subjects))
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

    /// Replaces it. Returns what to log if that fails, unless it has failed the time before, too.
    pub(crate) fn save_or_say(&mut self, saved: &Saved) -> Option<String> {
        let failure = self.save(saved).err();
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

    /// Replaces it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&mut self, saved: &Saved) -> io::Result<()> {
        let Saved { cursor, has_lost } = saved;
        let Cursor {
            created,
            place,
            newest,
        } = cursor;
        let Newest { sequence, nonce } = newest;
        let subjects = &self.subjects;
        let mut text = format!("{created} {place} {sequence} {nonce:016x} {subjects}");
        if *has_lost {
            text.push(' ');
            text.push_str(LOST);
        }
        for (number, nonce) in self.earlier_than(place.number) {
            // Writing to a text does not fail.
            let _ = write!(text, " {number}.{nonce}");
        }
        files::replace(&self.path, sealed(&text).as_bytes())
    }

    /// The newest files before a number.
    fn earlier_than(&mut self, number: u64) -> &[(u64, FileNonce)] {
        if self.earlier.0 != number {
            let mut earlier = files::list(&self.folder).unwrap_or_default();
            earlier.retain(|it| it.0 < number);
            earlier.sort_unstable();
            earlier.drain(..earlier.len().saturating_sub(EARLIER_MAX));
            self.earlier = (number, earlier);
        }
        &self.earlier.1
    }

    /// Removes it, and those of other names of the servers of a stream that was created then.
    pub(crate) fn clear(&self, created: i128) {
        let mut others = self.others();
        others.retain(|(_, saved)| saved.cursor.created == created);
        let others = others.into_iter().map(|(path, _)| path);
        for path in others.chain([self.path.clone()]) {
            // If it cannot be removed, it is checked at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A line with its checksum.
fn sealed(line: &str) -> String {
    let checksum = crc32fast::hash(line.as_bytes());
    format!("{line}{CHECKSUM}{checksum:08x}\n")
}

/// The line whose checksum follows it. `None` if it is another one, or there is none.
fn unsealed(text: &str) -> Option<&str> {
    let (line, _) = text.rsplit_once(CHECKSUM)?;
    (sealed(line) == text).then_some(line)
}

/// The number and the nonce of a file: `NUMBER.NONCE`.
fn file_of(word: &str) -> Option<(u64, FileNonce)> {
    let (number, nonce) = word.split_once('.')?;
    Some((number.parse().ok()?, FileNonce::of_digits(nonce)?))
}

#[cfg(test)]
mod tests {
    use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions};

    use super::*;

    fn record(folder: &Path) {
        let mut log = Log::open(folder, LogOptions::default()).expect("a log");
        let channel = log.channel(&mut Channel::default(), ChannelSpec::default);
        log.append(channel.expect("a channel"), 0, 0, b"message")
            .expect("it is appended");
        log.finish().expect("it is sealed");
    }

    #[test]
    fn a_cursor_goes_on_after_the_newest_file_that_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        for _ in 0..3 {
            record(folder);
        }
        let mut here = files::list(folder).expect("files");
        here.sort_unstable();
        let (number, nonce) = here[2];
        let cursor = Cursor {
            created: -7,
            place: Place {
                number,
                nonce,
                messages: 1,
                bytes: 2,
            },
            newest: Newest {
                sequence: 9,
                nonce: 10,
            },
        };
        let mut file = CursorFile::new(folder, "cursor", &Subjects::new("main"));
        for has_lost in [true, false] {
            let cursor = cursor.clone();
            let saved = Saved { cursor, has_lost };
            file.save(&saved).expect("it is saved");
            assert_eq!(file.load(), Some(saved));
        }
        let remove = |number: u64| {
            let paths = folder.read_dir().expect("a folder").flatten();
            let of = |it: &PathBuf| blocksd_recording::catalog::number(it) == number;
            let path = paths.map(|it| it.path()).find(of);
            std::fs::remove_file(path.expect("a file")).expect("it is removed");
        };
        let place_of = |file: &CursorFile| {
            let place = file.load().expect("a cursor").cursor.place;
            (place.number, place.nonce, place.messages)
        };
        remove(number);
        assert_eq!(place_of(&file), (here[1].0, here[1].1, u64::MAX));
        // Another recording has gone on with that number.
        record(folder);
        assert_eq!(place_of(&file), (here[1].0, here[1].1, u64::MAX));
        // The oldest ones were deleted, too: nothing is known of the new file.
        remove(here[0].0);
        remove(here[1].0);
        assert_eq!(place_of(&file), (number, nonce, 1));
        // The limits of the recording have deleted the file.
        remove(number);
        let text = sealed("1 1.0000000000000001.5 9 0a");
        std::fs::write(folder.join("cursor"), text).expect("a file");
        record(folder);
        record(folder);
        assert_eq!(place_of(&file).2, 5);
    }

    #[test]
    fn a_place_that_is_not_saved_is_named_once_with_what_follows() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("kept");
        let text = sealed("1 1.0000000000000001.5 9 0a");
        let make = || std::fs::create_dir(&folder).expect("a folder");
        make();
        std::fs::write(folder.join("cursor"), &text).expect("a file");
        let mut file = CursorFile::new(&folder, "cursor", &Subjects::new("main"));
        let saved = file.load().expect("a cursor");
        for _ in 0..2 {
            std::fs::remove_dir_all(&folder).expect("it is removed");
            let said = file.save_or_say(&saved).expect("a failure");
            let path = folder.join("cursor").display().to_string();
            let named = format!(
                "the place is not saved in {path}: No such file or directory (os error 2); until"
            );
            assert!(said.starts_with(&named), "{said}");
            assert_eq!(file.save_or_say(&saved), None);
            make();
            assert_eq!(file.save_or_say(&saved), None);
        }
    }

    #[test]
    fn a_place_is_found_whatever_the_servers_were_called() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let file = |name: &str, site: &str| {
            let name = format!("{CURSOR_FILES}{name}");
            CursorFile::new(folder, &name, &Subjects::new(site))
        };
        let save = |name, site, created, messages| {
            let text = sealed(&format!("{created} 1.0000000000000001.{messages} 9 0a"));
            let mut file = file(name, site);
            std::fs::write(&file.path, text).expect("a file");
            let saved = file.load().expect("a cursor");
            file.save(&saved).expect("it is saved");
        };
        save("old", "main", 7, 30);
        save("older", "main", 7, 10);
        save("site", "other", 7, 40);
        save("stream", "main", 8, 50);
        let places = |name, created| -> Vec<u64> {
            let all = file(name, "main").load_all(created);
            all.iter().map(|it| it.cursor.place.messages).collect()
        };
        assert_eq!(places("new", 7), [30, 10]);
        save("new", "main", 7, 20);
        assert_eq!(places("new", 7), [30, 20, 10]);
        assert_eq!((places("new", 8), places("new", 9)), (vec![50], vec![]));
        file("new", "main").clear(7);
        // That of another cluster is left.
        assert_eq!((places("new", 7), places("new", 8)), (vec![], vec![50]));
        assert!(file("site", "other").load().is_some());
    }

    #[test]
    fn a_file_of_another_version_is_no_cursor() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = CursorFile::new(folder.path(), "cursor", &Subjects::new("main"));
        for (text, is_one) in [
            ("1 1.0000000000000001.5 9 0a", true),
            ("1 1.0000000000000001.5 9 0a 0.0000000000000002", true),
            ("1 1.0000000000000001.5 9 0a 0.0000000000000002 more", false),
            ("1 1.0000000000000001.5 9 0a lost 0.0000000000000002", true),
            (
                "1 1.0000000000000001.5 9 0a a.main.> lost 0.0000000000000002",
                true,
            ),
            ("1 1.0000000000000001.5 9 0a a.main.> b.main.>", false),
            ("1 1.0000000000000001.5 9", false),
            ("1 1.0000000000000001.5 9 0a more", false),
            ("", false),
        ] {
            std::fs::write(folder.path().join("cursor"), sealed(text)).expect("a file");
            assert_eq!(file.load().is_some(), is_one, "{text}");
        }
    }

    #[test]
    fn a_damaged_file_is_no_cursor() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cursor");
        let mut file = CursorFile::new(folder.path(), "cursor", &Subjects::new("main"));
        std::fs::write(&path, sealed("1 1.0000000000000001.5 9 0a")).expect("a file");
        let saved = file.load().expect("a cursor");
        file.save(&saved).expect("it is saved");
        let intact = std::fs::read(&path).expect("the file");
        for at in 0..intact.len() {
            let cut = intact[..at].to_vec();
            let (mut changed, mut longer) = (intact.clone(), intact.clone());
            changed[at] ^= 1;
            longer.insert(at, b'0');
            for damaged in [cut, changed, longer] {
                std::fs::write(&path, &damaged).expect("the file");
                let text = String::from_utf8_lossy(&damaged);
                assert_eq!(file.load(), None, "{text}");
                assert!(file.damage().is_some(), "{text}");
            }
        }
        std::fs::write(&path, &intact).expect("the file");
        assert_eq!((file.load(), file.damage()), (Some(saved), None));
        std::fs::remove_file(&path).expect("it is removed");
        assert_eq!((file.load(), file.damage()), (None, None));
    }
}
