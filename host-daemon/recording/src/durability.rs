//! The durable part of the files that a log writes: a [`Durability`] is shared by the log and a [`Tail`](crate::Tail).

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::format::nonce::FileNonce;
use crate::format::private::VoidedFile;

/// Knows which part of each file of a log is durable: on the disk, and reported so by
/// [`Log::on_commit`](crate::Log::on_commit). Each log has one: [`Log::durability`](crate::Log::durability).
///
/// A tail with [`Tail::durable`](crate::Tail::durable) reads only that part. Each commit wakes it.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use blocksd_recording::{Log, LogOptions, Tail, Wanted};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let log = Log::open(folder, LogOptions::default())?;
/// let durability = Arc::clone(log.durability());
/// let tail = Tail::new(folder.into(), Wanted::default()).durable(durability);
/// // Visit it on another thread.
/// # let _ = tail;
/// # log.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Durability {
    state: Mutex<DurabilityState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct DurabilityState {
    /// The files that were begun and are not sealed.
    files: HashMap<FileNonce, Unsealed>,
    moment: Moment,
    /// Files that were begun.
    begun: u64,
}

/// A file that is not sealed.
#[derive(Debug, Default)]
struct Unsealed {
    synced_len: u64,
    /// Its place in the order of files.
    begun: u64,
    /// A durable file declares it void: its numbered messages after `synced_len` do not count.
    is_void: bool,
    /// The files that it declares void, until that is durable.
    voids: Vec<VoidedFile>,
}

/// How often something changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Changes of any kind.
    pub commits: u64,
    /// Changes after which there may be other files to read.
    pub files: u64,
}

/// The part of a file that may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadableExtent {
    /// Everything: the file is sealed, or this log did not write it.
    All,
    /// The first bytes, up to this length. The file may get more, or be declared void.
    Synced(u64),
    /// Everything but the numbered messages after this length, which a repair sets aside. Nothing is added to the file.
    Void(u64),
}

impl Durability {
    /// A file is about to be created, and declares files void. Call it before the file is visible in its folder.
    pub(crate) fn begin(&self, nonce: FileNonce, voids: &[VoidedFile]) {
        let mut state = self.lock();
        state.begun += 1;
        let file = Unsealed {
            begun: state.begun,
            voids: voids.to_vec(),
            ..Unsealed::default()
        };
        state.files.insert(nonce, file);
    }

    /// A commit has made a file durable up to this length.
    pub(crate) fn synced(&self, nonce: FileNonce, len: u64) {
        let mut state = self.lock();
        if let Some(file) = state.files.get_mut(&nonce) {
            let is_first = file.synced_len == 0;
            file.synced_len = len;
            let voids = std::mem::take(&mut file.voids);
            let begun = file.begun;
            state.declare(voids);
            if is_first {
                state.leave_before(begun);
                state.moment.files += 1;
            }
        }
        self.notify(state);
    }

    /// A file is synced to its end, and is about to get the name of a sealed file. Call it before it is renamed.
    pub(crate) fn sealed(&self, nonce: FileNonce) {
        let mut state = self.lock();
        if let Some(file) = state.files.remove(&nonce) {
            state.declare(file.voids);
            state.moment.files += 1;
        }
        self.notify(state);
    }

    /// Returns the part of a file that may be read. A file with another nonce is one of an earlier process.
    pub(crate) fn extent(&self, nonce: FileNonce) -> ReadableExtent {
        match self.lock().files.get(&nonce) {
            None => ReadableExtent::All,
            Some(file) if file.is_void => ReadableExtent::Void(file.synced_len),
            Some(file) => ReadableExtent::Synced(file.synced_len),
        }
    }

    /// Returns the current moment. Take it before a look at the files.
    pub(crate) fn moment(&self) -> Moment {
        self.lock().moment
    }

    /// Waits until there was another commit since a moment, for at most this time.
    pub(crate) fn wait(&self, since: Moment, at_most: Duration) {
        let state = self.lock();
        let is_same = |state: &mut DurabilityState| state.moment.commits == since.commits;
        drop(self.changed.wait_timeout_while(state, at_most, is_same));
    }

    fn notify(&self, mut state: MutexGuard<'_, DurabilityState>) {
        state.moment.commits += 1;
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, DurabilityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DurabilityState {
    /// A file is durable that was begun after others. The earlier ones are sealed, or stay unsealed. No file declares one void whose
    /// sync failed after another of its epoch, without numbered messages: a repair keeps all that it has.
    fn leave_before(&mut self, begun: u64) {
        for file in self.files.values_mut() {
            if file.begun < begun && !file.is_void {
                file.is_void = true;
                file.synced_len = u64::MAX;
            }
        }
    }

    /// Applies a declaration that is on the disk. The head of a void file was synced before messages went there, so that its own
    /// declaration counts, too, once a later file is durable.
    fn declare(&mut self, mut voids: Vec<VoidedFile>) {
        while let Some(VoidedFile { nonce, synced_len }) = voids.pop() {
            if let Some(file) = self.files.get_mut(&nonce) {
                file.is_void = true;
                file.synced_len = synced_len;
                voids.append(&mut file.voids);
                self.moment.files += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Instant;

    use super::*;
    use crate::{Channel, ChannelSpec, Log, LogOptions};

    fn void(nonce: FileNonce, synced_len: u64) -> VoidedFile {
        VoidedFile { nonce, synced_len }
    }

    #[test]
    fn a_declaration_counts_once_a_later_file_is_durable() {
        let durability = Durability::default();
        let [first, second, third] = [(); 3].map(|()| FileNonce::new());
        durability.begin(first, &[]);
        durability.synced(first, 7);
        assert_eq!(durability.extent(first), ReadableExtent::Synced(7));
        durability.begin(second, &[void(first, 7)]);
        assert_eq!(durability.extent(first), ReadableExtent::Synced(7));
        // The sync of the second file fails: a third one declares it void, and not the first again.
        durability.begin(third, &[void(second, 0)]);
        assert_eq!(durability.extent(first), ReadableExtent::Synced(7));
        durability.synced(third, 9);
        assert_eq!(durability.extent(first), ReadableExtent::Void(7));
        assert_eq!(durability.extent(second), ReadableExtent::Void(0));
        assert_eq!(durability.extent(third), ReadableExtent::Synced(9));
        durability.sealed(third);
        assert_eq!(durability.extent(third), ReadableExtent::All);
    }

    #[test]
    fn a_broken_file_that_nothing_declares_void_counts_completely() {
        let durability = Durability::default();
        let [broken, next] = [(); 2].map(|()| FileNonce::new());
        durability.begin(broken, &[]);
        durability.synced(broken, 7);
        durability.begin(next, &[]);
        assert_eq!(durability.extent(broken), ReadableExtent::Synced(7));
        durability.synced(next, 9);
        assert_eq!(durability.extent(broken), ReadableExtent::Void(u64::MAX));
        assert_eq!(durability.extent(next), ReadableExtent::Synced(9));
    }

    #[test]
    fn a_log_that_ended_has_forgotten_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
        let durability = Arc::clone(log.durability());
        let channel = log.channel(&mut Channel::default(), ChannelSpec::default);
        log.append(channel.unwrap(), 0, 1, b"reading").unwrap();
        let count = || durability.lock().files.len();
        assert_eq!(count(), 1);
        log.finish().unwrap();
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_commit_wakes_and_one_before_the_wait_is_not_missed() {
        let durability = Arc::<Durability>::default();
        let nonce = FileNonce::new();
        durability.begin(nonce, &[]);
        let before = durability.moment();
        durability.synced(nonce, 1);
        let begun = Instant::now();
        durability.wait(before, Duration::from_secs(600));
        let now = durability.moment();
        let (send, woken) = mpsc::channel();
        let waiting = Arc::clone(&durability);
        let thread = std::thread::spawn(move || {
            waiting.wait(now, Duration::from_secs(600));
            send.send(()).unwrap();
        });
        assert!(woken.recv_timeout(Duration::from_millis(50)).is_err());
        durability.synced(nonce, 2);
        woken.recv().unwrap();
        thread.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(300));
    }
}
