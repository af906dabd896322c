//! A simulated disk that records every operation: [`Simulated::leave`] restores any moment of it, as a crash or a power
//! failure would have left it.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blocksd_recording::Stats;
use blocksd_recording::internals::storage::{File, Folder};

/// Number of bytes that a disk writes atomically.
const SECTOR: usize = 512;

/// A folder on the simulated disk.
#[derive(Clone, Debug)]
pub struct Simulated {
    journal: Arc<Mutex<Journal>>,
    stats: Arc<Stats>,
    fault: Option<Fault>,
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
    /// All earlier operations on the file, up to `before`, are on the disk after it.
    Sync {
        file: usize,
        before: usize,
    },
    /// The same for the names in the folder.
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
            stats,
            fault,
        }
    }

    /// Number of moments: before the first operation, and after each.
    pub fn moments(&self) -> usize {
        self.lock().done.len() + 1
    }

    /// Number of blocks that had been promised to be on the disk at a moment.
    pub fn promised(&self, moment: usize) -> u64 {
        let journal = self.lock();
        journal.done.get(moment).map_or_else(
            || self.stats.read().blocks_synced,
            |(_, promised)| *promised,
        )
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
        journal.done.push((done, self.stats.read().blocks_synced));
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
    let synced = done.iter().rev().find_map(|done| match done {
        Done::Sync { file: of, before } if *of == file => Some(*before),
        _ => None,
    });
    let synced = synced.unwrap_or(0);
    let mut bytes = Vec::new();
    for done in &done[..synced] {
        write(&mut bytes, done, file);
    }
    let durable = bytes.len();
    let mut whole = bytes.clone();
    for done in done[synced..].iter().copied().chain(torn) {
        write(&mut whole, done, file);
    }
    // Probability that a sector was written: none, few, most, all.
    let likely = [0, 20, 80, 100][chance.of(0..=3)];
    let mut is_kept = false;
    bytes.resize(whole.len(), 0);
    for start in (durable / SECTOR * SECTOR..whole.len()).step_by(SECTOR) {
        // Sectors are kept in runs, as disks write them.
        if chance.of(0..=7) == 0 || start <= durable {
            is_kept = chance.of(0..=99) < likely;
        }
        let (from, to) = (start.max(durable), (start + SECTOR).min(whole.len()));
        if is_kept {
            bytes[from..to].copy_from_slice(&whole[from..to]);
        }
    }
    if chance.of(0..=1) == 0 {
        bytes.truncate(chance.of(durable..=whole.len()));
    }
    bytes
}

fn write(to: &mut Vec<u8>, done: &Done, file: usize) {
    if let Done::Write {
        file: of,
        offset,
        bytes,
    } = done
        && *of == file
    {
        let start = usize::try_from(*offset).expect("small files");
        if to.len() < start + bytes.len() {
            to.resize(start + bytes.len(), 0);
        }
        to[start..start + bytes.len()].copy_from_slice(bytes);
    }
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
            return Err(io::Error::other("the disk has failed"));
        }
        let before = journal.done.len();
        drop(journal);
        // A sync takes time, and does not cover what is written meanwhile.
        std::thread::yield_now();
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
