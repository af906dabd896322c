//! `--output json`: one JSON object per line, for programs. Start with [`Json`].

use std::io::{self, Write};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::escape::json::write_string;
use crate::output::bounded_line::write_meaning;
use crate::output::{Format, Out};
use crate::payload::{Decoder, Decoders, Decoding};
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
            EventKind::Session(opened) => Note::session(event, opened),
            EventKind::Gap(gap) => Note::gap(event, gap),
            EventKind::Silent { since, interval } => Note::silent(event, *since, *interval),
            EventKind::Back { silence } => Note::back(event, *silence),
            EventKind::Suppressed(sums) => Note::suppressed(event, sums),
            EventKind::Undecodable(message) => Note::recorded_undecodable(event, message),
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
    let session = event.source.session.as_ref().map(|it| it.number());
    let around = head.around_seq("block", session)?;
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
                    _ => write_meaning(decoder, bytes, line, |it, to| it.write_members(to)),
                };
                match written {
                    Ok(()) => {}
                    Err(undecodable) if undecodable.is_repeated => {
                        write_payload(bytes, line)?;
                        out.undecodable(&event.source, seq, &undecodable);
                    }
                    Err(undecodable) => {
                        write_payload(bytes, line)?;
                        out.end_line()?;
                        out.undecodable(&event.source, seq, &undecodable);
                        Note::undecodable(event, seq, &undecodable).write(out.line())?;
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

fn write_payload(bytes: &[u8], line: &mut Vec<u8>) -> io::Result<()> {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            line.extend_from_slice(br#""text":"#);
            write_string(text, line);
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
