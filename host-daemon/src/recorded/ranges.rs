//! The sequence numbers of suppressed messages: a check of a recording does not report them as missing. Start with
//! [`CHECKER`].

use serde::Deserialize as _;

use crate::payload::members;
use crate::recorded::note::Note;
use crate::recorded::to_log::messages_topic;
use blocksd_recording::topic::EVENTS_TOPIC;
use blocksd_recording::{Checker, SequenceRange, SequenceRanges};

/// The beginning of a `suppressed` event. Only such events are parsed.
const SUPPRESSED: &[u8] = br#"{"event":"suppressed","#;

/// Verifies, recovers and repairs recordings of the daemon.
pub const CHECKER: Checker<'static> = Checker::new(&SuppressedMessages);

/// Empty messages that were counted in an event and have sequence numbers.
#[derive(Clone, Copy, Debug)]
struct SuppressedMessages;

impl SequenceRanges for SuppressedMessages {
    fn range(&self, topic: Option<&str>, data: &[u8]) -> Option<SequenceRange> {
        if topic.is_some_and(|topic| topic != EVENTS_TOPIC) || !data.starts_with(SUPPRESSED) {
            return None;
        }
        let Ok(Note::Suppressed { head, counts }) = Note::deserialize(&members(data)) else {
            return None;
        };
        let device = head
            .origin
            .device
            .as_deref()
            .filter(|_| head.seq.is_some())?;
        Some(SequenceRange {
            topic: messages_topic(device),
            len: counts.empty,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use framing_core::{AnyFraming, Blocks};

    use super::*;
    use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, Suppressed};

    fn suppressed(seq: Option<u64>) -> Vec<u8> {
        let now = SystemTime::now();
        let sums = Suppressed {
            seq,
            empty: 7,
            ..Suppressed::since(now)
        };
        let event = Event {
            source: Arc::new(ConnectionInfo {
                conn: 1,
                device: "imu".into(),
                framing: AnyFraming::Blocks(Blocks),
                encoding: Encoding::default(),
                first_seq: 0,
                session: None,
            }),
            time: now,
            kind: EventKind::Suppressed(Box::new(sums.clone())),
        };
        let mut json = Vec::new();
        Note::suppressed(&event, &sums).write(&mut json).unwrap();
        json
    }

    #[test]
    fn an_event_with_a_number_covers_the_numbers_of_empty_messages() {
        let json = suppressed(Some(3));
        let range = SequenceRange {
            topic: "/device/imu/blocks".to_owned(),
            len: 7,
        };
        for topic in [Some(EVENTS_TOPIC), None] {
            assert_eq!(SuppressedMessages.range(topic, &json), Some(range.clone()));
        }
    }

    #[test]
    fn no_other_message_covers_numbers() {
        let topic = Some(EVENTS_TOPIC);
        let json = suppressed(None);
        assert!(json.starts_with(SUPPRESSED));
        assert_eq!(SuppressedMessages.range(topic, &json), None);
        let payload = suppressed(Some(3));
        let range = SuppressedMessages.range(Some("/device/imu/blocks"), &payload);
        assert_eq!(range, None);
        let open = br#"{"event":"open","device":"imu","seq":3,"empty":7}"#;
        assert_eq!(SuppressedMessages.range(topic, open), None);
    }
}
