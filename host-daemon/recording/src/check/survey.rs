//! The first of two passes through a torn recording: which chunks are its own, and what they define. See [`Survey::of`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use mcap::records::{Channel, Header, Record, op};

use crate::error::Error;
use crate::format::nonce::{self, FileNonce, LIBRARY};
use crate::format::record::{EVENTS_TOPIC, Raw};
use crate::read::scan::{Found, Scan};
use crate::read::summary::Summary;
use crate::read::window::WindowedFile;

/// Channels and schemas by their number, from the chunks and the summary of a file: where the record of one is lost,
/// or comes after its messages, it is found here.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    channels: HashMap<u16, Channel>,
    schemas: HashMap<u16, (String, String, Vec<u8>)>,
}

/// What the first pass found.
#[derive(Debug)]
pub(super) struct Survey {
    /// The summary, if the file has one that agrees with all chunks.
    pub summary: Option<Summary>,
    /// Channels and schemas.
    pub definitions: Definitions,
    /// How a file of what was found begins.
    pub header: Header,
    /// Whether the daemon wrote the file.
    pub is_ours: bool,
    /// Whether the file ends as a sealed one, and nothing in it is lost.
    pub is_whole: bool,
    /// Nonces of whole chunks of which nothing says whether they are the file's own, and how many of each.
    pub strangers: BTreeMap<FileNonce, u64>,
}

impl Survey {
    /// Goes through a file.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let mut input = WindowedFile::open(path)?;
        let mut summary = Summary::read(&mut input)?.ok();
        let (mut pass, mut is_listed) = Pass::go(input, summary.as_ref(), summary.as_ref())?;
        if summary.is_some() && !is_listed {
            // It is a payload that ends as a recording does, cut exactly there.
            summary = None;
            (pass, is_listed) = Pass::go(WindowedFile::open(path)?, None, None)?;
        }
        if let Some(summary) = &summary {
            pass.definitions.complete(summary);
        }
        let is_whole = summary.is_some() && is_listed && !pass.is_lost;
        let nonce = pass.nonce;
        let is_ours = pass.is_ours(nonce);
        let header = match pass.header {
            Some(header) if !is_ours => header,
            _ => Header {
                profile: String::new(),
                library: match is_ours {
                    true => nonce::library(nonce),
                    // A name that does not promise the layout of the daemon's own files.
                    false => format!("recovered by {}", nonce::library(None)),
                },
            },
        };
        Ok(Self {
            summary,
            definitions: pass.definitions,
            header,
            is_ours,
            is_whole,
            strangers: pass.strangers,
        })
    }
}

/// One pass.
#[derive(Default)]
struct Pass {
    header: Option<Header>,
    definitions: Definitions,
    nonce: Option<FileNonce>,
    is_lost: bool,
    strangers: BTreeMap<FileNonce, u64>,
}

impl Pass {
    /// Goes through a file, and says whether the summary lists every chunk that was found.
    fn go(
        input: WindowedFile,
        known: Option<&Summary>,
        listing: Option<&Summary>,
    ) -> Result<(Self, bool), Error> {
        let places = listing.into_iter().flat_map(|summary| &summary.chunks);
        let places: HashSet<_> = places.map(|place| (place.offset, place.len)).collect();
        let mut scan = Scan::new(input, known, false);
        let (mut pass, mut chunks, mut is_listed) = (Self::default(), 0_u64, true);
        while let Some(found) = scan.advance()? {
            match found {
                Found::Header(header) => pass.header = Some(header),
                Found::Chunk(chunk) => {
                    chunks += 1;
                    is_listed &= places.contains(&(chunk.offset, chunk.bytes.len() as u64));
                    for (_, raw) in chunk.records() {
                        pass.definitions.take(&raw);
                    }
                }
                Found::Record { raw, .. } => pass.definitions.take(&raw),
                Found::Lost(_) => pass.is_lost = true,
            }
            if scan.has_ended() {
                break;
            }
        }
        pass.is_lost |= !scan.has_ended();
        pass.nonce = scan.nonce();
        pass.strangers = scan.strangers().clone();
        is_listed &= chunks != 0 || !pass.is_lost;
        Ok((pass, is_listed))
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
            || self.definitions.channels.values().any(is_named)
    }
}

impl Definitions {
    /// The channel of this number.
    #[must_use]
    pub(super) fn channel(&self, id: u16) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// Name, encoding and data of the schema of this number.
    #[must_use]
    pub(super) fn schema(&self, id: u16) -> Option<(&str, &str, &[u8])> {
        let (name, encoding, data) = self.schemas.get(&id)?;
        Some((name, encoding, data))
    }

    /// Takes note of a definition. The first of a number is kept.
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

    /// Adds what only the summary has.
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
