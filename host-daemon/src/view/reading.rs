//! Turns events into entries: an [`EntryReader`] decodes messages before the view is locked.

use std::io;
use std::sync::Arc;

use crate::api::devices::LatestMessage;
use crate::escape::readable;
use crate::fields::{Dialect, put_object};
use crate::output::Text;
use crate::output::json::{MessageLines, item_note, note, write_item};
use crate::output::write_meaning;
use crate::payload::{Decoder, Decoders, Decoding, Meaning};
use crate::recorded::time::Time;
use crate::view::entry::ViewEntry;
use crate::view::fields::{CUT_BYTES, FIRST_VALUE_MAX, cut, first_values};
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{Event, EventKind, StreamPosition};
use blocksd_engine::reason::FaultKind;

/// Characters of the text of a message that a list shows.
pub(super) const TEXT_MAX: usize = 200;
/// A longer payload is cut, in bytes.
const PAYLOAD_MAX: usize = 4 << 10;
/// Fields that a list shows.
pub(super) const VALUES_MAX: usize = 3;
/// Memory of a name and a value besides their bytes.
const VALUE_COST: usize = size_of::<(String, String)>();

/// Decodes the messages of all connections.
#[derive(Debug, Default)]
pub(super) struct EntryReader {
    decoders: Decoders,
    object: Vec<u8>,
}

/// What somebody looks at of a device, besides its messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// The fields of its messages.
    pub(super) fields: bool,
    /// Its newest message.
    pub(super) newest: bool,
}

/// What an event adds to the view.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Messages and pieces, each with its object of fields, which is empty if there is none.
    pub(super) messages: Vec<(ViewEntry, Box<[u8]>)>,
    pub(super) faults: Vec<(FaultKind, ViewEntry)>,
    pub(super) others: Vec<ViewEntry>,
    pub(super) newest: Option<NewestMessage>,
}

/// The last message of an event, for a list of devices.
#[derive(Clone, Debug)]
pub(super) struct NewestMessage {
    pub(super) message: LatestMessage,
    /// Names and values of its first fields.
    pub(super) values: Vec<(String, String)>,
}

impl NewestMessage {
    /// The most that [`cost`](Self::cost) can be.
    pub(super) const COST_MAX: usize = size_of::<Self>()
        + CUT_BYTES * (TEXT_MAX + 1)
        + VALUES_MAX * (VALUE_COST + FIRST_VALUE_MAX);

    /// Its memory, in bytes.
    pub(super) fn cost(&self) -> usize {
        let values = self.values.iter();
        let values = values.map(|(name, value)| VALUE_COST + name.len() + value.len());
        size_of::<Self>() + self.message.text.len() + values.sum::<usize>()
    }
}

impl EntryReader {
    /// Reads an event.
    ///
    /// # Errors
    /// If a message has no room in memory.
    pub(super) fn read(&mut self, event: &Event, needs: Needs) -> io::Result<Reading> {
        let mut reading = Reading::default();
        match &event.kind {
            EventKind::Batch { batch, position } => {
                self.batch(event, (batch, needs), *position, &mut reading)?;
            }
            _ => {
                if let Some(note) = note(event) {
                    let mut line = Vec::new();
                    note.write(&mut line)?;
                    reading.others.push(entry(event, line, 1, &[]));
                }
            }
        }
        Ok(reading)
    }

    fn batch(
        &mut self,
        event: &Event,
        (batch, needs): (&Batch, Needs),
        mut position: StreamPosition,
        reading: &mut Reading,
    ) -> io::Result<()> {
        let lines = MessageLines::of(event)?;
        let decoder = self.decoders.of(&event.source);
        let device = &event.source.device;
        let last = batch.messages().0;
        let mut count = 0;
        for item in batch.items() {
            let seq = position.seq;
            if let Item::Message(bytes) = item {
                count += 1;
                let (mut line, mut level, mut content_at) = (Vec::new(), None, 1);
                // An undecodable message is shown with its bytes; its fault comes from the sink that counts it.
                let _ = lines.write(seq, bytes, decoder, &mut line, |meaning, at| {
                    content_at = at;
                    if let Meaning::Log(log) = meaning {
                        level = log.level().and_then(|level| level.parse().ok());
                    }
                })?;
                if PAYLOAD_MAX < bytes.len() {
                    (line, content_at) = lines.write_cut(seq, bytes, PAYLOAD_MAX)?;
                }
                let is_newest = needs.newest && count == last;
                // Each message is decoded once for its line, and again only for what somebody looks at.
                let object = match needs.fields || is_newest {
                    true => put_object(decoder, bytes, device, Dialect::Csv, &mut self.object)
                        .map_or(&[][..], |_| &self.object),
                    false => &[],
                };
                if is_newest {
                    reading.newest = Some(newest(event, seq, decoder, bytes, object));
                }
                let message = entry(event, line, content_at, bytes);
                let message = ViewEntry { level, ..message };
                reading.messages.push((message, object.into()));
            } else if let Some(note) = item_note(event, &item, &position) {
                let mut line = Vec::new();
                write_item(&note, &item, &mut line)?;
                match item {
                    Item::Piece { bytes, .. } => {
                        let piece = entry(event, line, 1, bytes);
                        reading.messages.push((piece, Box::default()));
                    }
                    Item::Fault(fault) => {
                        let fault = (FaultKind::of(&fault), entry(event, line, 1, &[]));
                        reading.faults.push(fault);
                    }
                    Item::Reset => {
                        let fault = (FaultKind::Reset, entry(event, line, 1, &[]));
                        reading.faults.push(fault);
                    }
                    _ => reading.others.push(entry(event, line, 1, &[])),
                }
            }
            position.pass(&item);
        }
        Ok(())
    }
}

fn entry(event: &Event, line: Vec<u8>, content_at: usize, payload: &[u8]) -> ViewEntry {
    let decoding = match payload.is_empty() {
        true => Decoding::Raw,
        false => Decoding::of(&event.source.encoding),
    };
    ViewEntry {
        decoding,
        device: Arc::clone(&event.source.device),
        level: None,
        line: line.into(),
        content_at,
        payload: payload.into(),
    }
}

fn newest(
    event: &Event,
    seq: u64,
    decoder: &Decoder,
    bytes: &[u8],
    object: &[u8],
) -> NewestMessage {
    let mut text = Vec::new();
    let written = write_meaning(decoder, bytes, &mut text, |meaning, to| match meaning {
        Meaning::Raw(_) => Ok(()),
        _ => Text::meaning(false, meaning, to),
    });
    if written.is_err() || text.is_empty() {
        text.clear();
        let shown = bytes.get(..4 * TEXT_MAX).unwrap_or(bytes);
        readable(shown, &mut text);
    }
    NewestMessage {
        message: LatestMessage {
            time: Time(event.time),
            seq,
            len: bytes.len() as u64,
            text: cut(&String::from_utf8_lossy(&text), TEXT_MAX),
        },
        values: first_values(object, VALUES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use blocksd_engine::event::{ConnectionInfo, Encoding};
    use framing_core::{AnyFraming, Blocks};
    use serde_json::Value;

    use super::*;
    use crate::view::samples::messages;

    fn source(encoding: &'static str) -> Arc<ConnectionInfo> {
        Arc::new(ConnectionInfo {
            conn: 7,
            device: "imu".into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: Encoding::new(encoding),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        })
    }

    fn read(encoding: &'static str, batch: Batch) -> Reading {
        let event = Event {
            source: source(encoding),
            time: SystemTime::UNIX_EPOCH,
            kind: EventKind::Batch {
                batch: Arc::new(batch),
                position: StreamPosition::default(),
            },
        };
        let all = Needs {
            fields: true,
            newest: true,
        };
        EntryReader::default().read(&event, all).expect("memory")
    }

    fn json(entry: &ViewEntry) -> Value {
        serde_json::from_slice(&entry.line).expect("JSON")
    }

    #[test]
    fn messages_have_their_fields_and_the_last_one_is_the_newest() {
        let sent: [&[u8]; 3] = [br#"{"a":1}"#, b"no json", br#"{"a":2,"b":"x","c":3,"d":4}"#];
        let reading = read("json", messages(&sent));
        let objects: Vec<_> = reading
            .messages
            .iter()
            .map(|(_, object)| &**object)
            .collect();
        assert_eq!(objects, [sent[0], b"", sent[2]]);
        for (seq, (entry, _)) in reading.messages.iter().enumerate() {
            let line = json(entry);
            assert_eq!(
                (&line["seq"], &line["len"]),
                (&seq.into(), &sent[seq].len().into())
            );
            assert_eq!(
                (&*entry.payload, entry.decoding.as_str()),
                (sent[seq], "json")
            );
            let content = entry.line.get(entry.content_at..).expect("content");
            assert!(content.starts_with(if seq == 1 {
                br#""text":"#
            } else {
                br#""value":"#
            }));
        }
        let NewestMessage { message, values } = reading.newest.expect("a message");
        assert_eq!(
            (message.seq, message.len, &*message.text),
            (2, 27, "a=2 b=\"x\" c=3 d=4")
        );
        let names: Vec<_> = values
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(names, ["a=2", "b=x", "c=3"]);
        let undecodable = read("json", messages(&[b"\x1b[2J"]))
            .newest
            .expect("a message");
        assert!(
            !undecodable.message.text.contains('\u{1b}'),
            "{undecodable:?}"
        );
        assert!(undecodable.values.is_empty());
    }

    #[test]
    fn a_newest_message_is_within_its_cost() {
        let long = format!(
            r#"{{"{0}":"{0}","b{0}":"{0}","c{0}":"{0}"}}"#,
            "\u{4e2d}".repeat(1000)
        );
        for text in [&*long, "1", ""] {
            let newest = read("json", messages(&[text.as_bytes()]))
                .newest
                .expect("a message");
            assert!(
                newest.cost() <= NewestMessage::COST_MAX,
                "{}",
                newest.cost()
            );
            assert!(newest.message.text.chars().count() <= TEXT_MAX + 1);
        }
    }

    #[test]
    fn a_long_payload_is_cut_between_characters_and_its_fields_are_whole() {
        let text = format!(r#"{{"a":7,"t":"x{}"}}"#, "\u{e9}".repeat(PAYLOAD_MAX));
        let reading = read(
            "json",
            messages(&[text.as_bytes(), &[0xff; PAYLOAD_MAX + 1]]),
        );
        let line = json(&reading.messages[0].0);
        assert_eq!(
            (&line["cut"], &line["len"]),
            (&true.into(), &text.len().into())
        );
        let shown = line["text"].as_str().expect("a text");
        assert!(
            text.starts_with(shown) && PAYLOAD_MAX - 2 < shown.len(),
            "{}",
            shown.len()
        );
        assert_eq!(&*reading.messages[0].1, text.as_bytes());
        let binary = json(&reading.messages[1].0);
        assert!(
            binary["base64"].is_string() && binary["cut"] == true,
            "{binary}"
        );
        let exact = read("json", messages(&[&[b' '; PAYLOAD_MAX]]));
        assert_eq!(json(&exact.messages[0].0).get("cut"), None);
    }

    #[test]
    fn items_that_are_no_messages_are_told_apart() {
        let piece = read("raw", Batch::of_piece(b"half".to_vec(), true, false));
        let line = json(&piece.messages[0].0);
        assert_eq!(
            (&line["event"], &line["text"]),
            (&"piece".into(), &"half".into())
        );
        assert!(piece.messages[0].1.is_empty() && piece.newest.is_none());
        let reset = read("raw", Batch::of_reset());
        let [(FaultKind::Reset, fault)] = &reset.faults[..] else {
            panic!("{reset:?}");
        };
        assert_eq!(
            (&json(fault)["event"], reset.others.len()),
            (&"fault".into(), 0)
        );
        let end = read("raw", Batch::of_end());
        assert_eq!(
            (&json(&end.others[0])["event"], end.faults.len()),
            (&"end".into(), 0)
        );
    }
}
