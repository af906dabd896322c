//! The first of two passes through a torn recording: which chunks belong to it, and what they define. Start with
//! [`Survey::of`].

use std::collections::{BTreeMap, HashMap, HashSet};

use mcap::records::{Channel, Header, Record, op};

use crate::error::Error;
use crate::format::nonce::{self, FileNonce, LIBRARY, is_near_library};
use crate::format::private;
use crate::format::record::{EVENTS_TOPIC, Raw};
use crate::read::scan::{Found, Scan};
use crate::read::summary::{Summary, is_torn_name};
use crate::read::window::WindowedFile;

/// Channels and schemas by number, from the chunks and the summary of a file. They replace records that are lost, or
/// come after their messages.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    channels: HashMap<u16, Channel>,
    schemas: HashMap<u16, (String, String, Vec<u8>)>,
}

/// The result of the first pass.
#[derive(Debug)]
pub(super) struct Survey {
    /// The summary, if the file has one that lists all chunks.
    pub summary: Option<Summary>,
    /// Definitions of channels and schemas.
    pub definitions: Definitions,
    /// The header for a recovered file.
    pub header: Header,
    /// Whether this library wrote the file.
    pub is_ours: bool,
    /// Whether another program wrote the file, according to its header.
    pub is_foreign: bool,
    /// Whether the file ends like a sealed one, and nothing in it is lost.
    pub is_whole: bool,
    /// Nonces of whole chunks that cannot be attributed to the file, with the number of chunks.
    pub strangers: BTreeMap<FileNonce, u64>,
    /// The largest length of the file that one of its chunks knows to be synced.
    pub synced_len: u64,
    /// A bit for each number of a channel with messages.
    used: Vec<u64>,
}

impl Survey {
    /// Whether the file has messages or a definition of the channel with this number.
    #[must_use]
    pub(super) fn uses_channel(&self, id: u16) -> bool {
        let word = self.used.get(usize::from(id) / 64);
        word.is_some_and(|word| word >> (id % 64) & 1 != 0)
            || self.definitions.channel(id).is_some()
    }

    /// Reads a file completely.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(super) fn of(input: &WindowedFile) -> Result<Self, Error> {
        let mut summary = Summary::read(&mut input.again())?.ok();
        let known = summary.as_ref();
        let (mut pass, mut is_listed) = Pass::go(input.again(), known, known)?;
        if summary.is_some() && !is_listed && (pass.is_known_strict() || is_torn_name(input.path()))
        {
            // The end is a payload that looks like a summary, and the file was cut exactly after it.
            summary = None;
            (pass, is_listed) = Pass::go(input.again(), None, None)?;
        }
        if let Some(summary) = &summary {
            pass.definitions.complete(summary);
        }
        let is_whole = summary.is_some() && is_listed && !pass.is_lost;
        let nonce = pass.nonce;
        let is_ours = pass.is_ours(nonce);
        let is_foreign = pass.header.is_some() && !is_ours;
        let header = match pass.header {
            Some(header) if !is_ours => header,
            _ => Header {
                profile: String::new(),
                library: match is_ours {
                    true => nonce::library(nonce),
                    // This name does not claim the layout of files that this library writes.
                    false => format!("recovered by {}", nonce::library(None)),
                },
            },
        };
        Ok(Self {
            summary,
            definitions: pass.definitions,
            header,
            is_ours,
            is_foreign,
            is_whole,
            strangers: pass.strangers,
            synced_len: pass.synced_len,
            used: pass.used,
        })
    }
}

/// One pass through a file.
#[derive(Default)]
struct Pass {
    header: Option<Header>,
    definitions: Definitions,
    nonce: Option<FileNonce>,
    is_lost: bool,
    /// Only records that this library writes were accepted.
    is_strict: bool,
    strangers: BTreeMap<FileNonce, u64>,
    synced_len: u64,
    used: Vec<u64>,
}

impl Pass {
    /// Reads a file, and returns whether the summary lists every chunk that was found.
    fn go(
        input: WindowedFile,
        known: Option<&Summary>,
        listing: Option<&Summary>,
    ) -> Result<(Self, bool), Error> {
        let places = listing.into_iter().flat_map(|summary| &summary.chunks);
        let places: HashSet<_> = places.map(|place| (place.offset, place.len)).collect();
        let mut scan = Scan::new(input, known, false);
        let (mut pass, mut chunks, mut listed) = (Self::default(), 0_u64, 0_u64);
        pass.used = vec![0; usize::from(u16::MAX) / 64 + 1];
        let mut of_summary = Definitions::default();
        loop {
            let is_strict = scan.is_ours();
            let Some(found) = scan.advance()? else {
                break;
            };
            match found {
                Found::Header(header) => pass.header = Some(header),
                Found::Chunk(chunk) => {
                    chunks += 1;
                    let place = (chunk.offset, chunk.bytes.len() as u64);
                    listed += u64::from(places.contains(&place));
                    let synced_len = private::synced_len(chunk.records);
                    pass.synced_len = pass.synced_len.max(synced_len.unwrap_or_default());
                    for (_, raw) in chunk.records() {
                        pass.take(&raw);
                    }
                }
                // In files of this library, these belong to the summary.
                Found::Record { raw, .. } if is_strict => of_summary.take(&raw),
                Found::Record { raw, .. } => pass.definitions.take(&raw),
                Found::Lost(_) => pass.is_lost = true,
            }
            if scan.has_ended() {
                break;
            }
        }
        pass.definitions.add(of_summary);
        pass.is_lost |= !scan.has_ended();
        pass.nonce = scan.nonce();
        pass.is_strict = scan.is_ours();
        pass.strangers = scan.strangers().clone();
        // Other programs may omit the index.
        let has_no_index = places.is_empty() && !pass.is_strict;
        let is_listed = match chunks == 0 || has_no_index {
            true => !pass.is_lost,
            false => listed == chunks,
        };
        Ok((pass, is_listed))
    }

    /// Takes a record of a chunk.
    fn take(&mut self, raw: &Raw<'_>) {
        if raw.opcode != op::MESSAGE {
            return self.definitions.take(raw);
        }
        if let Some(id) = raw.body.first_chunk().map(|id| u16::from_le_bytes(*id))
            && let Some(word) = self.used.get_mut(usize::from(id) / 64)
        {
            *word |= 1 << (id % 64);
        }
    }

    fn is_ours(&self, nonce: Option<FileNonce>) -> bool {
        let library = self.header.as_ref().map(|header| &header.library);
        let keys = ["device", "framing", "decode"];
        let is_named = |channel: &Channel| {
            let has_keys = keys.iter().all(|key| channel.metadata.contains_key(*key));
            has_keys || channel.topic == EVENTS_TOPIC
        };
        nonce.is_some()
            || library.is_some_and(|library| library.starts_with(LIBRARY))
            || (self.may_be_ours() && self.definitions.channels.values().any(is_named))
    }

    /// Whether only records that this library writes were accepted, and not because nothing is known of the file.
    const fn is_known_strict(&self) -> bool {
        self.is_strict && (self.header.is_some() || self.nonce.is_some())
    }

    /// Whether the header is lost or damaged, or that of this library. Another program may copy its channels.
    fn may_be_ours(&self) -> bool {
        self.header.as_ref().is_none_or(|header| {
            let library = &header.library;
            let is_near = is_near_library(library.as_bytes());
            is_near || library.contains('\0') || self.nonce.is_some()
        })
    }
}

impl Definitions {
    /// Returns the channel with this number.
    #[must_use]
    pub(super) fn channel(&self, id: u16) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// Returns all channels.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }

    /// Returns name, encoding and data of the schema with this number.
    #[must_use]
    pub(super) fn schema(&self, id: u16) -> Option<(&str, &str, &[u8])> {
        let (name, encoding, data) = self.schemas.get(&id)?;
        Some((name, encoding, data))
    }

    /// Adds a definition. The first one for a number is kept.
    fn take(&mut self, raw: &Raw<'_>) {
        if !matches!(raw.opcode, op::SCHEMA | op::CHANNEL) {
            return;
        }
        match raw.parse() {
            Some(Record::Schema { header, data }) => {
                let schema = (header.name, header.encoding, data.into_owned());
                self.schemas.entry(header.id).or_insert(schema);
            }
            Some(Record::Channel(channel)) => {
                self.channels.entry(channel.id).or_insert(channel);
            }
            _ => {}
        }
    }

    /// Adds the definitions of numbers that have none.
    fn add(&mut self, others: Self) {
        for (id, schema) in others.schemas {
            self.schemas.entry(id).or_insert(schema);
        }
        for (id, channel) in others.channels {
            self.channels.entry(id).or_insert(channel);
        }
    }

    /// Adds definitions that only the summary has.
    fn complete(&mut self, summary: &Summary) {
        for (id, (header, data)) in &summary.schemas {
            let schema = (header.name.clone(), header.encoding.clone(), data.clone());
            self.schemas.entry(*id).or_insert(schema);
        }
        for (id, channel) in &summary.channels {
            let channel = || channel.clone();
            self.channels.entry(*id).or_insert_with(channel);
        }
    }
}
