//! Where a forwarder begins after a restart: a [`Cursor`], in a file that may be deleted.
//!
//! The stream itself says for each subject how far a recording was forwarded. The file only saves reading the recording from
//! its beginning to find out.

use std::io;
use std::path::{Path, PathBuf};

use crate::place::{Instance, Place};
use crate::stream::{At, Extent, Last, Stream, StreamError};

/// Name of the file with the identity of a recording, in its folder.
const INSTANCE_FILE: &str = "blocksd.instance";

/// Everything before a place was stored when a message was the newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// When the stream was created.
    pub created: i128,
    /// The place.
    pub place: Place,
    /// The newest message then.
    pub newest: Newest,
}

/// A message that the stream had. Where it is the newest one, nothing before it is lost either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    /// Its sequence number.
    pub sequence: u64,
    /// Its nonce.
    pub nonce: u64,
}

impl Newest {
    /// This message.
    pub(crate) const fn of(last: &Last) -> Self {
        Self {
            sequence: last.sequence,
            nonce: last.head.nonce,
        }
    }

    /// Whether the stream, of this extent, still has the message, or has removed it on purpose: at a limit, or because somebody has deleted
    /// it. A stream that loses acknowledged messages, in a power failure of its servers, loses the newest ones, and gives their
    /// numbers to others.
    pub(crate) async fn is_intact<S: Stream>(
        &self,
        stream: &S,
        extent: &Extent,
    ) -> Result<bool, StreamError> {
        if self.sequence < extent.first {
            return Ok(true);
        }
        if extent.last < self.sequence {
            return Ok(false);
        }
        Ok(match stream.at(self.sequence).await? {
            At::Nothing => true,
            At::Message(nonce) => nonce == self.nonce,
            At::Foreign => false,
        })
    }
}

/// The file of a cursor.
#[derive(Clone, Debug)]
pub(crate) struct CursorFile(pub PathBuf);

impl CursorFile {
    /// Reads it. `None` if there is none, or none that this version understands.
    pub(crate) fn load(&self) -> Option<Cursor> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let mut words = text.split_whitespace();
        let mut word = || words.next();
        let cursor = Cursor {
            created: word()?.parse().ok()?,
            place: word()?.parse().ok()?,
            newest: Newest {
                sequence: word()?.parse().ok()?,
                nonce: u64::from_str_radix(word()?, 16).ok()?,
            },
        };
        words.next().is_none().then_some(cursor)
    }

    /// Replaces it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&self, cursor: &Cursor) -> io::Result<()> {
        let Cursor {
            created,
            place,
            newest,
        } = cursor;
        let Newest { sequence, nonce } = newest;
        let text = format!("{created} {place} {sequence} {nonce:016x}\n");
        replace(&self.0, text.as_bytes())
    }

    /// Removes it.
    pub(crate) fn clear(&self) {
        // If it cannot be removed, it is checked at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The identity of the recording in a folder: that of its file, which is made if there is none.
///
/// # Errors
/// If the file cannot be read, made, or understood.
pub fn instance_of(folder: &Path) -> io::Result<Instance> {
    let path = folder.join(INSTANCE_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim_end().parse().map_err(|()| {
            let reason = format!(
                "{}: not an instance of 16 hexadecimal digits",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, reason)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => renew_instance(folder),
        Err(error) => Err(error),
    }
}

/// Gives the recording in a folder a new identity.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn renew_instance(folder: &Path) -> io::Result<Instance> {
    let instance = Instance::random();
    replace(
        &folder.join(INSTANCE_FILE),
        format!("{instance}\n").as_bytes(),
    )?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(instance)
}

/// Replaces a file in one step, after its content is on the disk.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".blocksd-forward-")
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}
