//! An audit of the sessions of recordings: every number is there once, or a gap explains it. Start with
//! [`SessionAudit`].
//!
//! The writer writes the numbers of a session without a hole, and retention deletes the oldest files only. So every number
//! from the first one that is found up to the largest one that is found, or that a snapshot names, must be there. The
//! memory grows with the holes, not with the numbers.

use std::path::{Path, PathBuf};

use crate::recorded::journal::audited::AuditedSession;
use crate::recorded::journal::entry::{Entry, Snapshot};
use crate::recorded::journal::numbers::NumberSet;
use crate::recorded::journal::records::{NumberedRun, SessionFile, SessionVisitor};
use crate::recorded::journal::snapshot::{SnapshotReader, SnapshotState};
use crate::recorded::journal::table::SessionTable;
use blocksd_engine::session::GapCause;
use blocksd_recording::catalog::{RecordingFile, number};
use blocksd_recording::{Error, LostRange, parent};

/// Audits the sessions of files, which it takes in their order.
///
/// ```
/// use blocksd::recorded::journal::SessionAudit;
/// use blocksd_recording::catalog::list_directory;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut audit = SessionAudit::default();
/// for file in list_directory(folder)? {
///     audit.file(&file, false)?;
/// }
/// for session in audit.finish() {
///     println!("{session}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct SessionAudit {
    sessions: SessionTable<AuditState>,
    /// The last file.
    last: Option<PathBuf>,
    snapshot: SnapshotReader,
    is_sealed: bool,
    malformed: u64,
}

/// Why numbers may be missing without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excuse {
    /// They may be in files that were not given.
    Elsewhere,
    /// The host had forgotten the session.
    Forgotten,
}

/// The findings about a session.
#[derive(Debug, Default)]
struct AuditState {
    /// Messages of earlier folders, and those of sealed and of unsealed files of this one.
    earlier: NumberSet,
    sealed: NumberSet,
    unsealed: NumberSet,
    /// Gaps in the order of [`GapCause::ALL`].
    gaps: [NumberSet; 3],
    /// The smallest number of a channel, a message or a gap.
    first: Option<u64>,
    /// Every number from `first` to this one must be there.
    limit: u64,
    /// The number after the largest one that is found or named.
    next: u64,
    last_time_ns: Option<u64>,
    excuse: Option<Excuse>,
    /// The number up to which the host has decided all, by the order of the records. `None` while there is an excuse.
    decided: Option<u64>,
    /// Whether the host has forgotten the session, in any file.
    was_forgotten: bool,
    /// Whether the folder of the last file has named the session.
    is_of_folder: bool,
    audited: AuditedSession,
}

impl SessionAudit {
    /// Takes the next file. `is_single` says that it was given by itself: the files before it may be missing then.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn file(&mut self, file: &RecordingFile, is_single: bool) -> Result<(), Error> {
        let Some(mut opened) = SessionFile::open(file)? else {
            return Ok(());
        };
        let last = self.last.replace(file.path.clone());
        if last
            .as_deref()
            .is_some_and(|last| parent(last) != parent(&file.path))
        {
            self.begin_folder();
        } else if is_single && last.is_some_and(|last| !follows(&last, &file.path)) {
            for row in self.sessions.iter_mut() {
                row.value.excuse.get_or_insert(Excuse::Elsewhere);
                row.value.decided = None;
            }
        }
        self.snapshot = SnapshotReader::default();
        self.is_sealed = opened.is_sealed();
        opened.visit(self)
    }

    /// Returns the number of entries and channels so far that are malformed, or of a later version.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Returns the findings about each session, ordered by device and number.
    #[must_use]
    pub fn finish(self) -> Vec<AuditedSession> {
        let sessions = self.sessions.into_sorted().into_iter();
        let sessions = sessions.map(|row| AuditedSession {
            device: row.device.to_string(),
            session: row.session,
            ..row.value.finish()
        });
        sessions.collect()
    }

    fn begin_folder(&mut self) {
        for row in self.sessions.iter_mut() {
            let state = &mut row.value;
            state.earlier.add(&state.sealed);
            state.earlier.add(&state.unsealed);
            (state.sealed, state.unsealed) = Default::default();
            (state.excuse, state.is_of_folder) = (Some(Excuse::Elsewhere), false);
            state.decided = None;
        }
    }

    /// Takes a whole snapshot. It names all sessions that the host has not forgotten.
    fn whole(&mut self, snapshot: Snapshot, states: &[SnapshotState]) {
        let mut named = vec![false; self.sessions.len()];
        for state in states {
            if let Some(named) = named.get_mut(state.place) {
                *named = true;
            }
            // The numbers before the end of an unsealed file may not be durable.
            if let (Snapshot::End, true, Some(session)) =
                (snapshot, self.is_sealed, self.sessions.get_mut(state.place))
            {
                session.claim(state.next);
            }
        }
        for (row, is_named) in self.sessions.iter_mut().zip(named) {
            if !is_named {
                row.value.forget();
            }
        }
    }
}

impl SessionVisitor for SessionAudit {
    fn channel(&mut self, device: &str, session: u64, first: u64) -> usize {
        let place = self.sessions.place(device, session);
        if let Some(state) = self.sessions.get_mut(place) {
            state.begin(first);
        }
        place
    }

    fn run(&mut self, run: &NumberedRun<'_>) {
        self.snapshot.interrupt();
        if let Some(state) = self.sessions.get_mut(run.place) {
            state.messages(run.from, run.to, self.is_sealed);
            state.last_time_ns = state.last_time_ns.max(Some(run.time_ns));
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, _: u64) {
        match entry {
            Entry::Session { snapshot, .. } => {
                let Some(state) = SnapshotState::of(entry, &mut self.sessions) else {
                    return;
                };
                self.snapshot.state(*snapshot, state);
                if let Some(session) = self.sessions.get_mut(state.place) {
                    session.is_of_folder = true;
                    if *snapshot == Snapshot::Head {
                        session.claim(state.next);
                    }
                }
            }
            Entry::Adopted { .. } => {
                self.snapshot.interrupt();
                if let Some(state) = SnapshotState::of(entry, &mut self.sessions)
                    && let Some(session) = self.sessions.get_mut(state.place)
                {
                    session.forget();
                    session.is_of_folder = true;
                    session.claim(state.next);
                    // From there on, the host knows all.
                    session.excuse = None;
                }
            }
            Entry::Snapshot {
                snapshot, sessions, ..
            } => {
                if let Some(states) = self.snapshot.end(*snapshot, *sessions) {
                    self.whole(*snapshot, &states);
                }
            }
            Entry::Gap {
                device,
                session,
                from,
                to,
                cause,
                ..
            } => {
                self.snapshot.interrupt();
                let place = self.sessions.place(device, *session);
                if let Some(state) = self.sessions.get_mut(place) {
                    state.gap(*from, *to, *cause, self.is_sealed);
                }
            }
        }
    }

    fn malformed(&mut self) {
        self.malformed += 1;
    }

    fn lost(&mut self, _: &LostRange) {}
}

impl AuditState {
    fn begin(&mut self, first: u64) {
        self.excuse_up_to(first);
        self.first = Some(self.first.map_or(first, |known| known.min(first)));
        (self.excuse, self.is_of_folder) = (None, true);
        self.decided.get_or_insert(first);
    }

    /// Takes that the host has forgotten the session, if its folder has named it.
    fn forget(&mut self) {
        if self.is_of_folder {
            (self.excuse, self.was_forgotten) = (Some(Excuse::Forgotten), true);
            self.decided = None;
        }
    }

    fn messages(&mut self, from: u64, to: u64, is_sealed: bool) {
        self.begin(from);
        let audited = &mut self.audited;
        let again = |set: &mut NumberSet, from, to| set.insert(from, to, |_, _| {});
        self.earlier.common(from, to, |from, to| {
            again(&mut audited.twice_elsewhere, from, to);
        });
        if is_sealed {
            self.unsealed.common(from, to, |from, to| {
                again(&mut audited.twice_unrepaired, from, to);
            });
            let (was_forgotten, decided) = (self.was_forgotten, self.decided);
            self.sealed.insert(from, to, |from, to| {
                if was_forgotten {
                    return again(&mut audited.twice_forgotten, from, to);
                }
                // A number that is found before the host had decided it comes after a lost part. The host goes on before that.
                let lost = decided.map_or(to, |decided| decided.clamp(from, to));
                again(&mut audited.twice, from, lost);
                again(&mut audited.twice_after_loss, lost, to);
            });
            self.limit = self.limit.max(to);
            self.decide(from, to);
        } else {
            self.sealed.common(from, to, |from, to| {
                again(&mut audited.twice_unrepaired, from, to);
            });
            self.unsealed.insert(from, to, |from, to| {
                again(&mut audited.twice_unrepaired, from, to);
            });
        }
        self.next = self.next.max(to);
    }

    fn gap(&mut self, from: u64, to: u64, cause: GapCause, is_sealed: bool) {
        self.begin(from);
        for (of, gaps) in GapCause::ALL.iter().zip(&mut self.gaps) {
            if *of == cause {
                gaps.insert(from, to, |_, _| {});
            }
        }
        if is_sealed {
            self.limit = self.limit.max(to);
            self.decide(from, to);
        }
        self.next = self.next.max(to);
    }

    /// Takes numbers that are decided if they continue those before them.
    fn decide(&mut self, from: u64, to: u64) {
        self.decided = self.decided.map(|decided| match from <= decided {
            true => decided.max(to),
            false => decided,
        });
    }

    /// Takes the next number of a snapshot: all smaller ones were decided.
    fn claim(&mut self, next: u64) {
        self.excuse_up_to(next);
        self.decided = self.decided.max(Some(next));
        self.limit = self.limit.max(next);
        self.next = self.next.max(next);
    }

    /// Excuses the numbers between those that are known and this one, if there is a reason.
    fn excuse_up_to(&mut self, number: u64) {
        let AuditedSession {
            elsewhere,
            forgotten,
            ..
        } = &mut self.audited;
        let excused = match self.excuse {
            Some(Excuse::Elsewhere) => elsewhere,
            Some(Excuse::Forgotten) => forgotten,
            None => return,
        };
        if self.first.is_some() {
            excused.insert(self.next, number, |_, _| {});
        }
    }

    fn finish(self) -> AuditedSession {
        let mut messages = self.earlier;
        messages.add(&self.sealed);
        messages.add(&self.unsealed);
        // A gap and a message of one number: the message counts.
        let [device, refused, unknown] = self.gaps;
        let device = device.without([&messages]);
        let refused = refused.without([&messages, &device]);
        let unknown = unknown.without([&messages, &device, &refused]);
        let decided = [&messages, &device, &refused, &unknown];
        let elsewhere = self.audited.elsewhere.without(decided);
        let forgotten = self.audited.forgotten.without(decided);
        let mut missing = NumberSet::default();
        missing.insert(self.first.unwrap_or(self.limit), self.limit, |_, _| {});
        let missing = missing.without(decided).without([&elsewhere, &forgotten]);
        AuditedSession {
            first: self.first,
            next: self.next,
            messages,
            gaps: [device, refused, unknown],
            missing,
            elsewhere,
            forgotten,
            last_time_ns: self.last_time_ns,
            ..self.audited
        }
    }
}

/// Whether a file is the next one after another, by their names.
fn follows(last: &Path, next: &Path) -> bool {
    let (last, next) = (number(last), number(next));
    next != u64::MAX && last.checked_add(1) == Some(next)
}
