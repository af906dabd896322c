//! The result of a recovery: [`Recovered`].

use std::collections::BTreeMap;
use std::fmt;

use crate::format::nonce::FileNonce;
use crate::read::loss::LostRange;

/// Largest number of lost ranges that are listed one by one.
pub const LOST_MAX: usize = 100;
/// Largest number of nonces that [`Recovered::hints`] lists.
const HINTS_MAX: usize = 10;

/// The result of a recovery: the content that was kept, and the losses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The file is sealed and sound. Only the repair of a folder writes such a file anew.
    pub complete: bool,
    /// Something was kept, and a file was written.
    pub written: bool,
    /// More is lost than an unfinished record at the end of the file. Keep the original, because it may hold data that
    /// was not recovered.
    pub damaged: bool,
    /// Number of whole chunks.
    pub chunks: u64,
    /// Complete messages of devices.
    pub blocks: u64,
    /// Pieces of oversize messages.
    pub pieces: u64,
    /// Other events, and entries about sessions.
    pub events: u64,
    /// Messages of known channels of other programs.
    pub others: u64,
    /// Messages whose channel was lost. They are kept in channels with special topics.
    pub unknown: u64,
    /// Attachments, metadata, and records of unknown types, which other programs have written.
    pub records: u64,
    /// Messages without numbers, because no commit confirmed them: the repair of a torn file sets them aside. Their senders
    /// send them again.
    pub unconfirmed: u64,
    /// Payload bytes of all messages in `blocks`, `pieces`, `others` and `unknown`.
    pub bytes: u64,
    /// Messages that are missing between whole chunks, according to their sequence numbers.
    pub missing: u64,
    /// Whole chunks are out of order.
    pub is_disordered: bool,
    /// Whole chunks that are repeated. They are kept once.
    pub repeated_chunks: u64,
    /// Chunks that are not whole. Chunks without a readable length are not counted.
    pub lost_chunks: u64,
    /// Bytes of the file that are lost.
    pub lost_bytes: u64,
    /// The first [`LOST_MAX`] lost ranges.
    pub lost: Vec<LostRange>,
    /// Nonces of whole chunks that were skipped, with the number of chunks: neither the name nor the beginning of the
    /// file says which nonce is that of the file.
    pub strangers: BTreeMap<FileNonce, u64>,
}

impl Recovered {
    /// Returns a line for each nonce that may be that of the file, if that is not known. A line says what to do.
    pub fn hints(&self) -> impl Iterator<Item = String> {
        let strangers = self.strangers.iter().take(HINTS_MAX);
        strangers.map(|(nonce, count)| {
            format!(
                "{count} chunks with nonce {nonce} were skipped, because neither the name nor the beginning of the file \
                 has it; if they belong to this file and are not payload, rename the file to \
                 NUMBER-TIME-{nonce}.mcap.part and recover it again"
            )
        })
    }

    /// Describes what is wrong with the order of the chunks. Empty if nothing is.
    #[must_use]
    pub fn disorder(&self) -> String {
        let mut text = String::new();
        if self.missing != 0 {
            text += &format!("; {} messages missing between whole chunks", self.missing);
        }
        if self.is_disordered {
            text += "; chunks out of order";
        }
        if self.repeated_chunks != 0 {
            text += &format!("; {} chunks are repeated", self.repeated_chunks);
        }
        text
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            blocks,
            pieces,
            events,
            bytes,
            ..
        } = self;
        write!(f, "kept {blocks} blocks")?;
        if *pieces != 0 {
            write!(f, ", {pieces} pieces")?;
        }
        if self.others != 0 {
            write!(f, ", {} other messages", self.others)?;
        }
        write!(f, ", {events} events, {bytes} bytes of payload")?;
        if self.records != 0 {
            write!(f, ", {} attachments or other records", self.records)?;
        }
        if self.unknown != 0 {
            write!(f, ", {} messages of unknown channels", self.unknown)?;
        }
        if self.unconfirmed != 0 {
            write!(f, ", {} unconfirmed messages", self.unconfirmed)?;
        }
        write!(
            f,
            "; lost {} bytes, {} chunks{}",
            self.lost_bytes,
            self.lost_chunks,
            self.disorder()
        )
    }
}
