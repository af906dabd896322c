//! `--output json`: one object a line, for programs.

use std::fmt;
use std::io::{self, Write as _};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use framing_core::{Fault, Part};
use jiff::Timestamp;
use serde_json::Value;

use super::{Format, Out};
use crate::batch::{Batch, Item};
use crate::counters::FaultKind;
use crate::decode::{Decoder, Log, Meaning, Undecodable};
use crate::event::{Event, Position, What};

/// Writes events as JSON lines. Every object has `event`, `conn`, `device` and `time` (RFC 3339, nanoseconds).
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Format for Json {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        let head = Head::of(event);
        match &event.what {
            What::Opened { peer } => {
                write!(
                    out.line(),
                    r#"{{"event":"open",{head},"peer":{},"#,
                    Value::from(peer.to_string())
                )?;
                head.end(out)
            }
            What::Batch { batch, position } => {
                write_batch(&head, &event.source.decoder, batch, *position, out)
            }
            What::Closed {
                blocks,
                bytes,
                reason,
            } => {
                write!(
                    out.line(),
                    r#"{{"event":"close",{head},"blocks":{blocks},"bytes":{bytes},"#
                )?;
                write!(out.line(), r#""reason":"{reason}","#)?;
                head.end(out)
            }
        }
    }
}

/// What every object of an event has; written out once for a batch.
struct Head {
    conn_device: String,
    time: Time,
}

impl Head {
    fn of(event: &Event) -> Self {
        let device = Value::from(&*event.source.device);
        Self {
            conn_device: format!(r#""conn":{},"device":{device}"#, event.source.conn),
            time: Time(event.time),
        }
    }

    fn end(&self, out: &mut Out) -> io::Result<()> {
        write!(out.line(), r#""time":"{}"}}"#, self.time)?;
        out.end_line()
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.conn_device)
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
    let time = head.time.to_string();
    for item in batch.items() {
        let line = out.line();
        match &item {
            Item::Block(bytes) => {
                let (seq, len) = (position.seq, bytes.len());
                write!(
                    line,
                    r#"{{"event":"block",{head},"seq":{seq},"time":"{time}","len":{len},"#
                )?;
                match decoder.read(seq, bytes) {
                    Ok(meaning) => write_meaning(&meaning, line)?,
                    Err(undecodable) => {
                        write_payload(bytes, line)?;
                        out.undecodable();
                        out.end_line()?;
                        let Undecodable { as_what, reason } = &undecodable;
                        let (line, reason) = (out.line(), Value::from(reason.as_str()));
                        write!(
                            line,
                            r#"{{"event":"fault",{head},"seq":{seq},"time":"{time}","#
                        )?;
                        write!(
                            line,
                            r#""fault":"undecodable","as":"{as_what}","reason":{reason}}}"#
                        )?;
                    }
                }
            }
            Item::Piece { bytes, first, last } => {
                let (seq, len) = (position.seq, bytes.len());
                let offset = if *first { 0 } else { position.offset };
                write!(
                    line,
                    r#"{{"event":"piece",{head},"seq":{seq},"time":"{time}","offset":{offset},"#
                )?;
                write!(line, r#""len":{len},"first":{first},"last":{last},"#)?;
                write_payload(bytes, line)?;
            }
            Item::End => {
                let blocks = position.in_series;
                write!(
                    line,
                    r#"{{"event":"end",{head},"time":"{time}","blocks":{blocks}}}"#
                )?;
            }
            Item::Fault(fault) => {
                write!(line, r#"{{"event":"fault",{head},"time":"{time}","#)?;
                write_fault(fault, line)?;
            }
        }
        out.end_line()?;
        position.pass(&item);
    }
    Ok(())
}

fn write_meaning(meaning: &Meaning<'_>, line: &mut Vec<u8>) -> io::Result<()> {
    match meaning {
        Meaning::Raw(bytes) => return write_payload(bytes, line),
        Meaning::Value(value) => write!(line, r#""value":{value}}}"#)?,
        Meaning::Log(log) => {
            let Log {
                level,
                timestamp,
                message,
                location,
            } = log;
            let fields = [
                ("level", level.as_ref().map(|level| Value::from(*level))),
                ("timestamp", timestamp.as_deref().map(Value::from)),
                ("message", Some(Value::from(message.as_str()))),
                ("location", location.as_deref().map(Value::from)),
            ];
            let fields = fields
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)));
            for (index, (key, value)) in fields.enumerate() {
                write!(
                    line,
                    r#"{}"{key}":{value}"#,
                    if index == 0 { "" } else { "," }
                )?;
            }
            line.push(b'}');
        }
        Meaning::Build { id, known } => write!(line, r#""build":"{id}","known":{known}}}"#)?,
    }
    Ok(())
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
    write!(line, r#""fault":"{}""#, FaultKind::of(fault))?;
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
    line.push(b'}');
    Ok(())
}
