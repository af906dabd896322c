//! The entries of a snapshot while they are read: [`SnapshotReader`] says which snapshots are whole.

use crate::recorded::journal::entry::{Entry, Snapshot};
use crate::recorded::journal::table::SessionTable;

/// The next number of a session in an entry, and the check of the message before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotState {
    /// Place of the session in the table of the reader.
    pub(crate) place: usize,
    pub(crate) next: u64,
    pub(crate) check: u32,
}

impl SnapshotState {
    /// Returns the state that an entry has, and adds its session to the table of the reader. `None` if the entry is not
    /// about the state of a session.
    pub(crate) fn of<T: Default>(
        entry: &Entry<'_>,
        sessions: &mut SessionTable<T>,
    ) -> Option<Self> {
        let (device, session, next, check) = match entry {
            Entry::Session {
                device,
                session,
                next,
                check,
                ..
            } => (device, *session, *next, *check),
            Entry::Adopted {
                device,
                session,
                next,
                ..
            } => (device, *session, *next, 0),
            Entry::Snapshot { .. } | Entry::Gap { .. } => return None,
        };
        Some(Self {
            place: sessions.place(device, session),
            next,
            check,
        })
    }
}

/// Collects the entries of snapshots. A snapshot is whole if its end follows its entries, and states their number.
#[derive(Debug, Default)]
pub(crate) struct SnapshotReader {
    /// The snapshot that was begun.
    begun: Option<Snapshot>,
    states: Vec<SnapshotState>,
    /// Whether there was any record.
    has_records: bool,
    /// Whether a record precedes the last snapshot.
    has_predecessor: bool,
    /// The end of a snapshot at the end of a file was the last record.
    is_closed: bool,
}

impl SnapshotReader {
    /// Takes an entry of a snapshot.
    pub(crate) fn state(&mut self, snapshot: Snapshot, state: SnapshotState) {
        if self.begun != Some(snapshot) {
            self.states.clear();
            self.begun = Some(snapshot);
            self.has_predecessor = self.has_records;
        }
        self.states.push(state);
        (self.has_records, self.is_closed) = (true, false);
    }

    /// Takes the end of a snapshot with this number of entries. Returns the entries if the snapshot is whole.
    pub(crate) fn end(&mut self, snapshot: Snapshot, count: u64) -> Option<Vec<SnapshotState>> {
        let states = std::mem::take(&mut self.states);
        let begun = self.begun.take();
        if begun.is_none() {
            self.has_predecessor = self.has_records;
        }
        (self.has_records, self.is_closed) = (true, snapshot == Snapshot::End);
        let is_same = begun.is_none_or(|begun| begun == snapshot);
        (is_same && states.len() as u64 == count).then_some(states)
    }

    /// Takes another record about sessions, after which no snapshot continues.
    pub(crate) fn interrupt(&mut self) {
        self.begun = None;
        self.states.clear();
        (self.has_records, self.is_closed) = (true, false);
    }

    /// Returns whether the last record ends a snapshot of which earlier entries may be in a part that was not read.
    pub(crate) const fn may_begin_earlier(&self) -> bool {
        self.is_closed && !self.has_predecessor
    }

    /// Returns whether the last record ends a snapshot at the end of a file.
    pub(crate) const fn is_closed(&self) -> bool {
        self.is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: SnapshotState = SnapshotState {
        place: 3,
        next: 5,
        check: 0,
    };

    #[test]
    fn a_snapshot_is_whole_with_all_its_entries_and_their_count() {
        let end = |before: &[Option<Snapshot>], count| {
            let mut reader = SnapshotReader::default();
            for before in before {
                match before {
                    Some(snapshot) => reader.state(*snapshot, STATE),
                    None => reader.interrupt(),
                }
            }
            let states = reader.end(Snapshot::End, count).map(|it| it.len());
            (states, reader.may_begin_earlier())
        };
        let (head, state) = (Some(Snapshot::Head), Some(Snapshot::End));
        assert_eq!(end(&[], 0), (Some(0), true));
        assert_eq!(end(&[state, state], 2), (Some(2), true));
        assert_eq!(end(&[None, state, state], 2), (Some(2), false));
        assert_eq!(end(&[state, state], 3), (None, true));
        assert_eq!(end(&[state, None, state], 2), (None, false));
        assert_eq!(end(&[head], 1), (None, true));
        assert_eq!(end(&[head, state], 1), (Some(1), false));
    }
}
