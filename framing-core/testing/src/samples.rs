//! Wire samples: bytes in each framing, and the events that they must give, however they are split. Start with [`all`].

use framing_core::{AnyFraming, Decode, Fault, Framing, Limits, Part};

mod blocks;
mod checked;
mod cobs;
mod decimal;
mod delimited;
mod length;

/// An event that a receiver returns, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A complete message, joined if it came in pieces.
    Block(Vec<u8>),
    /// All bytes of a `stream`, joined.
    Stream(Vec<u8>),
    /// The mark that ends a series.
    End,
    /// A message was refused.
    Fault(Fault),
    /// The peer has closed. Always the last event, after the fault of a truncated message.
    Closed,
}

/// Wire bytes and the expected events.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The framing, as [`AnyFraming`] reads it.
    pub spec: &'static str,
    /// Short description, unique in its framing.
    pub name: &'static str,
    /// Limit of a message that is returned whole.
    pub block_max: u32,
    /// Limit of a message that is skipped.
    pub skip_max: u32,
    /// The bytes that the peer sends before it closes.
    pub wire: Vec<u8>,
    /// Expected events when messages are received whole.
    pub events: Vec<Event>,
    /// Expected events when messages are received in pieces, which have no limit of length.
    pub events_in_pieces: Vec<Event>,
    /// Whether sending the blocks and ends among the events gives exactly this wire.
    pub is_sendable: bool,
}

impl Sample {
    /// The framing.
    ///
    /// # Panics
    /// If the framing's name cannot be parsed.
    #[must_use]
    pub fn framing(&self) -> AnyFraming {
        self.spec.parse().expect(self.spec)
    }

    /// The limits, for direct calls of a decoder.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            block_max: self.block_max,
            skip_max: self.skip_max,
        }
    }

    /// Length of the smallest buffer that gives a reader the limit of this sample.
    ///
    /// # Panics
    /// If there is no such buffer.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        let decoder = self.framing().decoder();
        (1..10_000)
            .find(|&len| decoder.block_max(len) == self.block_max)
            .expect("a buffer for every limit")
    }

    /// The calls of a writer that give this wire; empty if the sample is not sendable.
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

    /// A title for the messages of failed tests.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}: {}", self.spec, self.name)
    }

    /// Sets the limit, which is 16 bytes by default.
    fn block_max(mut self, block_max: u32) -> Self {
        self.block_max = block_max;
        self
    }

    fn skip_max(mut self, skip_max: u32) -> Self {
        self.skip_max = skip_max;
        self
    }

    /// Sets the expected events for messages received in pieces, if they differ.
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
    /// Send this message.
    Message(Vec<u8>),
    /// End the series.
    Finish,
}

/// All samples of all framings.
#[must_use]
pub fn all() -> Vec<Sample> {
    [
        blocks::samples(),
        length::samples(),
        decimal::samples(),
        delimited::samples(),
        cobs::samples(),
        checked::samples(),
    ]
    .concat()
}

/// All samples that can be sent.
#[must_use]
pub fn sendable() -> Vec<Sample> {
    let mut samples = all();
    samples.retain(|sample| sample.is_sendable);
    samples
}

/// Creates a sample with a limit of 16 bytes.
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

/// Adds the close, which ends every stream.
fn closed(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    events.into_iter().chain([Event::Closed]).collect()
}

fn block(bytes: impl AsRef<[u8]>) -> Event {
    Event::Block(bytes.as_ref().to_vec())
}

fn stream(bytes: impl AsRef<[u8]>) -> Event {
    Event::Stream(bytes.as_ref().to_vec())
}

/// A message refused because of its declared length.
fn too_long(declared: u32, limit: u32) -> Event {
    Event::Fault(Fault::TooLong {
        declared: Some(declared),
        limit,
        lost: false,
    })
}

/// A message refused because of its declared length, and too long to skip.
fn too_long_to_skip(declared: u32, limit: u32) -> Event {
    Event::Fault(Fault::TooLong {
        declared: Some(declared),
        limit,
        lost: true,
    })
}

/// A message refused because of its length, in a framing that does not declare it.
fn over(limit: u32) -> Event {
    Event::Fault(Fault::TooLong {
        declared: None,
        limit,
        lost: false,
    })
}

fn bad_length(found: u8, offset: u8) -> Event {
    Event::Fault(Fault::BadLength { found, offset })
}

fn bad_ending(want: u8, found: u8) -> Event {
    Event::Fault(Fault::BadEnding { want, found })
}

fn bad_checksum(want: u32, found: u32) -> Event {
    let found = Some(found);
    Event::Fault(Fault::BadChecksum { want, found })
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
