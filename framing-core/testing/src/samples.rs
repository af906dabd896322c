//! The wire samples: for each framing the bytes, and the events that they must give, however they are cut.

use framing_core::{AnyFraming, Decode, Fault, Framing, Limits, Part};

mod blocks;
mod cobs;
mod decimal;
mod delimited;
mod length;

/// What a receiver tells of a stream, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message; where it came in pieces, these put together.
    Block(Vec<u8>),
    /// All bytes of a `stream`, put together.
    Stream(Vec<u8>),
    /// The mark that ends a series.
    End,
    /// A message was refused.
    Fault(Fault),
    /// The peer has closed. Always the last event, and behind the fault where the close cut something.
    Closed,
}

/// Bytes on the wire, and what they are.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The framing, as [`AnyFraming`] reads it.
    pub spec: &'static str,
    /// What is special here, in a few words; unique in its framing.
    pub name: &'static str,
    /// Longest message that is delivered whole.
    pub block_max: u32,
    /// Longest message that is skipped.
    pub skip_max: u32,
    /// What the peer sends before it closes.
    pub wire: Vec<u8>,
    /// What must come of it, where messages are received whole.
    pub events: Vec<Event>,
    /// What must come of it, where they are received in pieces: no message is too long then.
    pub events_in_pieces: Vec<Event>,
    /// Sending the blocks and ends among the events must give this very wire.
    pub is_sendable: bool,
}

impl Sample {
    /// The framing.
    ///
    /// # Panics
    /// If the sample's name of it cannot be parsed.
    #[must_use]
    pub fn framing(&self) -> AnyFraming {
        self.spec.parse().expect(self.spec)
    }

    /// The limits, for those who call a decoder themselves.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            block_max: self.block_max,
            skip_max: self.skip_max,
        }
    }

    /// Length of the smallest buffer with which a reader has the limit of this sample.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        let decoder = self.framing().decoder();
        (1..10_000)
            .find(|&len| decoder.block_max(len) == self.block_max)
            .expect("a buffer for every limit")
    }

    /// What is to be sent to give this wire; empty where nobody sends such bytes.
    #[must_use]
    pub fn sends(&self) -> Vec<Give> {
        let of = |event: &Event| match event {
            Event::Block(bytes) | Event::Stream(bytes) => Some(Give::Message(bytes.clone())),
            Event::End => Some(Give::Finish),
            Event::Fault(_) | Event::Closed => None,
        };
        let events = self.events.iter().filter(|_| self.is_sendable);
        events.filter_map(of).collect()
    }

    /// A name for the reports of failed tests.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}: {}", self.spec, self.name)
    }

    /// With another limit than 16 bytes.
    fn block_max(mut self, block_max: u32) -> Self {
        self.block_max = block_max;
        self
    }

    fn skip_max(mut self, skip_max: u32) -> Self {
        self.skip_max = skip_max;
        self
    }

    /// Where other events come if messages are received in pieces.
    fn in_pieces(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        self.events_in_pieces = closed(events);
        self
    }

    fn sendable(mut self) -> Self {
        self.is_sendable = true;
        self
    }
}

/// One call of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Give {
    /// Send this.
    Message(Vec<u8>),
    /// End the series.
    Finish,
}

/// All samples, of all framings.
#[must_use]
pub fn all() -> Vec<Sample> {
    [
        blocks::samples(),
        length::samples(),
        decimal::samples(),
        delimited::samples(),
        cobs::samples(),
    ]
    .concat()
}

/// The samples that can be sent.
#[must_use]
pub fn sendable() -> Vec<Sample> {
    let mut samples = all();
    samples.retain(|sample| sample.is_sendable);
    samples
}

/// A sample under a limit of 16 bytes.
fn sample(
    spec: &'static str,
    name: &'static str,
    wire: impl AsRef<[u8]>,
    events: impl IntoIterator<Item = Event>,
) -> Sample {
    let events = closed(events);
    Sample {
        spec,
        name,
        block_max: 16,
        skip_max: Limits::SKIP_MAX,
        wire: wire.as_ref().to_vec(),
        events_in_pieces: events.clone(),
        events,
        is_sendable: false,
    }
}

/// Every stream is closed in the end.
fn closed(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    events.into_iter().chain([Event::Closed]).collect()
}

fn block(bytes: impl AsRef<[u8]>) -> Event {
    Event::Block(bytes.as_ref().to_vec())
}

fn stream(bytes: impl AsRef<[u8]>) -> Event {
    Event::Stream(bytes.as_ref().to_vec())
}

/// A message refused for its declared length.
fn too_long(declared: u32, limit: u32) -> Event {
    Event::Fault(Fault::TooLong {
        declared: Some(declared),
        limit,
        lost: false,
    })
}

/// A message refused for its declared length, and too long to skip.
fn too_long_to_skip(declared: u32, limit: u32) -> Event {
    Event::Fault(Fault::TooLong {
        declared: Some(declared),
        limit,
        lost: true,
    })
}

/// A message refused for its length, where the framing does not declare it.
fn over(limit: u32) -> Event {
    Event::Fault(Fault::TooLong {
        declared: None,
        limit,
        lost: false,
    })
}

fn over_skip(limit: u32) -> Event {
    Event::Fault(Fault::TooLong {
        declared: None,
        limit,
        lost: true,
    })
}

fn bad_length(found: u8, offset: u8) -> Event {
    Event::Fault(Fault::BadLength { found, offset })
}

fn bad_ending(want: u8, found: u8) -> Event {
    Event::Fault(Fault::BadEnding { want, found })
}

fn early_end(missing: u8) -> Event {
    Event::Fault(Fault::EarlyEnd { missing })
}

fn cut_header(have: u32, want: u32) -> Event {
    cut(Part::Header, have, want)
}

fn cut_payload(have: u32, want: u32) -> Event {
    cut(Part::Payload, have, want)
}

fn cut(part: Part, have: u32, want: u32) -> Event {
    Event::Fault(Fault::Truncated { part, have, want })
}
