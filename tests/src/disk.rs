//! A simulated disk that records every operation: [`Simulated::leave`] restores any moment of it, as a crash or a power
//! failure would have left it.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blocksd_recording::Stats;
use blocksd_recording::internals::storage::{File, Folder};

/// Number of bytes that a disk writes atomically.
const SECTOR: usize = 512;

/// Number of times that a sync checks whether the writer is ahead.
const SYNC_POLLS_MAX: usize = 100;

/// A folder on the simulated disk.
#[derive(Clone, Debug)]
pub struct Simulated {
    journal: Arc<Mutex<Journal>>,
    promises: Promises,
    fault: Option<Fault>,
    /// Number of writes that happen while a file is synced, if the writer does not wait.
    writes_ahead: usize,
}

/// The promise about the content of the disk.
#[derive(Clone, Debug)]
enum Promises {
    /// The blocks that these statistics count as synced.
    Synced(Arc<Stats>),
    /// The messages below this number.
    Acknowledged(Arc<AtomicU64>),
}

impl Promises {
    fn read(&self) -> u64 {
        match self {
            Self::Synced(stats) => stats.read().blocks_synced,
            Self::Acknowledged(number) => number.load(Ordering::Relaxed),
        }
    }
}

/// Failures of a disk: each field is the period, in operations, of one kind of failure.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Period in writes: one write in each is refused, and one is short.
    pub writes: usize,
    /// Period in syncs of files: one in each fails.
    pub syncs: usize,
    /// Period in operations on names (create, rename, sync of the folder): one in each is not permitted.
    pub names: usize,
}

#[derive(Debug, Default)]
struct Journal {
    done: Vec<(Done, u64)>,
    calls: usize,
    syncs: usize,
    named: usize,
    files: usize,
    names: BTreeMap<String, usize>,
}

/// An operation on the disk.
#[derive(Clone, Debug)]
enum Done {
    Create {
        name: String,
        file: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    Write {
        file: usize,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    /// All earlier operations on the file, up to `before`, are on the disk after it, except those of a sync that failed.
    Sync {
        file: usize,
        before: usize,
    },
    /// A sync that failed: nothing that it covered is on the disk because of a later one.
    SyncFailed {
        file: usize,
        before: usize,
    },
    /// All earlier changes of names, up to `before`, are on the disk after it.
    SyncNames {
        before: usize,
    },
}

#[derive(Debug)]
struct SimulatedFile {
    folder: Simulated,
    file: usize,
}

/// How the writing ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The daemon is killed: all that it passed to the system is kept; the last write may be cut at any byte.
    Kill,
    /// The power fails: any unsynced sector may be missing or empty, and files may end anywhere.
    Power,
}

impl Simulated {
    /// Creates an empty disk. Each operation records the number of blocks that `stats` had promised before it.
    pub fn new(stats: Arc<Stats>, fault: Option<Fault>) -> Self {
        Self {
            journal: Arc::default(),
            promises: Promises::Synced(stats),
            fault,
            writes_ahead: 0,
        }
    }

    /// As [`new`](Self::new), with the number below which messages had been acknowledged. Syncs take some time, so that the
    /// writer is ahead.
    pub fn acknowledging(number: Arc<AtomicU64>, fault: Option<Fault>) -> Self {
        Self {
            promises: Promises::Acknowledged(number),
            writes_ahead: 4,
            ..Self::new(Arc::default(), fault)
        }
    }

    /// Number of moments: before the first operation, and after each.
    pub fn moments(&self) -> usize {
        self.lock().done.len() + 1
    }

    /// Number of blocks that had been promised to be on the disk at a moment, or the number below which messages had.
    pub fn promised(&self, moment: usize) -> u64 {
        let journal = self.lock();
        journal
            .done
            .get(moment)
            .map_or_else(|| self.promises.read(), |(_, promised)| *promised)
    }

    /// Writes into a real folder what is left after this end at this moment.
    pub fn leave(
        &self,
        moment: usize,
        end: End,
        chance: &mut Chance,
        folder: &Path,
    ) -> io::Result<()> {
        let journal = self.lock();
        let done: Vec<_> = journal.done[..moment]
            .iter()
            .map(|(done, _)| done)
            .collect();
        // The operation at this moment may have begun.
        let torn = journal.done.get(moment).map(|(done, _)| done);
        for (name, file) in names(&done, end, chance) {
            let bytes = match end {
                End::Kill => killed(&done, torn, file, chance),
                End::Power => powerless(&done, torn, file, chance),
            };
            std::fs::write(folder.join(name), bytes)?;
        }
        Ok(())
    }

    fn permit(&self, journal: &mut Journal) -> io::Result<()> {
        journal.named += 1;
        match self.fault {
            Some(Fault { names, .. }) if journal.named.is_multiple_of(names) => {
                Err(io::ErrorKind::PermissionDenied.into())
            }
            _ => Ok(()),
        }
    }

    fn add(&self, journal: &mut Journal, done: Done) {
        journal.done.push((done, self.promises.read()));
    }

    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names that are left: those that were synced, and some of the later changes, in their order.
fn names(done: &[&Done], end: End, chance: &mut Chance) -> BTreeMap<String, usize> {
    let synced = done.iter().rev().find_map(|done| match done {
        Done::SyncNames { before } => Some(*before),
        _ => None,
    });
    let kept = match end {
        End::Kill => done.len(),
        End::Power => chance.of(synced.unwrap_or(0)..=done.len()),
    };
    let mut names = BTreeMap::new();
    for done in &done[..kept] {
        match done {
            Done::Create { name, file } => {
                names.insert(name.clone(), *file);
            }
            Done::Rename { from, to } => {
                let file = names.remove(from).expect("the name is there");
                names.insert(to.clone(), file);
            }
            Done::Remove { name } => {
                names.remove(name);
            }
            _ => {}
        }
    }
    names
}

fn killed(done: &[&Done], torn: Option<&Done>, file: usize, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = Vec::new();
    for done in done {
        write(&mut bytes, done, file);
    }
    if let Some(Done::Write {
        file: of,
        offset,
        bytes: last,
    }) = torn
    {
        let len = chance.of(0..=last.len());
        let part = Done::Write {
            file: *of,
            offset: *offset,
            bytes: last[..len].into(),
        };
        write(&mut bytes, &part, file);
    }
    bytes
}

fn powerless(done: &[&Done], torn: Option<&Done>, file: usize, chance: &mut Chance) -> Vec<u8> {
    let syncs = done.iter().filter_map(|done| match done {
        Done::Sync { file: of, before } if *of == file => Some((*before, true)),
        Done::SyncFailed { file: of, before } if *of == file => Some((*before, false)),
        _ => None,
    });
    let syncs: Vec<_> = syncs.collect();
    // The first sync after a write decides.
    let is_synced = |at: usize| {
        let first = syncs.iter().find(|(before, _)| at < *before);
        first.is_some_and(|(_, succeeded)| *succeeded)
    };
    let (mut bytes, mut whole, mut durable) = (Vec::new(), Vec::new(), Vec::new());
    for (at, done) in done.iter().copied().chain(torn).enumerate() {
        write(&mut whole, done, file);
        if is_synced(at)
            && let Some(written) = write(&mut bytes, done, file)
        {
            durable.resize(bytes.len(), false);
            durable[written].fill(true);
        }
    }
    let durable_len = bytes.len();
    // Probability that a sector was written: none, few, most, all.
    let likely = [0, 20, 80, 100][chance.of(0..=3)];
    let mut is_kept = None;
    bytes.resize(whole.len(), 0);
    durable.resize(whole.len(), false);
    for start in (0..whole.len()).step_by(SECTOR) {
        let sector = start..(start + SECTOR).min(whole.len());
        if durable[sector.clone()].iter().all(|durable| *durable) {
            continue;
        }
        // Sectors are kept in runs, as disks write them.
        if chance.of(0..=7) == 0 || is_kept.is_none() {
            is_kept = Some(chance.of(0..=99) < likely);
        }
        for at in sector.filter(|at| !durable[*at]) {
            if is_kept == Some(true) {
                bytes[at] = whole[at];
            }
        }
    }
    if chance.of(0..=1) == 0 {
        bytes.truncate(chance.of(durable_len..=whole.len()));
    }
    bytes
}

/// Applies an operation to a file. Returns the written bytes.
fn write(to: &mut Vec<u8>, done: &Done, file: usize) -> Option<Range<usize>> {
    let Done::Write {
        file: of,
        offset,
        bytes,
    } = done
    else {
        return None;
    };
    if *of != file {
        return None;
    }
    let start = usize::try_from(*offset).expect("small files");
    let written = start..start + bytes.len();
    to.resize(to.len().max(written.end), 0);
    to[written.clone()].copy_from_slice(bytes);
    Some(written)
}

/// A random number generator with a seed (SplitMix64, Steele and others, 2014).
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// Returns a random number in this range.
    pub fn of(&mut self, range: RangeInclusive<usize>) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let count = range.end() - range.start() + 1;
        range.start() + usize::try_from(mixed % count as u64).expect("less than the count")
    }
}

impl Folder for Simulated {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut journal = self.lock();
        self.permit(&mut journal)?;
        let file = journal.files;
        journal.files += 1;
        journal.names.insert(name.to_owned(), file);
        self.add(
            &mut journal,
            Done::Create {
                name: name.to_owned(),
                file,
            },
        );
        Ok(Arc::new(SimulatedFile {
            folder: self.clone(),
            file,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut journal = self.lock();
        self.permit(&mut journal)?;
        let file = journal.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        journal.names.insert(to.to_owned(), file);
        self.add(
            &mut journal,
            Done::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
            },
        );
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut journal = self.lock();
        journal.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        self.add(
            &mut journal,
            Done::Remove {
                name: name.to_owned(),
            },
        );
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut journal = self.lock();
        self.permit(&mut journal)?;
        let before = journal.done.len();
        self.add(&mut journal, Done::SyncNames { before });
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let journal = self.lock();
        let len = |file: usize| {
            journal.done.iter().filter_map(move |(done, _)| match done {
                Done::Write {
                    file: of,
                    offset,
                    bytes,
                } if *of == file => Some(offset + bytes.len() as u64),
                _ => None,
            })
        };
        let files = journal.names.iter();
        Ok(files
            .map(|(name, &file)| (name.clone(), len(file).max().unwrap_or(0)))
            .collect())
    }
}

impl File for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut journal = self.folder.lock();
        journal.calls += 1;
        let mut len = bytes.len();
        if let Some(Fault { writes, .. }) = self.folder.fault {
            match journal.calls % writes {
                0 => return Err(io::ErrorKind::StorageFull.into()),
                1 => len = len.div_ceil(3),
                _ => {}
            }
        }
        let done = Done::Write {
            file: self.file,
            offset,
            bytes: bytes[..len].into(),
        };
        self.folder.add(&mut journal, done);
        Ok(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut journal = self.folder.lock();
        journal.syncs += 1;
        if let Some(Fault { syncs, .. }) = self.folder.fault
            && journal.syncs.is_multiple_of(syncs)
        {
            let (file, before) = (self.file, journal.done.len());
            let failed = Done::SyncFailed { file, before };
            self.folder.add(&mut journal, failed);
            return Err(io::Error::other("the disk has failed"));
        }
        let (before, calls) = (journal.done.len(), journal.calls);
        drop(journal);
        // A sync takes time, and does not cover what is written meanwhile.
        std::thread::yield_now();
        for _ in 0..SYNC_POLLS_MAX {
            if calls + self.folder.writes_ahead <= self.folder.lock().calls {
                break;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let mut journal = self.folder.lock();
        self.folder.add(
            &mut journal,
            Done::Sync {
                file: self.file,
                before,
            },
        );
        Ok(())
    }
}
