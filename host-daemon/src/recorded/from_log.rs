//! Makes the messages of a recording into the events that they were.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use framing_core::{AnyFraming, Blocks, Fault, Part};
use jiff::Timestamp;
use serde_json::Value;

use crate::engine::batch::Batch;
use crate::engine::counters::FaultKind;
use crate::engine::event::{Event, Peer, Position, Reason, Source, Suppressed, What};
use crate::engine::pool::Span;
use crate::error::Failure;
use crate::payload::{Decoder, Decoding, members};
use crate::recording::format::record::{Kind, UNRECORDED};
use crate::recording::read::messages::{Known, Message};

/// Bytes of blocks that are made into one batch, at most but for a single block.
const BATCH_LEN: usize = 1 << 20;

/// What comes out.
pub trait Audience {
    /// An event.
    ///
    /// # Errors
    /// Whatever is to end it all.
    fn event(&mut self, event: &Event) -> Result<(), Failure>;

    /// An event of which nothing is known but that it was recorded.
    ///
    /// # Errors
    /// Whatever is to end it all.
    fn other(&mut self, json: &[u8]) -> Result<(), Failure>;
}

/// Makes events of messages, one after the other.
#[derive(Debug, Default)]
pub struct Player {
    decode: Option<Decoding>,
    devices: HashMap<Arc<str>, Device>,
    blocks: Option<Group>,
    piece: Option<Piece>,
}

#[derive(Debug, Default)]
struct Device {
    /// Numbers of its connections that are open.
    conns: Vec<u64>,
    /// It has others, whose beginning was not seen.
    has_others: bool,
    /// Of the messages of its present connection, by what tells connections apart in a file.
    source: Option<(Arc<Known>, Arc<Source>)>,
    /// The same, of connections whose open is not recorded.
    unrecorded: Option<(Arc<Known>, Arc<Source>)>,
}

/// Blocks that were received at once.
#[derive(Debug)]
struct Group {
    source: Arc<Source>,
    time: u64,
    first: u64,
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// A piece, until the event that says which part of the message it is.
#[derive(Debug)]
struct Piece {
    source: Arc<Source>,
    time: u64,
    bytes: Vec<u8>,
}

impl Player {
    /// Reads payload as `decode` says, in place of how it was received.
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
    /// What the audience says.
    pub fn message(
        &mut self,
        message: &Message<'_>,
        audience: &mut dyn Audience,
    ) -> Result<(), Failure> {
        match message.known.kind {
            Kind::Blocks | Kind::Other => {
                self.end_piece(audience)?;
                self.block(message, audience)
            }
            Kind::Pieces => {
                self.finish(audience)?;
                let source = self.source(message);
                self.piece = Some(Piece {
                    source,
                    time: message.time,
                    bytes: message.data.to_vec(),
                });
                Ok(())
            }
            Kind::Events => {
                self.end_blocks(audience)?;
                self.note(message, audience)
            }
        }
    }

    /// Gives what was held back.
    ///
    /// # Errors
    /// What the audience says.
    pub fn finish(&mut self, audience: &mut dyn Audience) -> Result<(), Failure> {
        self.end_blocks(audience)?;
        self.end_piece(audience)
    }

    fn block(&mut self, message: &Message<'_>, audience: &mut dyn Audience) -> Result<(), Failure> {
        let source = self.source(message);
        let seq = u64::from(message.sequence);
        let goes_on = self.blocks.as_ref().is_some_and(|group| {
            Arc::ptr_eq(&group.source, &source)
                && group.time == message.time
                && group.first + group.spans.len() as u64 == seq
                && group.bytes.len() + message.data.len() <= BATCH_LEN
        });
        if !goes_on {
            self.end_blocks(audience)?;
        }
        let group = self.blocks.get_or_insert_with(|| Group {
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

    /// The connection that a message is of.
    fn source(&mut self, message: &Message<'_>) -> Arc<Source> {
        let known = message.known;
        let device = self.devices.entry(Arc::clone(&known.device)).or_default();
        let metadata = |key| known.channel.metadata.get(key).map(String::as_str);
        let is_unrecorded = metadata(UNRECORDED.0) == Some(UNRECORDED.1);
        device.has_others |= device.conns.is_empty() && !is_unrecorded;
        let cached = match is_unrecorded {
            true => &device.unrecorded,
            false => &device.source,
        };
        if let Some((of, source)) = cached
            && (Arc::ptr_eq(of, known) || of.channel.metadata == known.channel.metadata)
        {
            return Arc::clone(source);
        }
        let framing = metadata("framing").and_then(|spec| spec.parse().ok());
        let recorded = metadata("decode").and_then(|spec| spec.parse().ok());
        // The first block of a connection whose beginning was seen; else it may be any but the first of all.
        let conn = if is_unrecorded { 0 } else { device.conn() };
        let first = match conn {
            0 => 0,
            _ => message.sequence.into(),
        };
        let decoding = self.decode.clone().or(recorded).unwrap_or_default();
        let source = Arc::new(Source {
            conn,
            device: Arc::clone(&known.device),
            framing: framing.unwrap_or(AnyFraming::Blocks(Blocks)),
            decoder: Decoder::starting_at(decoding, first),
        });
        let cached = match is_unrecorded {
            true => &mut device.unrecorded,
            false => &mut device.source,
        };
        *cached = Some((Arc::clone(known), Arc::clone(&source)));
        source
    }

    fn end_blocks(&mut self, audience: &mut dyn Audience) -> Result<(), Failure> {
        let Some(group) = self.blocks.take() else {
            return Ok(());
        };
        let position = Position {
            seq: group.first,
            ..Position::default()
        };
        let batch = Batch::of_blocks(group.bytes, group.spans);
        audience.event(&event(group.source, group.time, batch, position))
    }

    /// A piece whose event is not there.
    fn end_piece(&mut self, audience: &mut dyn Audience) -> Result<(), Failure> {
        let Some(piece) = self.piece.take() else {
            return Ok(());
        };
        let batch = Batch::of_piece(piece.bytes, false, false);
        let position = Position::default();
        audience.event(&event(piece.source, piece.time, batch, position))
    }

    fn note(&mut self, message: &Message<'_>, audience: &mut dyn Audience) -> Result<(), Failure> {
        let json = members(message.data);
        let device = json.get("device").and_then(Value::as_str);
        let kind = json.get("event").and_then(Value::as_str);
        let conn = number(&json, "conn").unwrap_or_default();
        // Counts of several devices name none.
        let device = device.or_else(|| (kind == Some("suppressed")).then_some(""));
        let (Some(device), Some(kind)) = (device, kind) else {
            self.end_piece(audience)?;
            return audience.other(message.data);
        };
        if kind == "piece"
            && let Some(piece) = self.piece.take_if(|piece| &*piece.source.device == device)
        {
            let position = Position {
                seq: number(&json, "seq").unwrap_or_default(),
                offset: number(&json, "offset").unwrap_or_default(),
                in_series: 0,
            };
            let is = |key| json.get(key).and_then(Value::as_bool).unwrap_or_default();
            let batch = Batch::of_piece(piece.bytes, is("first"), is("last"));
            return audience.event(&event(piece.source, piece.time, batch, position));
        }
        self.end_piece(audience)?;
        if kind == "open" {
            self.devices.entry(device.into()).or_default().open(conn);
        } else if kind == "close"
            && let Some(closed) = self.devices.get_mut(device)
            && closed.close(conn)
        {
            self.devices.remove(device);
        }
        match what(kind, &json) {
            Some(what) => audience.event(&Event {
                source: Arc::new(Source {
                    conn,
                    device: device.into(),
                    framing: AnyFraming::Blocks(Blocks),
                    decoder: Decoder::default(),
                }),
                time: system_time(message.time),
                what,
            }),
            None => audience.other(message.data),
        }
    }
}

impl Device {
    fn open(&mut self, conn: u64) {
        self.conns.push(conn);
        self.source = None;
    }

    /// Says whether nothing is left to be known of the device.
    fn close(&mut self, conn: u64) -> bool {
        self.conns.retain(|open| *open != conn);
        self.source = None;
        self.conns.is_empty()
    }

    /// Number of the connection that a block came by, as far as that can be told: the recording keeps the device.
    fn conn(&self) -> u64 {
        match self.conns.as_slice() {
            [conn] if !self.has_others => *conn,
            _ => 0,
        }
    }
}

fn event(source: Arc<Source>, time: u64, batch: Batch, position: Position) -> Event {
    let batch = Arc::new(batch);
    Event {
        source,
        time: system_time(time),
        what: What::Batch { batch, position },
    }
}

fn system_time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

fn number(json: &Value, key: &str) -> Option<u64> {
    json.get(key).and_then(Value::as_u64)
}

fn what(kind: &str, json: &Value) -> Option<What> {
    let text = |key| json.get(key).and_then(Value::as_str);
    let of = |batch, position| {
        let batch = Arc::new(batch);
        Some(What::Batch { batch, position })
    };
    match kind {
        "open" => {
            let peer = text("peer")?;
            let peer = match peer.parse() {
                Ok(address) => Peer::Network(address),
                Err(_) => Peer::Local(peer.into()),
            };
            Some(What::Opened { peer })
        }
        "close" => {
            let reason = text("reason")?;
            let mut reasons = Reason::ALL.into_iter();
            Some(What::Closed {
                blocks: number(json, "blocks")?,
                bytes: number(json, "bytes")?,
                reason: reasons.find(|it| it.as_str() == reason)?,
            })
        }
        "end" => {
            let position = Position {
                in_series: number(json, "blocks")?,
                ..Position::default()
            };
            of(Batch::of_end(), position)
        }
        "fault" => of(Batch::of_fault(fault(json)?), Position::default()),
        "suppressed" => Some(What::Suppressed(Box::new(suppressed(json)?))),
        _ => None,
    }
}

fn suppressed(json: &Value) -> Option<Suppressed> {
    let since: Timestamp = json.get("since")?.as_str()?.parse().ok()?;
    let count = |word| number(json, word).unwrap_or_default();
    Some(Suppressed {
        since: since.into(),
        seq: number(json, "seq"),
        connections: count("connections"),
        empty: count("empty"),
        ends: count("ends"),
        faults: FaultKind::ALL.map(|kind| count(kind.as_str())),
    })
}

fn fault(json: &Value) -> Option<Fault> {
    let long = |key| u32::try_from(number(json, key)?).ok();
    let byte = |key| u8::try_from(number(json, key)?).ok();
    Some(match json.get("fault")?.as_str()? {
        "too_long" => Fault::TooLong {
            declared: long("declared"),
            limit: long("limit")?,
            lost: json.get("lost")?.as_bool()?,
        },
        "bad_length" => Fault::BadLength {
            found: byte("found")?,
            offset: byte("offset")?,
        },
        "bad_ending" => match byte("missing") {
            Some(missing) => Fault::EarlyEnd { missing },
            None => Fault::BadEnding {
                want: byte("want")?,
                found: byte("found")?,
            },
        },
        "truncated" => Fault::Truncated {
            part: match json.get("where")?.as_str()? {
                "header" => Part::Header,
                "payload" => Part::Payload,
                _ => Part::End,
            },
            have: long("have")?,
            want: long("want")?,
        },
        _ => return None,
    })
}
