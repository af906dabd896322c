//! The bytes of a spool: a header, then records, of which only the last one can be torn. Start with [`parse`].
//!
//! A record is synced before anything is written after it, and begins at a multiple of [`SECTOR`] bytes. So an interrupted
//! write leaves a record that the file ends in, or one with a sector of zeros. Any other difference is damage.

use crate::error::SpoolFault;
use framing_core::session::Device;
use framing_core::session::wire::{DEVICE_MAX, NUMBER_MAX};

/// Length in bytes that a disk writes as a whole, or not at all.
pub(super) const SECTOR: usize = 512;

const MAGIC: [u8; 8] = *b"BLKSPOOL";
const VERSION: u8 = 1;
/// Position of the checksum of the header.
const HEADER_CRC: usize = 24 + DEVICE_MAX;
const RECORD_MAGIC: [u8; 4] = *b"BSR1";
/// Length of a record before its messages.
const RECORD_LEN: usize = 52;
const RECORD_CRC: usize = RECORD_LEN - 4;
/// The last bytes of a record, after the checksum of its messages. They are not zero, so the last sector is not zeros.
const RECORD_END: [u8; 4] = *b"done";

/// The first sector of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The device id.
    pub(super) device: String,
    /// A random number of this file, which each record repeats: bytes of another spool in a message are no record.
    pub(super) nonce: u64,
}

/// The state of the spool in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordState {
    /// The session; 0 before the first WELCOME.
    pub(super) session: u64,
    /// Number of the oldest message that is not acknowledged.
    pub(super) first: u64,
    /// Number of the first message of the record.
    pub(super) number: u64,
}

/// The content of a spool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SpoolContent {
    pub(super) header: Header,
    /// The session; 0 before the first WELCOME.
    pub(super) session: u64,
    /// Number of the first message.
    pub(super) first: u64,
    /// The messages that are not acknowledged.
    pub(super) messages: Vec<Vec<u8>>,
    /// Number of intact records.
    pub(super) records: u32,
    /// Length of the header and the intact records. The rest is a torn record.
    pub(super) len: usize,
}

impl Header {
    /// The first sector.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let id_len = u8::try_from(self.device.len()).unwrap_or_default();
        bytes.extend([VERSION, id_len, 0, 0, 0, 0, 0, 0]);
        bytes.extend(self.nonce.to_be_bytes());
        bytes.extend(self.device.as_bytes());
        bytes.resize(HEADER_CRC, 0);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes.resize(SECTOR, 0);
        bytes
    }

    fn parse(file: &[u8]) -> Result<Self, SpoolFault> {
        if !file.starts_with(&MAGIC) {
            return Err(SpoolFault::NotSpool);
        }
        let damaged = SpoolFault::Damaged { offset: 0 };
        let (Some(sector), Some(crc)) = (file.get(..SECTOR), word(file, HEADER_CRC)) else {
            return Err(damaged);
        };
        match sector.get(8) {
            Some(&VERSION) => {}
            Some(&version) => return Err(SpoolFault::Version { version }),
            None => return Err(damaged),
        }
        let is_intact = sector.get(..HEADER_CRC).map(crc32fast::hash) == Some(crc);
        let id_len = usize::from(sector.get(9).copied().unwrap_or_default());
        let device = sector.get(24..24 + id_len).unwrap_or_default();
        let device = String::from_utf8_lossy(device).into_owned();
        match long(sector, 16) {
            Some(nonce) if is_intact && Device::new(&device).is_ok() => Ok(Self { device, nonce }),
            _ => Err(damaged),
        }
    }
}

/// A record: its wire form is padded to whole sectors. `sequence` numbers the records of a file from 1 on.
pub(super) fn encode<'a>(
    nonce: u64,
    sequence: u32,
    state: RecordState,
    messages: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    let mut record = vec![0; RECORD_LEN];
    for message in messages {
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
        record.extend(len.to_be_bytes());
        record.extend(message);
    }
    let body_len = u32::try_from(record.len() - RECORD_LEN).unwrap_or(u32::MAX);
    let body_crc = crc32fast::hash(record.get(RECORD_LEN..).unwrap_or_default());
    record.extend(body_crc.to_be_bytes());
    record.extend(RECORD_END);
    let mut head = RECORD_MAGIC.to_vec();
    head.extend(sequence.to_be_bytes());
    head.extend(nonce.to_be_bytes());
    head.extend(body_len.to_be_bytes());
    head.extend(count.to_be_bytes());
    for number in [state.session, state.first, state.number] {
        head.extend(number.to_be_bytes());
    }
    head.extend(crc32fast::hash(&head).to_be_bytes());
    for (slot, byte) in record.iter_mut().zip(head) {
        *slot = byte;
    }
    record.resize(record.len().next_multiple_of(SECTOR), 0);
    record
}

/// Reads the content of a spool, up to a torn record.
///
/// # Errors
/// [`SpoolFault`].
pub(super) fn parse(file: &[u8]) -> Result<SpoolContent, SpoolFault> {
    let header = Header::parse(file)?;
    let nonce = header.nonce;
    let mut parsed = SpoolContent {
        header,
        session: 0,
        first: 0,
        messages: Vec::new(),
        records: 0,
        len: SECTOR,
    };
    let mut messages = Vec::new();
    while let Some(rest) = file.get(parsed.len..)
        && !rest.is_empty()
    {
        let damaged = SpoolFault::Damaged {
            offset: parsed.len as u64,
        };
        match Record::parse(rest, nonce, parsed.records + 1) {
            Ok(record) => {
                parsed.add(&record, &mut messages).ok_or(damaged)?;
                parsed.len += record.len;
                parsed.records += 1;
            }
            Err(RecordFault::Torn) => break,
            Err(RecordFault::Damaged) => return Err(damaged),
        }
    }
    // A file is renamed to its name with a record.
    if parsed.records == 0 {
        let offset = SECTOR as u64;
        return Err(SpoolFault::Damaged { offset });
    }
    parsed.messages = messages.into_iter().map(<[u8]>::to_vec).collect();
    Ok(parsed)
}

impl SpoolContent {
    /// Adds an intact record to the earlier ones. `None` if it contradicts them.
    fn add<'a>(&mut self, record: &Record<'a>, messages: &mut Vec<&'a [u8]>) -> Option<()> {
        let RecordState {
            session,
            first,
            number,
        } = record.state;
        let next = self.first + messages.len() as u64;
        let is_next = self.records == 0 && first == number || self.first <= first && number == next;
        messages.extend(&record.messages);
        let after = number + record.messages.len() as u64;
        if !is_next || after < first || NUMBER_MAX < after {
            return None;
        }
        if self.records != 0 {
            let acked = usize::try_from(first - self.first).ok()?;
            messages.drain(..acked);
        }
        (self.session, self.first) = (session, first);
        Some(())
    }
}

enum RecordFault {
    /// Its write was interrupted.
    Torn,
    Damaged,
}

struct Record<'a> {
    state: RecordState,
    messages: Vec<&'a [u8]>,
    /// Length in the file.
    len: usize,
}

impl<'a> Record<'a> {
    /// Parses the record at the beginning of the rest of a file.
    fn parse(rest: &'a [u8], nonce: u64, sequence: u32) -> Result<Self, RecordFault> {
        let Some(state) = Self::state(rest, nonce, sequence) else {
            let first = rest.get(..SECTOR).unwrap_or(rest);
            // A sector is written wholly or not at all, but a process can end within one.
            let is_cut = first.len() < RECORD_LEN && is_begin(first, nonce, sequence);
            let is_unwritten = first.iter().all(|byte| *byte == 0);
            let is_torn = is_cut || is_unwritten && !has_later_record(rest, nonce, sequence);
            return Err(if is_torn {
                RecordFault::Torn
            } else {
                RecordFault::Damaged
            });
        };
        let body_len = word(rest, 16).unwrap_or_default() as usize;
        let end = RECORD_LEN + body_len;
        let len = (end + 8).next_multiple_of(SECTOR);
        let Some(record) = rest.get(..len) else {
            return Err(RecordFault::Torn);
        };
        let (body, tail) = record.split_at(end);
        let (body, padding) = (
            body.get(RECORD_LEN..).unwrap_or_default(),
            tail.get(8..).unwrap_or_default(),
        );
        let is_whole = word(tail, 0) == Some(crc32fast::hash(body))
            && tail.get(4..8) == Some(&RECORD_END[..])
            && padding.iter().all(|byte| *byte == 0);
        let count = word(rest, 20).unwrap_or_default();
        match messages(body, count) {
            Some(messages) if is_whole => Ok(Self {
                state,
                messages,
                len,
            }),
            // Nothing is written after a record before it is synced.
            _ if rest.len() == len && has_zero_sector(record) => Err(RecordFault::Torn),
            _ => Err(RecordFault::Damaged),
        }
    }

    /// The state of an intact head.
    fn state(rest: &[u8], nonce: u64, sequence: u32) -> Option<RecordState> {
        let head = rest.get(..RECORD_CRC)?;
        let is_intact = is_begin(head, nonce, sequence)
            && word(rest, RECORD_CRC) == Some(crc32fast::hash(head));
        if !is_intact {
            return None;
        }
        Some(RecordState {
            session: long(rest, 24)?,
            first: long(rest, 32)?,
            number: long(rest, 40)?,
        })
    }
}

/// Whether the bytes are the beginning of a record, or of a part of it.
fn is_begin(bytes: &[u8], nonce: u64, sequence: u32) -> bool {
    let mut begin = RECORD_MAGIC.to_vec();
    begin.extend(sequence.to_be_bytes());
    begin.extend(nonce.to_be_bytes());
    bytes
        .iter()
        .zip(begin)
        .all(|(byte, wanted)| *byte == wanted)
}

/// Whether a sector begins as a record after this one does: then this one was synced.
fn has_later_record(rest: &[u8], nonce: u64, sequence: u32) -> bool {
    let mut sectors = rest.chunks(SECTOR);
    sectors.any(|sector| {
        let later = word(sector, 4).filter(|later| sequence < *later);
        later.is_some_and(|later| is_begin(sector, nonce, later))
    })
}

fn has_zero_sector(record: &[u8]) -> bool {
    let mut sectors = record.chunks(SECTOR);
    sectors.any(|sector| sector.iter().all(|byte| *byte == 0))
}

/// The messages of a record; `None` if it does not consist of `count` messages.
fn messages(mut body: &[u8], count: u32) -> Option<Vec<&[u8]>> {
    let mut messages = Vec::new();
    while let Some((len, rest)) = body.split_first_chunk::<4>() {
        let (message, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        if message.is_empty() {
            return None;
        }
        messages.push(message);
        body = rest;
    }
    (body.is_empty() && messages.len() == count as usize).then_some(messages)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let long = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_be_bytes(*long))
}
