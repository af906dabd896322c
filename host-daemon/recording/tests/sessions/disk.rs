//! A folder whose syncs of files fail and wait as a test says.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use blocksd_recording::internals::storage::{Directory, File, Folder};

/// Longest wait for an event.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Which syncs of files fail, and how many may return.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Syncs that have returned.
    done: usize,
    /// Syncs that may return.
    allowed: usize,
    /// Numbers of the syncs that fail, from 0.
    failing: Vec<usize>,
}

impl Syncs {
    /// Lets all syncs return, except that these fail.
    pub(crate) fn failing(numbers: &[usize]) -> Arc<Self> {
        let syncs = Self::default();
        syncs.state.lock().unwrap().failing = numbers.to_vec();
        syncs.allow(usize::MAX);
        Arc::new(syncs)
    }

    /// Holds all syncs, until they are allowed. These fail.
    pub(crate) fn held(failing: &[usize]) -> Arc<Self> {
        let syncs = Self::failing(failing);
        syncs.allow(0);
        syncs
    }

    /// Holds all further syncs.
    pub(crate) fn hold(&self) {
        let done = self.state.lock().unwrap().done;
        self.allow(done);
    }

    /// Makes the next sync fail.
    pub(crate) fn fail_next(&self) {
        let mut state = self.state.lock().unwrap();
        state.failing = vec![state.done];
    }

    /// Lets syncs return, up to this number of all.
    pub(crate) fn allow(&self, count: usize) {
        self.state.lock().unwrap().allowed = count;
        self.changed.notify_all();
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let mut state = self
            .changed
            .wait_while(state, |state| state.allowed <= state.done)
            .unwrap();
        let number = state.done;
        state.done += 1;
        match state.failing.contains(&number) {
            true => Err(io::Error::other("the disk has failed")),
            false => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct FailingFolder(pub(crate) Directory, pub(crate) Arc<Syncs>);

#[derive(Debug)]
pub(crate) struct FailingFile(Arc<dyn File>, Arc<Syncs>);

impl Folder for FailingFolder {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.0.create(name)?;
        Ok(Arc::new(FailingFile(file, Arc::clone(&self.1))))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }
}

impl File for FailingFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.sync()
    }
}
