//! A file with the messages that are not acknowledged, and the session that numbers them: [`Spool`]. It survives the end of
//! the process and of the power.

mod format;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use blocksd_recording::{FileNonce, parent, sync_directory};

use self::format::{Header, RecordState};
use crate::error::{SessionError, SpoolFault};

/// The file is written anew when it is longer than this and twice the messages that it had to keep the last time, in bytes.
const COMPACT_LEN: u64 = 4 << 20;

/// An open spool. Another process cannot open it.
///
/// Messages are [added](Self::add), and are in the file after the next [`commit`](Self::commit). A message must not be sent
/// before that.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    /// The locked file.
    file: File,
    header: Header,
    /// The session of the last record.
    session: u64,
    /// Number of records, and length of them and the header.
    records: u32,
    len: u64,
    /// Length from which it is written anew.
    compact_at: u64,
    /// Messages for the next record.
    pending: Vec<Vec<u8>>,
}

/// The content of a spool when it was opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spooled {
    /// The session; 0 before the first WELCOME.
    pub(crate) session: u64,
    /// Number of the first message; of the next one, if there is none.
    pub(crate) first: u64,
    /// The messages that are not acknowledged.
    pub(crate) messages: Vec<Vec<u8>>,
    /// Length of a record at the end whose write was interrupted, in bytes. Its messages were not sent.
    pub(crate) torn_len: u64,
}

impl Spool {
    /// Opens a spool, or creates it for the device `default`. `device` is the one of the command line.
    ///
    /// # Errors
    /// [`SessionError::Spool`].
    pub(crate) fn open(
        path: &Path,
        device: Option<&str>,
        default: &str,
    ) -> Result<(Self, Spooled), SessionError> {
        // The file is renamed to its name, so follow a link first.
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self::open_real(real, device, default).map_err(|fault| SessionError::Spool {
            path: path.into(),
            fault,
        })
    }

    /// The device id.
    pub(crate) fn device(&self) -> &str {
        &self.header.device
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a message to the next record.
    pub(crate) fn add(&mut self, message: Vec<u8>) {
        self.pending.push(message);
    }

    /// Makes the messages that were added, and the session, durable. `first` is the number of the oldest message that is not
    /// acknowledged, and `next` that of the message after all others.
    ///
    /// # Errors
    /// [`SessionError::Spool`]. Nothing may be sent then.
    pub(crate) fn commit(
        &mut self,
        session: u64,
        first: u64,
        next: u64,
    ) -> Result<(), SessionError> {
        if self.pending.is_empty() && self.session == session {
            return Ok(());
        }
        let number = next - self.pending.len() as u64;
        let state = RecordState {
            session,
            first,
            number,
        };
        let appended = self.append(state);
        appended.map_err(|error| self.error(error))?;
        self.pending.clear();
        self.session = session;
        if self.len < self.compact_at {
            return Ok(());
        }
        match self.compact(session, first) {
            // It goes on in the present file.
            Err(_) if is_named(&self.path, &self.file) => {
                self.compact_at = compact_at(self.len);
                Ok(())
            }
            compacted => compacted.map_err(|error| self.error(error)),
        }
    }

    /// Removes the acknowledged messages from the file. The content is as before if that fails.
    ///
    /// # Errors
    /// [`SessionError::Spool`].
    pub(crate) fn settle(&mut self, session: u64, first: u64) -> Result<(), SessionError> {
        self.commit(session, first, first)?;
        let compacted = self.compact(session, first);
        compacted.map_err(|error| self.error(error))
    }

    fn open_real(
        path: PathBuf,
        device: Option<&str>,
        default: &str,
    ) -> Result<(Self, Spooled), SpoolFault> {
        let mut file = open_locked(&path, device.unwrap_or(default))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let parsed = format::parse(&bytes)?;
        if let Some(given) = device
            && given != parsed.header.device
        {
            return Err(SpoolFault::Device {
                recorded: parsed.header.device,
                given: given.to_owned(),
            });
        }
        let torn_len = (bytes.len() - parsed.len) as u64;
        if torn_len != 0 {
            file.set_len(parsed.len as u64)?;
        }
        // The process before may have ended between a write, or a rename, and its sync.
        file.sync_all()?;
        sync_directory(parent(&path)).map_err(io::Error::other)?;
        let kept = parsed.messages.iter().map(|it| it.len() as u64).sum();
        let spool = Self {
            path,
            file,
            header: parsed.header,
            session: parsed.session,
            records: parsed.records,
            len: parsed.len as u64,
            compact_at: compact_at(kept),
            pending: Vec::new(),
        };
        let spooled = Spooled {
            session: parsed.session,
            first: parsed.first,
            messages: parsed.messages,
            torn_len,
        };
        Ok((spool, spooled))
    }

    /// Writes a record with the messages that were added, and syncs it. After an error, the file has no part of it.
    fn append(&mut self, state: RecordState) -> io::Result<()> {
        let messages = self.pending.iter().map(Vec::as_slice);
        let record = format::encode(self.header.nonce, self.records + 1, state, messages);
        // Not at the position of the last read, which a failed compaction leaves anywhere.
        let written = self.file.write_all_at(&record, self.len);
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // What the system keeps after a failed sync may be lost later. If this fails too, the record is torn, or
            // was not sent.
            let _ = self.file.set_len(self.len);
            let _ = self.file.sync_all();
            return Err(error);
        }
        self.records += 1;
        self.len += record.len() as u64;
        Ok(())
    }

    /// Writes a new file with the messages from number `first` on, and renames it.
    fn compact(&mut self, session: u64, first: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut bytes)?;
        let parsed = format::parse(&bytes).map_err(io::Error::other)?;
        let acked = usize::try_from(first - parsed.first).unwrap_or(usize::MAX);
        let messages = parsed.messages.get(acked..).unwrap_or_default();
        let state = RecordState {
            session,
            first,
            number: first,
        };
        let device = &self.header.device;
        let new = write_new(&self.path, device, state, messages, |_| true)?;
        let (file, header, len) = new.ok_or(io::ErrorKind::ResourceBusy)?;
        // Until the new name is durable, a power failure can bring the present file back.
        sync_directory(parent(&self.path)).map_err(io::Error::other)?;
        (self.file, self.header, self.len, self.records) = (file, header, len, 1);
        self.compact_at = compact_at(len);
        Ok(())
    }

    fn error(&self, error: io::Error) -> SessionError {
        SessionError::Spool {
            path: self.path.clone(),
            fault: error.into(),
        }
    }
}

/// Opens and locks a spool. Creates one without messages if there is none.
fn open_locked(path: &Path, device: &str) -> Result<File, SpoolFault> {
    loop {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => return Err(SpoolFault::NotSpool),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, device)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        match File::options().read(true).write(true).open(path) {
            Ok(file) => {
                lock(&file)?;
                // Another process may have replaced it meanwhile.
                if is_named(path, &file) {
                    return Ok(file);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Creates a spool without messages, unless another process does.
fn create(path: &Path, device: &str) -> Result<(), SpoolFault> {
    let state = RecordState {
        session: 0,
        first: 0,
        number: 0,
    };
    match write_new(path, device, state, &[], |path| !path.exists()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Ok(sync_directory(parent(path)).map_err(io::Error::other)?),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(SpoolFault::Locked),
        Err(error) => Err(error.into()),
    }
}

/// Writes a new file of one record beside the spool, and renames it if `is_wanted`. Returns the locked file, its header, and
/// its length.
fn write_new(
    path: &Path,
    device: &str,
    state: RecordState,
    messages: &[Vec<u8>],
    is_wanted: impl Fn(&Path) -> bool,
) -> io::Result<Option<(File, Header, u64)>> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new_path = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // Never through a link.
    options
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut file = options.open(&new_path)?;
    match lock(&file) {
        Err(SpoolFault::Io(error)) => return Err(error),
        Err(_) => return Err(io::ErrorKind::ResourceBusy.into()),
        Ok(()) if !is_named(&new_path, &file) => return Ok(None),
        Ok(()) if !is_wanted(path) => {
            fs::remove_file(&new_path)?;
            return Ok(None);
        }
        Ok(()) => {}
    }
    let header = Header {
        device: device.to_owned(),
        nonce: u64::from_be_bytes(FileNonce::new().body()),
    };
    let mut bytes = header.encode();
    let messages = messages.iter().map(Vec::as_slice);
    bytes.extend(format::encode(header.nonce, 1, state, messages));
    let written = file.set_len(0).and_then(|()| file.write_all(&bytes));
    let written = written.and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&new_path, path)) {
        let _ = fs::remove_file(&new_path);
        return Err(error);
    }
    Ok(Some((file, header, bytes.len() as u64)))
}

const fn compact_at(len: u64) -> u64 {
    COMPACT_LEN + 2 * len
}

fn lock(file: &File) -> Result<(), SpoolFault> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => SpoolFault::Locked,
        TryLockError::Error(error) => error.into(),
    })
}

/// Whether a path leads to an open file.
fn is_named(path: &Path, file: &File) -> bool {
    let there = fs::metadata(path).and_then(|there| Ok((there, file.metadata()?)));
    there.is_ok_and(|(there, file)| (there.dev(), there.ino()) == (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests;
