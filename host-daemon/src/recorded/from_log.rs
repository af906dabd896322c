//! Turns the messages of a recording back into events: [`EventReader`]. The inverse is
//! [`to_log`](crate::recorded::to_log).

mod connections;
mod reader;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use framing_core::{AnyFraming, Blocks};
use serde::Deserialize as _;

pub use self::reader::EventReader;
#[cfg(feature = "nats")]
pub(crate) use self::reader::INSTANCE_KEY;
use crate::payload::{Decoding, members};
use crate::recorded::from_log::connections::Connections;
use crate::recorded::journal::Entry;
use crate::recorded::lifecycle::Lifecycle;
use crate::recorded::note::{FaultNote, Note, SeriesNote};
use crate::recorded::time::{Time, system_time};
use blocksd_engine::batch::Batch;
use blocksd_engine::certificate::PeerCertificate;
use blocksd_engine::event::{
    ConnectionInfo, Encoding, Event, EventKind, Peer, SessionOpened, StreamPosition,
    UndecodableMessage,
};
use blocksd_engine::pool::Span;
use blocksd_engine::reason::CloseReason;
use blocksd_engine::session::{GapCause, HelloKind, Session, SessionGap};
use blocksd_recording::topic::Kind;
use blocksd_recording::{Message, MessageOrigin};

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

    /// Receives an event of the daemon itself. The default does nothing.
    ///
    /// # Errors
    /// Any error ends the reading.
    fn lifecycle(&mut self, _event: &Lifecycle<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Receives an event of an unknown kind, as JSON. The default does nothing.
    ///
    /// # Errors
    /// Any error ends the reading.
    fn other(&mut self, _json: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Turns the records of one recording into events, in their order.
#[derive(Debug, Default)]
struct RecordingReader {
    connections: Connections,
    blocks: Option<MessageGroup>,
    piece: Option<Piece>,
    numbers_pieces: bool,
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
    origin: Option<MessageOrigin>,
    time: u64,
    bytes: Vec<u8>,
}

impl RecordingReader {
    /// Decodes payloads as `decode`; if that is `None`, as they were received.
    fn new(decode: Option<Decoding>) -> Self {
        Self {
            connections: Connections::new(decode),
            ..Self::default()
        }
    }

    /// Takes the connection of a piece without an origin from its event, even if other messages of the device are
    /// ambiguous. So pieces of two connections are not mixed.
    fn numbering_pieces(self) -> Self {
        Self {
            numbers_pieces: true,
            ..self
        }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// Any error of the visitor.
    fn message<A: EventVisitor + ?Sized>(
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
                self.piece = Some(Piece {
                    source: self.connections.of(message),
                    origin: message.origin,
                    time: message.time,
                    bytes: message.data.to_vec(),
                });
                Ok(())
            }
            Kind::Events => {
                self.end_blocks(visitor)?;
                self.note(message, visitor)
            }
            Kind::Sessions => match gap(message) {
                Some(event) => {
                    self.end_blocks(visitor)?;
                    visitor.event(&event)
                }
                None => Ok(()),
            },
            // The messages are sent again.
            Kind::Unconfirmed => Ok(()),
        }
    }

    /// Returns the first device whose frames need a file of formats that is not given, once.
    fn lacks_formats(&mut self) -> Option<Arc<str>> {
        self.connections.lacks_formats()
    }

    /// Emits the events that wait for a next message. Call it at the end, and where messages may be missing: the next
    /// message then does not belong to the one before.
    ///
    /// # Errors
    /// Any error of the visitor.
    fn finish<A: EventVisitor + ?Sized>(&mut self, visitor: &mut A) -> Result<(), A::Error> {
        self.end_blocks(visitor)?;
        self.end_piece(visitor)
    }

    fn block<A: EventVisitor + ?Sized>(
        &mut self,
        message: &Message<'_>,
        visitor: &mut A,
    ) -> Result<(), A::Error> {
        let source = self.connections.of(message);
        let seq = message.origin.map(|origin| origin.seq);
        let seq = seq.unwrap_or_else(|| message.sequence.into());
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
        let position = StreamPosition {
            seq: piece.origin.map_or(0, |origin| origin.seq),
            ..StreamPosition::default()
        };
        visitor.event(&event(piece.source, piece.time, batch, position))
    }

    fn note<A: EventVisitor + ?Sized>(
        &mut self,
        message: &Message<'_>,
        visitor: &mut A,
    ) -> Result<(), A::Error> {
        let json = members(message.data);
        let note = match Note::deserialize(&json) {
            Ok(note) if has_device(&note) => note,
            _ => {
                self.end_piece(visitor)?;
                return match Lifecycle::deserialize(&json) {
                    Ok(mut event) => {
                        if let Lifecycle::Started { .. } = event {
                            self.connections.restart();
                        }
                        event.set_time(Time(system_time(message.time)));
                        visitor.lifecycle(&event)
                    }
                    // An event of a later version, or not one of ours.
                    Err(_) => visitor.other(message.data),
                };
            }
        };
        let origin = &note.head().origin;
        let conn = origin.conn.unwrap_or_default();
        let device = origin.device.as_deref().unwrap_or_default();
        if let Note::Piece {
            first,
            last,
            len,
            truncated,
            ..
        } = note
            && let Some(piece) = self.piece.take_if(|piece| {
                piece.bytes.len() == len && piece.is_of(conn, note.head().seq, device)
            })
        {
            let source = match self.numbers_pieces {
                true => of_connection(piece.source, conn),
                false => piece.source,
            };
            let batch = match truncated {
                true => {
                    let span = Span::new(0, len);
                    Batch::of_truncated(piece.bytes, span, first, None)
                }
                false => Batch::of_piece(piece.bytes, first, last),
            };
            return visitor.event(&event(source, piece.time, batch, position(&note)));
        }
        self.end_piece(visitor)?;
        match note {
            Note::Open { .. } => self.connections.open(conn, device),
            Note::Close { .. } => self.connections.close(conn, device),
            Note::Session { ref former, .. } => {
                self.connections.close(conn, former);
                self.connections.open(conn, device);
            }
            // Whoever decodes the messages finds it, perhaps with another decoding.
            Note::Fault {
                fault: FaultNote::Undecodable { .. },
                ..
            } if self.connections.is_decoded(conn) => return Ok(()),
            _ => {}
        }
        match kind(&note) {
            Some(kind) => visitor.event(&Event {
                source: source(conn, device.into(), session(&note), note.certificate()),
                time: system_time(message.time),
                kind,
            }),
            None => visitor.other(message.data),
        }
    }
}

impl Piece {
    /// Whether an event with this connection, number and device is that of the piece. Pieces without an origin are
    /// those of an earlier version.
    fn is_of(&self, conn: u64, seq: Option<u64>, device: &str) -> bool {
        let is_origin =
            |origin: MessageOrigin| (origin.connection, Some(origin.seq)) == (conn, seq);
        &*self.source.device == device && self.origin.is_none_or(is_origin)
    }
}

/// A connection with the number that an event names, if it names one.
fn of_connection(source: Arc<ConnectionInfo>, conn: u64) -> Arc<ConnectionInfo> {
    if conn == 0 || source.conn == conn {
        return source;
    }
    Arc::new(ConnectionInfo {
        conn,
        device: Arc::clone(&source.device),
        framing: source.framing,
        encoding: source.encoding.clone(),
        first_seq: source.first_seq,
        session: source.session.clone(),
        certificate: source.certificate.clone(),
        stats: source.stats.clone(),
    })
}

fn event(source: Arc<ConnectionInfo>, time: u64, batch: Batch, position: StreamPosition) -> Event {
    let batch = Arc::new(batch);
    Event {
        source,
        time: system_time(time),
        kind: EventKind::Batch { batch, position },
    }
}

/// The event of an entry about sessions, if it is a gap. Its connection is not recorded.
fn gap(message: &Message<'_>) -> Option<Event> {
    let Entry::Gap {
        device,
        session,
        from,
        to,
        cause,
        ..
    } = Entry::parse(message.data)?
    else {
        return None;
    };
    let device: Arc<str> = device.into();
    let session = Session::recovered(Arc::clone(&device), session, 0, 0);
    Some(Event {
        source: source(0, device, Some(Arc::new(session)), None),
        time: system_time(message.time),
        kind: EventKind::Gap(SessionGap { from, to, cause }),
    })
}

/// The connection of an event without payload.
fn source(
    conn: u64,
    device: Arc<str>,
    session: Option<Arc<Session>>,
    certificate: Option<Arc<PeerCertificate>>,
) -> Arc<ConnectionInfo> {
    Arc::new(ConnectionInfo {
        conn,
        device,
        framing: AnyFraming::Blocks(Blocks),
        encoding: Encoding::default(),
        first_seq: 0,
        session,
        certificate,
        stats: None,
    })
}

/// Whether an event names its device, if it has to: counts of several devices name none.
fn has_device(note: &Note<'_>) -> bool {
    note.head().origin.device.is_some() || matches!(note, Note::Suppressed { .. })
}

/// The session of an event, if it names one. Nothing but its device and number is known.
fn session(note: &Note<'_>) -> Option<Arc<Session>> {
    let (Note::Session { session, .. } | Note::Gap { session, .. }) = note else {
        return None;
    };
    let device = note.head().origin.device.as_deref()?;
    let number = u64::from_str_radix(session, 16).ok()?;
    Some(Arc::new(Session::recovered(device, number, 0, 0)))
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

/// The event of a note. `None` as for [`kind`].
pub(crate) fn event_of(note: &Note<'_>, time: SystemTime) -> Option<Event> {
    let origin = &note.head().origin;
    let device = origin.device.as_deref().unwrap_or_default();
    Some(Event {
        source: source(
            origin.conn.unwrap_or_default(),
            device.into(),
            session(note),
            note.certificate(),
        ),
        time,
        kind: kind(note)?,
    })
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
        Note::Fault { head, fault } => match fault {
            FaultNote::Undecodable { r#as, reason } => {
                Some(EventKind::Undecodable(Box::new(UndecodableMessage {
                    seq: head.seq.unwrap_or_default(),
                    encoding: (&**r#as).into(),
                    reason: (&**reason).into(),
                })))
            }
            FaultNote::Reset => batch(Batch::of_reset()),
            fault => batch(Batch::of_fault(fault.fault()?)),
        },
        Note::AfterEnd { bytes, .. } => batch(Batch::of_after_end(*bytes)),
        Note::Close {
            blocks,
            bytes,
            reason,
            series,
            ..
        } => Some(EventKind::Closed {
            messages: *blocks,
            bytes: *bytes,
            reason: CloseReason::ALL
                .into_iter()
                .find(|it| it.as_str() == reason)?,
            series_open: *series == Some(SeriesNote::Open),
        }),
        Note::Session {
            former,
            kind,
            resume,
            held,
            lost,
            room,
            uptime_us,
            ..
        } => Some(EventKind::Session(Box::new(SessionOpened {
            former: (&**former).into(),
            kind: HelloKind::parse(kind)?,
            resume: *resume,
            held: *held,
            lost: *lost,
            room: *room,
            uptime_us: *uptime_us,
        }))),
        Note::Gap {
            from, to, cause, ..
        } => {
            let (from, to, cause) = (*from, *to, GapCause::parse(cause)?);
            (from < to).then_some(EventKind::Gap(SessionGap { from, to, cause }))
        }
        Note::Silent {
            since, interval_us, ..
        } => Some(EventKind::Silent {
            since: since.0,
            interval: Duration::from_micros(*interval_us),
        }),
        Note::Back { silence_us, .. } => Some(EventKind::Back {
            silence: Duration::from_micros(*silence_us),
        }),
        Note::Suppressed { head, counts } => {
            Some(EventKind::Suppressed(Box::new(counts.suppressed(head.seq))))
        }
    }
}
