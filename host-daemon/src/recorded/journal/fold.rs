//! The state of all sessions at the end of a recording: [`fold`]. A daemon continues them from there.
//!
//! It begins with the last file that ends with a whole snapshot, and adds the files after it in their order. The next number
//! of a session never gets smaller:
//!
//! - an entry of a snapshot, or of a session that was adopted, moves it to the number in the entry;
//! - a message or a gap moves it on, if its first number is at most the next one. What stands after a hole moves nothing.
//!
//! A session without an entry begins at the first number of its channel, or of its first gap. One that a whole snapshot
//! does not name was forgotten by the host.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::recorded::journal::entry::{Entry, Snapshot};
use crate::recorded::journal::records::{NumberedRun, SessionFile, SessionVisitor};
use crate::recorded::journal::snapshot::{SnapshotReader, SnapshotState};
use crate::recorded::journal::table::SessionTable;
use blocksd_recording::catalog::{RecordingFile, list_directory, number};
use blocksd_recording::{Error, LostRange};

/// The sessions of a recording, ordered by device and number.
#[derive(Debug, Default)]
pub struct Folded {
    /// The state of each session.
    pub sessions: Vec<FoldedSession>,
    /// Parts that could not be read. The sessions may have more messages there.
    pub unread: Vec<Unread>,
}

/// The state of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldedSession {
    /// The device.
    pub device: String,
    /// The session; not 0.
    pub session: u64,
    /// Every number below is decided.
    pub next: u64,
    /// CRC-32 of the payload of message `next - 1`; 0 if it has none, or if it is unknown.
    pub check: u32,
}

/// A part of a recording that was not folded.
#[derive(Debug)]
pub struct Unread {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub cause: UnreadCause,
}

/// Why a part of a recording was not folded.
#[derive(Debug)]
#[non_exhaustive]
pub enum UnreadCause {
    /// The file cannot be read.
    File(Error),
    /// A range of the file is lost. The rest was folded.
    Lost(LostRange),
    /// The file is not sealed. It was folded, but may have messages that are not durable.
    Unsealed,
    /// Number of entries or channels that are malformed, or of a later version. The rest was folded.
    Malformed(u64),
}

/// Folds the recording in a folder. Repair its torn files before. Files whose names do not have the form of the recording
/// are left out.
///
/// # Errors
/// [`Error::Read`] if the folder cannot be read. Files that cannot be read are [returned](Folded::unread).
///
/// # Examples
/// ```
/// use blocksd::recorded::journal::fold;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// for session in fold(folder)?.sessions {
///     println!("{} continues at {}", session.device, session.next);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn fold(folder: &Path) -> Result<Folded, Error> {
    let mut files = list_directory(folder)?;
    // The place of a copy with another name is not known.
    files.retain(|file| number(&file.path) != u64::MAX);
    let mut unread = Vec::new();
    let mut fold = Fold::default();
    let (mut after, mut without) = (0, 0);
    for (place, file) in files.iter().enumerate().rev() {
        // An error is found again, and returned, when the file is folded.
        match last_snapshot(file) {
            Ok(Base::Snapshot(sessions)) => {
                (fold.sessions, after) = (sessions, place + 1);
                break;
            }
            Ok(Base::NoSessions) => without += 1,
            Ok(Base::Unknown) | Err(_) => without = 0,
        }
        if without == FILES_WITHOUT {
            after = place + without;
            break;
        }
    }
    for file in files.iter().skip(after) {
        fold.snapshot = SnapshotReader::default();
        let of_file = |cause| Unread {
            path: file.path.clone(),
            cause,
        };
        let visited = match SessionFile::open(file) {
            Ok(None) => continue,
            Ok(Some(mut opened)) => {
                if !opened.is_sealed() {
                    unread.push(of_file(UnreadCause::Unsealed));
                }
                opened.visit(&mut fold)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = visited {
            unread.push(of_file(UnreadCause::File(error)));
        }
        unread.extend(fold.lost.drain(..).map(UnreadCause::Lost).map(of_file));
        match std::mem::take(&mut fold.malformed) {
            0 => {}
            count => unread.push(of_file(UnreadCause::Malformed(count))),
        }
    }
    Ok(Folded {
        sessions: fold.finish(),
        unread,
    })
}

/// Number of sealed files in a row without a record of a session that show that no session precedes them: the head of a file
/// has the state of each session. A single such file may have lost its head in a crash.
const FILES_WITHOUT: usize = 2;

/// The statement of a file about the sessions before it.
enum Base {
    /// The state of all sessions at its end.
    Snapshot(SessionTable<FoldState>),
    /// It is sealed, and has no record of a session.
    NoSessions,
    /// Nothing.
    Unknown,
}

impl Base {
    fn of(fold: Fold) -> Self {
        fold.ended().map_or(Self::Unknown, Self::Snapshot)
    }
}

/// The state after the snapshot at the end of a file, if it has a whole one.
fn last_snapshot(file: &RecordingFile) -> Result<Base, Error> {
    let Some(mut opened) = SessionFile::open(file)? else {
        return Ok(Base::Unknown);
    };
    let chunks = match opened.chunks()? {
        Some(chunks) if chunks.is_empty() && opened.is_sealed() => return Ok(Base::NoSessions),
        Some(chunks) => chunks,
        None if opened.is_sealed() => {
            let mut fold = Fold::default();
            opened.visit(&mut fold)?;
            return Ok(Base::of(fold));
        }
        None => return Ok(Base::Unknown),
    };
    let mut count = 1;
    while !chunks.is_empty() {
        let last = chunks.get(chunks.len().saturating_sub(count)..);
        let last = last.unwrap_or(&chunks);
        let mut fold = Fold::default();
        opened.visit_chunks(last, &mut fold)?;
        if !fold.snapshot.may_begin_earlier() || last.len() == chunks.len() {
            return Ok(Base::of(fold));
        }
        count *= 2;
    }
    Ok(Base::Unknown)
}

/// The states of sessions while a recording is read.
#[derive(Debug, Default)]
struct Fold {
    sessions: SessionTable<FoldState>,
    snapshot: SnapshotReader,
    /// The entries of the last whole snapshot.
    whole: Vec<SnapshotState>,
    /// Whether the last snapshot is whole.
    is_whole: bool,
    lost: Vec<LostRange>,
    malformed: u64,
}

/// The state of a session.
#[derive(Clone, Copy, Debug, Default)]
struct FoldState {
    /// Number of the next message. `None` for a session that the host has forgotten.
    next: Option<u64>,
    check: u32,
}

impl Fold {
    fn finish(self) -> Vec<FoldedSession> {
        let sessions = self.sessions.into_sorted().into_iter();
        let sessions = sessions.filter_map(|row| {
            Some(FoldedSession {
                device: row.device.to_string(),
                session: row.session,
                next: row.value.next?,
                check: row.value.check,
            })
        });
        sessions.collect()
    }

    /// The state after a whole snapshot that ends a file. It alone decides, since only a part of the file was read.
    fn ended(mut self) -> Option<SessionTable<FoldState>> {
        if !self.is_whole || !self.snapshot.is_closed() {
            return None;
        }
        for row in self.sessions.iter_mut() {
            row.value = FoldState::default();
        }
        self.reach_all();
        Some(self.sessions)
    }

    /// Moves all sessions of the last whole snapshot on.
    fn reach_all(&mut self) {
        for state in &self.whole {
            if let Some(session) = self.sessions.get_mut(state.place) {
                session.reach(state);
            }
        }
    }

    /// Forgets the sessions that the last whole snapshot does not name.
    fn forget_others(&mut self) {
        let named: HashSet<_> = self.whole.iter().map(|state| state.place).collect();
        for (place, row) in self.sessions.iter_mut().enumerate() {
            if !named.contains(&place) {
                row.value = FoldState::default();
            }
        }
    }

    fn take(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Session { snapshot, .. } => {
                let Some(state) = SnapshotState::of(entry, &mut self.sessions) else {
                    return;
                };
                self.snapshot.state(*snapshot, state);
                // An entry at the head is true without the others.
                if *snapshot == Snapshot::Head
                    && let Some(session) = self.sessions.get_mut(state.place)
                {
                    session.reach(&state);
                }
            }
            Entry::Adopted { .. } => {
                self.snapshot.interrupt();
                if let Some(state) = SnapshotState::of(entry, &mut self.sessions)
                    && let Some(session) = self.sessions.get_mut(state.place)
                {
                    session.reach(&state);
                }
            }
            Entry::Snapshot {
                snapshot, sessions, ..
            } => {
                let whole = self.snapshot.end(*snapshot, *sessions);
                self.is_whole = whole.is_some();
                if let Some(states) = whole {
                    self.whole = states;
                    self.reach_all();
                    self.forget_others();
                }
            }
            Entry::Gap {
                device,
                session,
                from,
                to,
                ..
            } => {
                self.snapshot.interrupt();
                let place = self.channel(device, *session, *from);
                if let Some(session) = self.sessions.get_mut(place) {
                    session.decide(*from, *to, || 0);
                }
            }
        }
    }
}

impl SessionVisitor for Fold {
    fn channel(&mut self, device: &str, session: u64, first: u64) -> usize {
        let place = self.sessions.place(device, session);
        if let Some(session) = self.sessions.get_mut(place) {
            session.next.get_or_insert(first);
        }
        place
    }

    fn run(&mut self, run: &NumberedRun<'_>) {
        self.snapshot.interrupt();
        if let Some(session) = self.sessions.get_mut(run.place) {
            session.decide(run.from, run.to, || crc32fast::hash(run.last));
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, _: u64) {
        self.take(entry);
    }

    fn malformed(&mut self) {
        self.malformed += 1;
    }

    fn lost(&mut self, lost: &LostRange) {
        if lost.cause.loses_messages() {
            self.lost.push(lost.clone());
        }
    }
}

impl FoldState {
    /// Moves the state on to that of an entry.
    fn reach(&mut self, state: &SnapshotState) {
        let next = Some(state.next);
        if self.next < next || (self.next == next && self.check == 0) {
            (self.next, self.check) = (next, state.check);
        }
    }

    /// Decides the numbers from `from` to `to`, without a hole before them.
    fn decide(&mut self, from: u64, to: u64, check: impl FnOnce() -> u32) {
        let next = self.next.unwrap_or(from);
        if from <= next && (next < to || (next == to && self.check == 0)) {
            (self.next, self.check) = (Some(to), check());
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

impl fmt::Display for UnreadCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(Error::Read { source, .. }) => write!(f, "cannot be read: {source}"),
            Self::File(error) => error.fmt(f),
            Self::Lost(lost) => lost.fmt(f),
            Self::Unsealed => f.write_str("not sealed: it is being written, or not repaired yet"),
            Self::Malformed(count) => {
                write!(f, "{count} malformed entries or channels of sessions")
            }
        }
    }
}
