//! The recording: files, what of them is durable, and their repair at a start.

use crate::Mutant;

/// A file of the recording.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct File {
    /// Its first bytes; `None` if the power took them.
    pub(crate) head: Option<Head>,
    pub(crate) records: Vec<Record>,
    /// How many records are durable.
    pub(crate) synced: usize,
    /// How many the disk has after a second sync of the same pages was believed.
    pub(crate) believed: usize,
    pub(crate) state: FileState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FileState {
    Open,
    /// Its last sync is due.
    Ending,
    Sealed,
    /// A sync failed, of it or of a file before it.
    Broken,
}

/// The head of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Head {
    /// The next number of each session.
    pub(crate) snapshot: Vec<(u64, u64)>,
    /// Files before this one, and how many of their records are durable: the others were sent again.
    pub(crate) voids: Vec<(usize, usize)>,
}

/// A record of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) session: u64,
    /// Its number; of a gap, the first.
    pub(crate) from: u64,
    /// The number after it.
    pub(crate) to: u64,
    pub(crate) what: What,
    /// The record before which the session began is in the same chunk.
    pub(crate) begins: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Message(u8),
    /// A message over the limit.
    Refused(u8),
    Gap,
}

impl File {
    pub(crate) const fn new(head: Head) -> Self {
        Self {
            head: Some(head),
            records: Vec::new(),
            synced: 0,
            believed: usize::MAX,
            state: FileState::Open,
        }
    }

    /// Records that a loss of power leaves.
    pub(crate) fn durable(&self) -> &[Record] {
        &self.records[..self.synced.min(self.believed)]
    }
}

/// The value of a record, if it has one.
pub(crate) const fn value(record: &Record) -> Option<u8> {
    match record.what {
        What::Message(value) | What::Refused(value) => Some(value),
        What::Gap => None,
    }
}

/// Repairs the files at a start, in their order: sets aside what is not contiguous, and what a later head declares void.
/// What is left is written anew and synced. Returns the next number of each session.
pub(crate) fn repair(files: &mut [File], mutant: Option<Mutant>) -> Vec<(u64, u64)> {
    let mut sessions: Vec<(u64, u64)> = Vec::new();
    for at in 0..files.len() {
        let void_from = void_from(files, at, mutant);
        let file = &mut files[at];
        if let Some(head) = &file.head {
            if mutant == Some(Mutant::SnapshotReplaces) {
                sessions.clone_from(&head.snapshot);
            }
            for (session, next) in &head.snapshot {
                match sessions.iter_mut().find(|known| known.0 == *session) {
                    Some(known) => known.1 = known.1.max(*next),
                    None => sessions.push((*session, *next)),
                }
            }
        }
        let mut kept = Vec::new();
        for (index, record) in file.records.iter().enumerate() {
            let is_void = match &void_from {
                Void::Nothing => false,
                Void::From(from) => *from <= index,
                Void::Numbers(snapshot) => {
                    let next = snapshot.iter().find(|known| known.0 == record.session);
                    next.is_none_or(|next| next.1 <= record.from)
                }
            };
            let known = sessions.iter_mut().find(|known| known.0 == record.session);
            let next = match known {
                Some(known) => &mut known.1,
                None if record.begins || mutant == Some(Mutant::HoleIgnored) => {
                    sessions.push((record.session, record.from));
                    &mut sessions.last_mut().expect("was pushed").1
                }
                None => continue,
            };
            let is_after_hole = *next < record.from && mutant != Some(Mutant::HoleIgnored);
            // An equal number is that of a message that was sent again.
            let is_again = record.to <= *next && mutant != Some(Mutant::VoidKept);
            if is_void || is_after_hole || is_again {
                continue;
            }
            *next = record.to;
            kept.push(*record);
        }
        let is_believed =
            mutant == Some(Mutant::SecondSyncBelieved) && file.state == FileState::Broken;
        if is_believed {
            file.believed = file.believed.min(file.synced);
        }
        (file.synced, file.records) = (kept.len(), kept);
        file.state = FileState::Sealed;
    }
    sessions.sort_unstable();
    sessions
}

/// Which records of a file were sent again.
enum Void {
    Nothing,
    From(usize),
    Numbers(Vec<(u64, u64)>),
}

fn void_from(files: &[File], at: usize, mutant: Option<Mutant>) -> Void {
    let mut heads = files[at + 1..].iter().filter_map(|file| file.head.as_ref());
    if mutant == Some(Mutant::VoidKept) {
        return Void::Nothing;
    }
    let naming = heads.find(|head| head.voids.iter().any(|void| void.0 == at));
    let Some(head) = naming else {
        return Void::Nothing;
    };
    if mutant == Some(Mutant::VoidBySnapshot) {
        return Void::Numbers(head.snapshot.clone());
    }
    let void = head.voids.iter().find(|void| void.0 == at);
    void.map_or(Void::Nothing, |void| Void::From(void.1))
}
