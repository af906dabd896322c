//! The sequence numbers of messages that are recorded as counts, or that a session does not have, or has again: a check of a
//! recording does not report them. Start with [`CHECKER`].

use serde::Deserialize as _;

use crate::payload::members;
use crate::recorded::note::Note;
use crate::recorded::to_log::channels::messages_topic;
use blocksd_recording::topic::{EVENTS_TOPIC, SESSIONS_TOPIC};
use blocksd_recording::{Checker, SequenceRange, SequenceRanges};

/// The beginning of a `suppressed` event. Only such events are parsed.
const SUPPRESSED: &[u8] = br#"{"event":"suppressed","#;

/// The beginning of an entry about a session.
const ENTRY: &[u8] = br#"{"time":"#;

/// Verifies, recovers and repairs recordings of the daemon.
pub const CHECKER: Checker<'static> = Checker::new(&NumbersWithoutMessage);

/// Empty messages that were counted in an event and have sequence numbers, and numbers of a session without a message.
#[derive(Clone, Copy, Debug)]
struct NumbersWithoutMessage;

impl SequenceRanges for NumbersWithoutMessage {
    fn range(&self, topic: Option<&str>, data: &[u8]) -> Option<SequenceRange> {
        match topic {
            Some(EVENTS_TOPIC) => Self::suppressed(data),
            Some(SESSIONS_TOPIC) => Self::entry(data),
            None => Self::suppressed(data).or_else(|| Self::entry(data)),
            Some(_) => None,
        }
    }
}

impl NumbersWithoutMessage {
    /// The numbers that a `suppressed` event counts.
    fn suppressed(data: &[u8]) -> Option<SequenceRange> {
        if !data.starts_with(SUPPRESSED) {
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
            session: None,
            len: counts.empty,
            ..SequenceRange::default()
        })
    }

    /// The numbers of a session that have no message, or a session of which earlier messages may come again.
    fn entry(data: &[u8]) -> Option<SequenceRange> {
        if !data.starts_with(ENTRY) {
            return None;
        }
        let entry = members(data);
        let text = |key: &str| entry.get(key)?.as_str();
        let number = |key: &str| text(key)?.parse::<u64>().ok();
        let (len, next) = match text("entry")? {
            "gap" => (number("to")?.checked_sub(number("from")?)?, None),
            "adopted" => (0, Some(number("next")?)),
            _ => return None,
        };
        Some(SequenceRange {
            topic: messages_topic(text("device")?),
            session: Some(text("session")?.to_owned()),
            len,
            next,
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
                certificate: None,
                stats: None,
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
            session: None,
            len: 7,
            ..SequenceRange::default()
        };
        for topic in [Some(EVENTS_TOPIC), None] {
            assert_eq!(
                NumbersWithoutMessage.range(topic, &json),
                Some(range.clone())
            );
        }
    }

    #[test]
    fn a_gap_covers_numbers_of_its_session() {
        let gap = |from: &str, to: &str| {
            format!(
                r#"{{"time":"2026-11-28T08:00:00Z","entry":"gap","device":"imu","session":"9f3a5c7711d2e4b6","from":"{from}","to":"{to}","cause":"device"}}"#
            )
        };
        let range = |topic, json: &str| NumbersWithoutMessage.range(topic, json.as_bytes());
        let want = SequenceRange {
            topic: "/device/imu/blocks".to_owned(),
            session: Some("9f3a5c7711d2e4b6".to_owned()),
            len: u64::from(u32::MAX) + 4,
            ..SequenceRange::default()
        };
        let json = gap("5", "4294967304");
        for topic in [Some(SESSIONS_TOPIC), None] {
            assert_eq!(range(topic, &json), Some(want.clone()));
        }
        for topic in [EVENTS_TOPIC, "/blocksd/sessions/unconfirmed"] {
            assert_eq!(range(Some(topic), &json), None);
        }
        assert_eq!(range(Some(SESSIONS_TOPIC), &gap("6", "5")), None);
        let session = json.replace("gap", "session");
        assert_eq!(range(Some(SESSIONS_TOPIC), &session), None);
    }

    #[test]
    fn the_numbers_of_a_session_that_was_adopted_begin_again() {
        let json = br#"{"time":"2026-11-28T08:00:00Z","entry":"adopted","device":"imu","session":"9f3a5c7711d2e4b6","next":"4"}"#;
        let want = SequenceRange {
            topic: "/device/imu/blocks".to_owned(),
            session: Some("9f3a5c7711d2e4b6".to_owned()),
            next: Some(4),
            ..SequenceRange::default()
        };
        let range = NumbersWithoutMessage.range(Some(SESSIONS_TOPIC), json);
        assert_eq!(range, Some(want));
    }

    #[test]
    fn no_other_message_covers_numbers() {
        let topic = Some(EVENTS_TOPIC);
        let json = suppressed(None);
        assert!(json.starts_with(SUPPRESSED));
        assert_eq!(NumbersWithoutMessage.range(topic, &json), None);
        let payload = suppressed(Some(3));
        let range = NumbersWithoutMessage.range(Some("/device/imu/blocks"), &payload);
        assert_eq!(range, None);
        let open = br#"{"event":"open","device":"imu","seq":3,"empty":7}"#;
        assert_eq!(NumbersWithoutMessage.range(topic, open), None);
    }
}
