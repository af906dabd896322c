//! `--output json`: one JSON object per line, for programs. Start with [`Json`].

use std::io::{self, Write};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::escape::json::write_string;
use crate::output::bounded_line::write_meaning;
use crate::output::{Format, Out};
use crate::payload::{Decoder, Decoders, Decoding, Meaning, Undecodable};
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
        if let EventKind::Batch { batch, position } = &event.kind {
            let decoder = self.decoders.of(&event.source);
            return write_batch(event, decoder, batch, *position, out);
        }
        if let Some(note) = note(event) {
            note.write(out.line())?;
            out.end_line()?;
        }
        Ok(())
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

/// The lines of the messages of one event.
#[derive(Debug)]
pub(crate) struct MessageLines {
    /// The text before the sequence number, and the text after it.
    around: (String, String),
}

impl MessageLines {
    /// The lines of the messages of this event.
    ///
    /// # Errors
    /// None: a write to memory does not fail.
    pub(crate) fn of(event: &Event) -> io::Result<Self> {
        let session = event.source.session.as_ref().map(|it| it.number());
        let around = Head::of(event).around_seq("block", session)?;
        Ok(Self { around })
    }

    /// Appends the line of a message, without a line break. `seen` gets the decoded message. Returns why the message could not
    /// be decoded: its line has the bytes.
    ///
    /// # Errors
    /// If the payload has no room in memory.
    pub(crate) fn write(
        &self,
        seq: u64,
        bytes: &[u8],
        decoder: &Decoder,
        line: &mut Vec<u8>,
        seen: impl FnOnce(&Meaning<'_>, usize),
    ) -> io::Result<Result<(), Undecodable>> {
        let at = self.head(seq, bytes, line)?;
        let written = match decoder.decoding() {
            Decoding::Raw => Ok(()),
            _ => {
                let written = write_meaning(decoder, bytes, line, |it, to| {
                    seen(it, at);
                    it.write_members(to)
                });
                if written.is_ok() {
                    return Ok(Ok(()));
                }
                written
            }
        };
        write_payload(bytes, line)?;
        Ok(written)
    }

    /// The line of a message of which only the first bytes are shown, at most `most`, and where its content begins.
    ///
    /// # Errors
    /// If the payload has no room in memory.
    pub(crate) fn write_cut(
        &self,
        seq: u64,
        bytes: &[u8],
        most: usize,
    ) -> io::Result<(Vec<u8>, usize)> {
        let mut line = Vec::new();
        let at = self.head(seq, bytes, &mut line)?;
        let first = bytes.get(..most).unwrap_or(bytes);
        let first = match std::str::from_utf8(first) {
            // A character that is cut.
            Err(error) if error.error_len().is_none() => {
                first.get(..error.valid_up_to()).unwrap_or(first)
            }
            _ => first,
        };
        write_payload(first, &mut line)?;
        line.pop();
        line.extend_from_slice(br#","cut":true}"#);
        Ok((line, at))
    }

    /// Appends what precedes the content, and returns where that begins.
    fn head(&self, seq: u64, bytes: &[u8], line: &mut Vec<u8>) -> io::Result<usize> {
        let (before, after) = &self.around;
        line.extend_from_slice(before.as_bytes());
        serde_json::to_writer(&mut *line, &seq)?;
        line.extend_from_slice(after.as_bytes());
        line.extend_from_slice(br#","len":"#);
        serde_json::to_writer(&mut *line, &bytes.len())?;
        line.push(b',');
        Ok(line.len())
    }
}

/// The event as it is written, unless it has several items.
pub(crate) fn note(event: &Event) -> Option<Note<'_>> {
    Some(match &event.kind {
        EventKind::Opened { peer } => Note::open(event, peer),
        EventKind::Batch { .. } => return None,
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
    })
}

/// An item of a batch as it is written, unless it is a whole message. The bytes of a piece follow as further members.
pub(crate) fn item_note<'a>(
    event: &'a Event,
    item: &Item<'_>,
    position: &StreamPosition,
) -> Option<Note<'a>> {
    Some(match item {
        Item::Message(_) => return None,
        Item::Piece {
            bytes,
            first,
            last,
            truncated,
        } => Note::piece(event, position, bytes.len(), (*first, *last), *truncated),
        Item::End => Note::end(event, position.in_series),
        Item::Fault(fault) => Note::fault(event, fault),
        Item::Reset => Note::reset(event),
        Item::AfterEnd { bytes } => Note::after_end(event, *bytes),
    })
}

/// Appends the line of an item that is no whole message.
///
/// # Errors
/// If a payload has no room in memory.
pub(crate) fn write_item(note: &Note<'_>, item: &Item<'_>, line: &mut Vec<u8>) -> io::Result<()> {
    note.write(line)?;
    if let Item::Piece { bytes, .. } = item {
        line.pop();
        line.push(b',');
        write_payload(bytes, line)?;
    }
    Ok(())
}

fn write_batch(
    event: &Event,
    decoder: &Decoder,
    batch: &Batch,
    mut position: StreamPosition,
    out: &mut Out,
) -> io::Result<()> {
    let lines = MessageLines::of(event)?;
    for item in batch.items() {
        let seq = position.seq;
        if let Item::Message(bytes) | Item::Piece { bytes, .. } = &item {
            out.reserve(bytes.len());
        }
        match (&item, item_note(event, &item, &position)) {
            (_, Some(note)) => write_item(&note, &item, out.line())?,
            (Item::Message(bytes), None) => {
                let written = lines.write(seq, bytes, decoder, out.line(), |_, _| {})?;
                if let Err(undecodable) = written {
                    out.undecodable(&event.source, seq, &undecodable);
                    if !undecodable.is_repeated {
                        out.end_line()?;
                        Note::undecodable(event, seq, &undecodable).write(out.line())?;
                    }
                }
            }
            (_, None) => {}
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
