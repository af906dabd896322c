//! A folder that knows what a power failure would leave of it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blocksd_recording::internals::storage::{Directory, File, Folder};

/// A folder whose syncs fail when a test says so.
#[derive(Debug)]
pub(crate) struct Powered {
    directory: Directory,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    files: Vec<Extent>,
    /// The files by their names now, and on the disk.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// The next sync of a file fails.
    pub(crate) fails_next: bool,
}

/// The bytes of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    written: u64,
    durable: u64,
    /// A sync failed, so that no later one makes anything durable.
    has_failed: bool,
}

/// What is left after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Everything: only the process has ended.
    Process,
    /// What was synced.
    Power,
    /// What was synced, and a part of what was written since: this much of 256.
    Partly(u64),
}

impl Powered {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            directory: Directory::open(path).unwrap(),
            state: Arc::default(),
        }
    }

    pub(crate) fn state(&self) -> Arc<Mutex<State>> {
        Arc::clone(&self.state)
    }
}

impl State {
    /// Copies what a crash leaves of the folder.
    pub(crate) fn crash(&self, from: &Path, to: &Path, crash: Crash) {
        let names = match crash {
            Crash::Process => &self.names,
            Crash::Power | Crash::Partly(_) => &self.durable_names,
        };
        for (name, id) in names {
            let Some((now, _)) = self.names.iter().find(|(_, other)| *other == id) else {
                continue;
            };
            let file = self.files[*id];
            let len = match crash {
                Crash::Process => file.written,
                Crash::Power => file.durable,
                Crash::Partly(part) => file.durable + (file.written - file.durable) * part / 256,
            };
            let bytes = std::fs::read(from.join(now)).unwrap();
            let len = usize::try_from(len).unwrap();
            std::fs::write(to.join(name), &bytes[..len.min(bytes.len())]).unwrap();
        }
    }
}

#[derive(Debug)]
struct PoweredFile {
    file: Arc<dyn File>,
    id: usize,
    state: Arc<Mutex<State>>,
}

impl Folder for Powered {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock().unwrap();
        let file = self.directory.create(name)?;
        let id = state.files.len();
        state.files.push(Extent::default());
        state.names.insert(name.to_owned(), id);
        Ok(Arc::new(PoweredFile {
            file,
            id,
            state: Arc::clone(&self.state),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        self.directory.rename(from, to)?;
        let id = state.names.remove(from).unwrap();
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        self.directory.remove(name)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.directory.list()
    }
}

impl File for PoweredFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        let written = self.file.write_at(bytes, offset)?;
        let file = &mut state.files[self.id];
        file.written = file.written.max(offset + written as u64);
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        let before = self.state.lock().unwrap().files[self.id].written;
        std::thread::sleep(Duration::from_micros(200));
        let mut state = self.state.lock().unwrap();
        if std::mem::take(&mut state.fails_next) {
            state.files[self.id].has_failed = true;
            return Err(io::Error::other("the disk has failed"));
        }
        let file = &mut state.files[self.id];
        if !file.has_failed {
            file.durable = before;
        }
        Ok(())
    }
}
