//! Turns the messages of a recording back into events: [`EventReader`]. The inverse is
//! [`to_log`](crate::recorded::to_log).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use framing_core::{AnyFraming, Blocks};
use serde::Deserialize as _;

use crate::payload::{Decoding, members};
use crate::recorded::note::{Note, UNRECORDED};
use blocksd_engine::batch::Batch;
use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, Peer, StreamPosition};
use blocksd_engine::pool::Span;
use blocksd_engine::reason::CloseReason;
use blocksd_recording::topic::Kind;
use blocksd_recording::{ChannelInfo, Message};

/// Maximum length of a batch, in bytes. A single message may be longer.
const BATCH_LEN: usize = 1 << 20;

/// Receives the events of a recording.
pub trait EventVisitor {
    /// The error with which the visitor ends the reading.
    type Error;

    /// Receives the next event.
    ///
    /// # Errors
    /// Any error ends the reading.
    fn event(&mut self, event: &Event) -> Result<(), Self::Error>;

    /// Receives an event of an unknown kind, as JSON.
    ///
    /// # Errors
    /// Any error ends the reading.
    fn other(&mut self, json: &[u8]) -> Result<(), Self::Error>;
}

/// Turns the records of a recording into events, in their order.
#[derive(Debug, Default)]
pub struct EventReader {
    decode: Option<Decoding>,
    devices: HashMap<Arc<str>, DeviceConnections>,
    blocks: Option<MessageGroup>,
    piece: Option<Piece>,
    lacks_formats: LacksFormats,
}

/// Whether frames cannot be decoded without a file that the caller has not named.
#[derive(Debug, Default)]
enum LacksFormats {
    #[default]
    No,
    /// Of this device. This is not reported yet.
    Of(Arc<str>),
    Reported,
}

#[derive(Debug, Default)]
struct DeviceConnections {
    /// Numbers of its open connections.
    conns: Vec<u64>,
    /// It has other connections, whose open was not read.
    has_others: bool,
    /// The connection of its messages, with the channel that distinguishes it from others in a file.
    source: Option<(Arc<ChannelInfo>, Arc<ConnectionInfo>)>,
    /// The same for connections whose open is not recorded.
    unrecorded: Option<(Arc<ChannelInfo>, Arc<ConnectionInfo>)>,
}

/// Messages that were received at once.
#[derive(Debug)]
struct MessageGroup {
    source: Arc<ConnectionInfo>,
    time: u64,
    first: u64,
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// A piece that waits for the event with its position in the message.
#[derive(Debug)]
struct Piece {
    source: Arc<ConnectionInfo>,
    time: u64,
    bytes: Vec<u8>,
}

impl EventReader {
    /// Decodes payloads as `decode`; if that is `None`, as they were received.
    #[must_use]
    pub fn new(decode: Option<Decoding>) -> Self {
        Self {
            decode,
            ..Self::default()
        }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// Any error of the visitor.
    pub fn message<A: EventVisitor + ?Sized>(
        &mut self,
        message: &Message<'_>,
        visitor: &mut A,
    ) -> Result<(), A::Error> {
        match message.channel.kind {
            Kind::Blocks | Kind::Other => {
                self.end_piece(visitor)?;
                self.block(message, visitor)
            }
            Kind::Pieces => {
                self.finish(visitor)?;
                let source = self.source(message);
                self.piece = Some(Piece {
                    source,
                    time: message.time,
                    bytes: message.data.to_vec(),
                });
                Ok(())
            }
            Kind::Events => {
                self.end_blocks(visitor)?;
                self.note(message, visitor)
            }
        }
    }

    /// Returns the first device whose frames need a file of formats that is not given, once.
    pub fn lacks_formats(&mut self) -> Option<Arc<str>> {
        if !matches!(self.lacks_formats, LacksFormats::Of(_)) {
            return None;
        }
        match std::mem::replace(&mut self.lacks_formats, LacksFormats::Reported) {
            LacksFormats::Of(device) => Some(device),
            _ => None,
        }
    }

    /// Emits the events that wait for a next message.
    ///
    /// # Errors
    /// Any error of the visitor.
    pub fn finish<A: EventVisitor + ?Sized>(&mut self, visitor: &mut A) -> Result<(), A::Error> {
        self.end_blocks(visitor)?;
        self.end_piece(visitor)
    }

    fn block<A: EventVisitor + ?Sized>(
        &mut self,
        message: &Message<'_>,
        visitor: &mut A,
    ) -> Result<(), A::Error> {
        let source = self.source(message);
        let seq = u64::from(message.sequence);
        let goes_on = self.blocks.as_ref().is_some_and(|group| {
            Arc::ptr_eq(&group.source, &source)
                && group.time == message.time
                && group.first + group.spans.len() as u64 == seq
                && group.bytes.len() + message.data.len() <= BATCH_LEN
        });
        if !goes_on {
            self.end_blocks(visitor)?;
        }
        let group = self.blocks.get_or_insert_with(|| MessageGroup {
            source,
            time: message.time,
            first: seq,
            bytes: Vec::new(),
            spans: Vec::new(),
        });
        let start = group.bytes.len();
        group.bytes.extend_from_slice(message.data);
        group.spans.push(Span::new(start, group.bytes.len()));
        Ok(())
    }

    /// The connection of a message.
    fn source(&mut self, message: &Message<'_>) -> Arc<ConnectionInfo> {
        let channel = message.channel;
        let device = self.devices.entry(Arc::clone(&channel.device)).or_default();
        let metadata = |key| channel.record.metadata.get(key).map(String::as_str);
        let is_unrecorded = metadata(UNRECORDED.0) == Some(UNRECORDED.1);
        device.has_others |= device.conns.is_empty() && !is_unrecorded;
        let cached = match is_unrecorded {
            true => &device.unrecorded,
            false => &device.source,
        };
        if let Some((of, source)) = cached
            && (Arc::ptr_eq(of, channel) || of.record.metadata == channel.record.metadata)
        {
            return Arc::clone(source);
        }
        let framing = metadata("framing").and_then(|spec| spec.parse().ok());
        let recorded = metadata("decode").and_then(Decoding::of_name);
        let needs_formats = metadata("decode").is_some_and(|it| it.starts_with("defmt"));
        if needs_formats && self.decode.is_none() && matches!(self.lacks_formats, LacksFormats::No)
        {
            self.lacks_formats = LacksFormats::Of(Arc::clone(&channel.device));
        }
        // If the open of the connection was read, this is its first message. Otherwise that is known of number 0 only.
        let conn = if is_unrecorded { 0 } else { device.conn() };
        let first = match conn {
            0 => 0,
            _ => message.sequence.into(),
        };
        let decoding = self.decode.clone().or(recorded).unwrap_or_default();
        let source = Arc::new(ConnectionInfo {
            conn,
            device: Arc::clone(&channel.device),
            framing: framing.unwrap_or(AnyFraming::Blocks(Blocks)),
            encoding: decoding.into(),
            first_seq: first,
        });
        let cached = match is_unrecorded {
            true => &mut device.unrecorded,
            false => &mut device.source,
        };
        *cached = Some((Arc::clone(channel), Arc::clone(&source)));
        source
    }

    fn end_blocks<A: EventVisitor + ?Sized>(&mut self, visitor: &mut A) -> Result<(), A::Error> {
        let Some(group) = self.blocks.take() else {
            return Ok(());
        };
        let position = StreamPosition {
            seq: group.first,
            ..StreamPosition::default()
        };
        let batch = Batch::of_messages(group.bytes, group.spans);
        visitor.event(&event(group.source, group.time, batch, position))
    }

    /// Emits a piece whose event is missing.
    fn end_piece<A: EventVisitor + ?Sized>(&mut self, visitor: &mut A) -> Result<(), A::Error> {
        let Some(piece) = self.piece.take() else {
            return Ok(());
        };
        let batch = Batch::of_piece(piece.bytes, false, false);
        let position = StreamPosition::default();
        visitor.event(&event(piece.source, piece.time, batch, position))
    }

    fn note<A: EventVisitor + ?Sized>(
        &mut self,
        message: &Message<'_>,
        visitor: &mut A,
    ) -> Result<(), A::Error> {
        let note = match Note::deserialize(&members(message.data)) {
            Ok(note) if has_device(&note) => note,
            // An event of a later version, or not one of ours.
            _ => {
                self.end_piece(visitor)?;
                return visitor.other(message.data);
            }
        };
        let origin = &note.head().origin;
        let conn = origin.conn.unwrap_or_default();
        let device = origin.device.as_deref().unwrap_or_default();
        if let Note::Piece { first, last, .. } = note
            && let Some(piece) = self.piece.take_if(|piece| &*piece.source.device == device)
        {
            let batch = Batch::of_piece(piece.bytes, first, last);
            return visitor.event(&event(piece.source, piece.time, batch, position(&note)));
        }
        self.end_piece(visitor)?;
        if let Note::Open { .. } = note {
            self.devices.entry(device.into()).or_default().open(conn);
        } else if let Note::Close { .. } = note
            && let Some(closed) = self.devices.get_mut(device)
            && closed.close(conn)
        {
            self.devices.remove(device);
        }
        match kind(&note) {
            Some(kind) => visitor.event(&Event {
                source: Arc::new(ConnectionInfo {
                    conn,
                    device: device.into(),
                    framing: AnyFraming::Blocks(Blocks),
                    encoding: Encoding::default(),
                    first_seq: 0,
                }),
                time: system_time(message.time),
                kind,
            }),
            None => visitor.other(message.data),
        }
    }
}

impl DeviceConnections {
    fn open(&mut self, conn: u64) {
        self.conns.push(conn);
        self.source = None;
    }

    /// Returns whether the device has no open connection left.
    fn close(&mut self, conn: u64) -> bool {
        self.conns.retain(|open| *open != conn);
        self.source = None;
        self.conns.is_empty()
    }

    /// Number of the connection of a message, or 0 if it is ambiguous, since the recording has only the device.
    fn conn(&self) -> u64 {
        match self.conns.as_slice() {
            [conn] if !self.has_others => *conn,
            _ => 0,
        }
    }
}

fn event(source: Arc<ConnectionInfo>, time: u64, batch: Batch, position: StreamPosition) -> Event {
    let batch = Arc::new(batch);
    Event {
        source,
        time: system_time(time),
        kind: EventKind::Batch { batch, position },
    }
}

fn system_time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// Whether an event names its device, if it has to: counts of several devices name none.
fn has_device(note: &Note<'_>) -> bool {
    note.head().origin.device.is_some() || matches!(note, Note::Suppressed { .. })
}

/// The position of a connection before an event.
fn position(note: &Note<'_>) -> StreamPosition {
    let seq = note.head().seq.unwrap_or_default();
    let (offset, in_series) = match *note {
        Note::Piece { offset, .. } => (offset, 0),
        Note::End { blocks, .. } => (0, blocks),
        _ => (0, 0),
    };
    StreamPosition {
        seq,
        offset,
        in_series,
    }
}

/// The content of an event. `None` for a piece, whose bytes are in another record, and for a close with an unknown
/// reason.
fn kind(note: &Note<'_>) -> Option<EventKind> {
    let batch = |batch| {
        let (batch, position) = (Arc::new(batch), position(note));
        Some(EventKind::Batch { batch, position })
    };
    match note {
        Note::Open { peer, .. } => {
            let peer = match peer.parse() {
                Ok(address) => Peer::Network(address),
                Err(_) => Peer::Local((&**peer).into()),
            };
            Some(EventKind::Opened { peer })
        }
        Note::Piece { .. } => None,
        Note::End { .. } => batch(Batch::of_end()),
        Note::Fault { fault, .. } => batch(Batch::of_fault((*fault).into())),
        Note::Close {
            blocks,
            bytes,
            reason,
            ..
        } => Some(EventKind::Closed {
            messages: *blocks,
            bytes: *bytes,
            reason: CloseReason::ALL
                .into_iter()
                .find(|it| it.as_str() == reason)?,
        }),
        Note::Suppressed { head, counts } => {
            Some(EventKind::Suppressed(Box::new(counts.suppressed(head.seq))))
        }
    }
}
