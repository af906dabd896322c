//! `--output json`: one object a line, for programs.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use framing_core::{Fault, Part};
use jiff::Timestamp;
use serde_json::Value;

use crate::engine::batch::{Batch, Item};
use crate::engine::counters::FaultKind;
use crate::engine::event::{Event, Peer, Position, Reason, Suppressed, What};
use crate::output::room::{Room, write_meaning};
use crate::output::{Format, Out};
use crate::payload::{Decoder, Decoding, Log, Meaning, Stop, Style, Undecodable};

/// Writes events as JSON lines. Every object has `event`, `conn`, `device` and `time` (RFC 3339, nanoseconds).
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Format for Json {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        let head = Head::of(event);
        match &event.what {
            What::Opened { peer } => write_note(&head, &Note::Opened(peer), out.line())?,
            What::Batch { batch, position } => {
                return write_batch(&head, &event.source.decoder, batch, *position, out);
            }
            What::Closed {
                blocks,
                bytes,
                reason,
            } => {
                let (blocks, bytes, reason) = (*blocks, *bytes, *reason);
                let note = Note::Closed {
                    blocks,
                    bytes,
                    reason,
                };
                write_note(&head, &note, out.line())?;
            }
            What::Suppressed(sums) => write_note(&head, &Note::Suppressed(sums), out.line())?,
        }
        out.line().push(b'}');
        out.end_line()
    }

    fn lost(&mut self, blocks: u64, out: &mut Out) -> io::Result<()> {
        let time = Time(SystemTime::now());
        write!(
            out.line(),
            r#"{{"event":"lost","time":"{time}","blocks":{blocks}}}"#
        )?;
        out.end_line()
    }
}

/// What is told of a connection besides payload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note<'a> {
    /// A connection was accepted.
    Opened(&'a Peer),
    /// Part of a message; what it holds stands elsewhere.
    Piece {
        seq: u64,
        offset: u64,
        len: usize,
        first: bool,
        last: bool,
    },
    /// A series of so many blocks was ended by its mark.
    End { blocks: u64 },
    /// A message was refused.
    Fault(&'a Fault),
    /// A connection has ended.
    Closed {
        blocks: u64,
        bytes: u64,
        reason: Reason,
    },
    /// Counts of events that are not recorded one by one.
    Suppressed(&'a Suppressed),
}

/// Appends an object, but for the brace that ends it.
pub(crate) fn write_note(head: &Head, note: &Note<'_>, line: &mut Vec<u8>) -> io::Result<()> {
    match *note {
        Note::Opened(peer) => {
            let peer = Value::from(peer.to_string());
            head.begin("open", None, line)?;
            write!(line, r#","peer":{peer}"#)
        }
        Note::Piece {
            seq,
            offset,
            len,
            first,
            last,
        } => {
            head.begin("piece", Some(seq), line)?;
            write!(
                line,
                r#","offset":{offset},"len":{len},"first":{first},"last":{last}"#
            )
        }
        Note::End { blocks } => {
            head.begin("end", None, line)?;
            write!(line, r#","blocks":{blocks}"#)
        }
        Note::Fault(fault) => {
            head.begin("fault", None, line)?;
            write_fault(fault, line)
        }
        Note::Closed {
            blocks,
            bytes,
            reason,
        } => {
            head.begin("close", None, line)?;
            write!(
                line,
                r#","blocks":{blocks},"bytes":{bytes},"reason":"{reason}""#
            )
        }
        Note::Suppressed(sums) => {
            head.begin("suppressed", sums.seq, line)?;
            write!(line, r#","since":"{}""#, Time(sums.since))?;
            for (word, count) in sums.counts().filter(|(_, count)| *count != 0) {
                write!(line, r#","{word}":{count}"#)?;
            }
            Ok(())
        }
    }
}

/// What every object of an event has; written out once for a batch.
#[derive(Debug)]
pub(crate) struct Head {
    conn_device: String,
    time: String,
}

impl Head {
    /// Of an event.
    pub(crate) fn of(event: &Event) -> Self {
        let source = &*event.source;
        let conn = source.conn;
        let device = Value::from(&*source.device);
        Self {
            conn_device: match (conn, &*source.device) {
                // Of more than one device.
                (0, "") => String::new(),
                // The recording does not say, or has more than one connection.
                (0, _) => format!(r#","device":{device}"#),
                _ => format!(r#","conn":{conn},"device":{device}"#),
            },
            time: Time(event.time).to_string(),
        }
    }

    fn begin(&self, event: &str, seq: Option<u64>, line: &mut Vec<u8>) -> io::Result<()> {
        let Self { conn_device, time } = self;
        match seq {
            Some(seq) => {
                let (before, behind) = self.around_seq(event);
                write!(line, "{before}{seq}{behind}")
            }
            None => write!(line, r#"{{"event":"{event}"{conn_device},"time":"{time}""#),
        }
    }

    /// What stands before the sequence number, and behind it.
    fn around_seq(&self, event: &str) -> (String, String) {
        let Self { conn_device, time } = self;
        (
            format!(r#"{{"event":"{event}"{conn_device},"seq":"#),
            format!(r#","time":"{time}""#),
        )
    }
}

struct Time(SystemTime);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::try_from(self.0) {
            Ok(time) => write!(f, "{time:.9}"),
            Err(_) => f.write_str("1970-01-01T00:00:00.000000000Z"),
        }
    }
}

fn write_batch(
    head: &Head,
    decoder: &Decoder,
    batch: &Batch,
    mut position: Position,
    out: &mut Out,
) -> io::Result<()> {
    let around = head.around_seq("block");
    for item in batch.items() {
        let seq = position.seq;
        if let Item::Block(bytes) | Item::Piece { bytes, .. } = &item {
            out.make_room(bytes.len());
        }
        let line = out.line();
        match &item {
            Item::Block(bytes) => {
                line.extend_from_slice(around.0.as_bytes());
                serde_json::to_writer(&mut *line, &seq)?;
                line.extend_from_slice(around.1.as_bytes());
                line.extend_from_slice(br#","len":"#);
                serde_json::to_writer(&mut *line, &bytes.len())?;
                line.push(b',');
                let written = match decoder.decoding() {
                    Decoding::Raw => write_payload(bytes, line).map(Ok)?,
                    _ => write_meaning(decoder, seq, bytes, line, write_members),
                };
                match written {
                    Ok(()) => {}
                    Err(undecodable) => {
                        write_payload(bytes, line)?;
                        out.undecodable();
                        out.end_line()?;
                        let Undecodable { as_what, reason } = &undecodable;
                        let (line, reason) = (out.line(), Value::from(reason.as_str()));
                        head.begin("fault", Some(seq), line)?;
                        write!(
                            line,
                            r#","fault":"undecodable","as":"{as_what}","reason":{reason}}}"#
                        )?;
                    }
                }
            }
            Item::Piece { bytes, first, last } => {
                let note = Note::Piece {
                    seq,
                    offset: if *first { 0 } else { position.offset },
                    len: bytes.len(),
                    first: *first,
                    last: *last,
                };
                write_note(head, &note, line)?;
                line.push(b',');
                write_payload(bytes, line)?;
            }
            Item::End => {
                let blocks = position.in_series;
                write_note(head, &Note::End { blocks }, line)?;
                line.push(b'}');
            }
            Item::Fault(fault) => {
                write_note(head, &Note::Fault(fault), line)?;
                line.push(b'}');
            }
        }
        out.end_line()?;
        position.pass(&item);
    }
    Ok(())
}

/// Writes the members for a decoded block, and the brace that ends the object.
fn write_members(meaning: &Meaning<'_>, room: &mut Room<'_>) -> Result<(), Stop> {
    match meaning {
        Meaning::Raw(bytes) => {
            // `--decode text` has checked them.
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            room.write_str(r#""text":""#)?;
            room.json_string().write_str(text)?;
            room.write_str("\"}")?;
        }
        Meaning::Value(value) => {
            room.write_str(r#""value":"#)?;
            value.write(Style::Json, room)?;
            room.write_str("}")?;
        }
        Meaning::Log(log) => write_log(log, room)?,
        Meaning::Build { id, known } => write!(room, r#""build":"{id}","known":{known}}}"#)?,
    }
    Ok(())
}

fn write_log(log: &Log<'_>, room: &mut Room<'_>) -> Result<(), Stop> {
    if let Some(level) = log.level() {
        write!(room, r#""level":"{level}","#)?;
    }
    if log.has_time() {
        room.write_str(r#""timestamp":""#)?;
        log.write_time(&mut room.json_string())?;
        room.write_str("\",")?;
    }
    room.write_str(r#""message":""#)?;
    log.write_message(&mut room.json_string())?;
    if let Some(location) = log.location() {
        room.write_str(r#"","location":""#)?;
        write!(room.json_string(), "{location}")?;
    }
    Ok(room.write_str("\"}")?)
}

fn write_payload(bytes: &[u8], line: &mut Vec<u8>) -> io::Result<()> {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            line.extend_from_slice(br#""text":"#);
            serde_json::to_writer(&mut *line, text)?;
        }
        Err(_) => {
            line.extend_from_slice(br#""base64":""#);
            let start = line.len();
            let end = start + base64::encoded_len(bytes.len(), true).unwrap_or_default();
            line.resize(end, 0);
            let space = line.get_mut(start..).unwrap_or_default();
            STANDARD
                .encode_slice(bytes, space)
                .map_err(io::Error::other)?;
            line.push(b'"');
        }
    }
    line.push(b'}');
    Ok(())
}

fn write_fault(fault: &Fault, line: &mut Vec<u8>) -> io::Result<()> {
    write!(line, r#","fault":"{}""#, FaultKind::of(fault))?;
    match *fault {
        Fault::TooLong {
            declared,
            limit,
            lost,
        } => {
            if let Some(declared) = declared {
                write!(line, r#","declared":{declared}"#)?;
            }
            write!(line, r#","limit":{limit},"lost":{lost}"#)?;
        }
        Fault::BadLength { found, offset } => {
            write!(line, r#","found":{found},"offset":{offset}"#)?;
        }
        Fault::BadEnding { want, found } => write!(line, r#","want":{want},"found":{found}"#)?,
        Fault::EarlyEnd { missing } => write!(line, r#","missing":{missing}"#)?,
        Fault::Truncated { part, have, want } => {
            let part = match part {
                Part::Header => "header",
                Part::Payload => "payload",
                Part::End => "end",
            };
            write!(line, r#","have":{have},"want":{want},"where":"{part}""#)?;
        }
        _ => {}
    }
    Ok(())
}
