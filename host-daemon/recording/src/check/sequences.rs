//! The next sequence number in each topic of a device, for `verify` and `recover`. Start with `Sequences::take`.

use std::collections::HashMap;

use serde_json::Value;

use crate::format::record::{DEVICE, Kind, UNKNOWN_TOPIC};

/// What the event begins with that gives empty messages as a number.
const SUPPRESSED: &[u8] = br#"{"event":"suppressed","#;

/// The next number in each topic. Two channels of a device may share a topic.
#[derive(Debug, Default)]
pub(super) struct Sequences(HashMap<String, u32>);

impl Sequences {
    /// Takes the next message of a topic. Returns the number that it should have, if it has another. `is_ours`: the
    /// daemon wrote the file.
    pub(super) fn take(
        &mut self,
        topic: &str,
        sequence: u32,
        data: &[u8],
        is_ours: bool,
    ) -> Option<u32> {
        match Kind::of(topic) {
            Kind::Events => self.event(data),
            Kind::Blocks | Kind::Pieces if is_ours => {
                let want = self.message(topic, sequence);
                return (want != sequence).then_some(want);
            }
            _ if topic.starts_with(UNKNOWN_TOPIC) => self.unknown(data),
            _ => {}
        }
        None
    }

    /// Takes the next message of a topic; returns the number that it should have.
    fn message(&mut self, topic: &str, sequence: u32) -> u32 {
        let following = sequence.wrapping_add(1);
        match self.0.get_mut(topic) {
            Some(next) => std::mem::replace(next, following),
            None => {
                self.0.insert(topic.to_owned(), following);
                sequence
            }
        }
    }

    /// Takes note that messages may be missing.
    pub(super) fn gap(&mut self) {
        self.0.clear();
    }

    /// Takes a message of a channel that was lost: it may be an event, or payload that looks like one.
    fn unknown(&mut self, data: &[u8]) {
        if data.starts_with(SUPPRESSED) {
            self.gap();
        }
    }

    /// Takes an event: empty messages that were not recorded one by one have sequence numbers, too.
    fn event(&mut self, json: &[u8]) {
        if !json.starts_with(SUPPRESSED) {
            return;
        }
        let json: Value = serde_json::from_slice(json).unwrap_or_default();
        let number = |key| json.get(key).and_then(Value::as_u64);
        let device = json.get("device").and_then(Value::as_str);
        let (Some(device), Some(_), Some(empty)) = (device, number("seq"), number("empty")) else {
            return;
        };
        if let Some(next) = self.0.get_mut(&format!("{DEVICE}{device}/blocks")) {
            // In 32 bits, like the numbers themselves.
            *next = next.wrapping_add(empty as u32);
        }
    }
}
