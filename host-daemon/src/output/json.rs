//! `--output json`: one JSON object per line, for programs. Start with [`Json`].

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::output::bounded_line::{BoundedLine, write_meaning};
use crate::output::{Format, Out};
use crate::payload::{
    DecodeError, Decoder, Decoders, Decoding, LogFrame, Meaning, Style, Undecodable,
};
use crate::recorded::lifecycle::Lifecycle;
use crate::recorded::note::{Head, Note};
use crate::recorded::time::Time;
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{Dropped, Event, EventKind, StreamPosition};

/// Writes events as JSON lines. Every object has `event`, `conn`, `device` and `time` (RFC 3339, nanoseconds).
#[derive(Debug, Default)]
pub struct Json {
    decoders: Decoders,
}

impl Format for Json {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        let note = match &event.kind {
            EventKind::Opened { peer } => Note::open(event, peer),
            EventKind::Batch { batch, position } => {
                let decoder = self.decoders.of(&event.source);
                return write_batch(event, decoder, batch, *position, out);
            }
            EventKind::Closed {
                messages,
                bytes,
                reason,
                series_open,
            } => Note::close(event, *messages, *bytes, *reason, *series_open),
            EventKind::Suppressed(sums) => Note::suppressed(event, sums),
        };
        note.write(out.line())?;
        out.end_line()
    }

    fn lifecycle(&mut self, event: &Lifecycle<'_>, out: &mut Out) -> io::Result<()> {
        event.write(out.line())?;
        out.end_line()
    }

    fn lost(&mut self, dropped: Dropped, out: &mut Out) -> io::Result<()> {
        let Dropped { messages, others } = dropped;
        let time = Time(SystemTime::now());
        write!(
            out.line(),
            r#"{{"event":"lost","time":"{time}","blocks":{messages},"events":{others}}}"#
        )?;
        out.end_line()
    }
}

fn write_batch(
    event: &Event,
    decoder: &Decoder,
    batch: &Batch,
    mut position: StreamPosition,
    out: &mut Out,
) -> io::Result<()> {
    let head = Head::of(event);
    let around = head.around_seq("block")?;
    for item in batch.items() {
        let seq = position.seq;
        if let Item::Message(bytes) | Item::Piece { bytes, .. } = &item {
            out.reserve(bytes.len());
        }
        let line = out.line();
        match &item {
            Item::Message(bytes) => {
                line.extend_from_slice(around.0.as_bytes());
                serde_json::to_writer(&mut *line, &seq)?;
                line.extend_from_slice(around.1.as_bytes());
                line.extend_from_slice(br#","len":"#);
                serde_json::to_writer(&mut *line, &bytes.len())?;
                line.push(b',');
                let written = match decoder.decoding() {
                    Decoding::Raw => write_payload(bytes, line).map(Ok)?,
                    _ => write_meaning(decoder, bytes, line, write_members),
                };
                match written {
                    Ok(()) => {}
                    Err(undecodable) if undecodable.is_repeated => {
                        write_payload(bytes, line)?;
                        out.undecodable(&undecodable);
                    }
                    Err(undecodable) => {
                        write_payload(bytes, line)?;
                        out.undecodable(&undecodable);
                        out.end_line()?;
                        let Undecodable {
                            as_what, reason, ..
                        } = &undecodable;
                        let (line, reason) = (out.line(), Value::from(reason.as_str()));
                        let (before, after) = head.around_seq("fault")?;
                        write!(
                            line,
                            r#"{before}{seq}{after},"fault":"undecodable","as":"{as_what}","reason":{reason}}}"#
                        )?;
                    }
                }
            }
            Item::Piece {
                bytes,
                first,
                last,
                truncated,
            } => {
                let (len, ends) = (bytes.len(), (*first, *last));
                Note::piece(event, &position, len, ends, *truncated).write(line)?;
                // Its bytes are added as further members.
                line.pop();
                line.push(b',');
                write_payload(bytes, line)?;
            }
            Item::End => Note::end(event, position.in_series).write(line)?,
            Item::Fault(fault) => Note::fault(event, fault).write(line)?,
            Item::Reset => Note::reset(event).write(line)?,
            Item::AfterEnd { bytes } => Note::after_end(event, *bytes).write(line)?,
        }
        out.end_line()?;
        out.end_item(&item);
        position.pass(&item);
    }
    Ok(())
}

/// Writes the members of a decoded message, and the brace that ends the object.
fn write_members(meaning: &Meaning<'_>, bounded: &mut BoundedLine<'_>) -> Result<(), DecodeError> {
    match meaning {
        Meaning::Raw(bytes) => {
            // The decoder has checked that it is UTF-8.
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            bounded.write_str(r#""text":""#)?;
            bounded.json_string().write_str(text)?;
            bounded.write_str("\"}")?;
        }
        Meaning::Value(value) => {
            bounded.write_str(r#""value":"#)?;
            value.write(Style::Json, bounded)?;
            bounded.write_str("}")?;
        }
        Meaning::Log(log) => write_log(log, bounded)?,
        Meaning::Build { id, known } => {
            write!(bounded, r#""build":"{id}","known":"#)?;
            match known {
                Some(known) => write!(bounded, "{known}}}")?,
                None => bounded.write_str("null}")?,
            }
        }
    }
    Ok(())
}

fn write_log(log: &LogFrame<'_>, bounded: &mut BoundedLine<'_>) -> Result<(), DecodeError> {
    if let Some(level) = log.level() {
        write!(bounded, r#""level":"{level}","#)?;
    }
    if log.has_time() {
        bounded.write_str(r#""timestamp":""#)?;
        log.write_time(&mut bounded.json_string())?;
        bounded.write_str("\",")?;
    }
    bounded.write_str(r#""message":""#)?;
    log.write_message(&mut bounded.json_string())?;
    if let Some(location) = log.location() {
        bounded.write_str(r#"","location":""#)?;
        write!(bounded.json_string(), "{location}")?;
    }
    Ok(bounded.write_str("\"}")?)
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
