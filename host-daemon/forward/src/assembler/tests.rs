//! Parts in any order: whole messages come once, what is missing is reported, and the memory is bounded.

use blocksd_recording::FileNonce;
use proptest::prelude::*;

use super::*;
use crate::fetched::Topic;
use crate::place::{Place, Seen};
use crate::stored::Stored;

const MAX: usize = 4096;

fn stored(sequence: u64, part: Option<(u64, u64)>, first: u64, body: &[u8]) -> Fetched {
    Fetched {
        sequence,
        subject: "blocksd.main.dev.d".to_owned(),
        topic: Topic::Device("d".into()),
        head: Head {
            kind: if part.is_some() {
                Kind::Part
            } else {
                Kind::Messages
            },
            instance: "00000000000000a7".parse().unwrap(),
            nonce: 7,
            place: Place {
                number: 1,
                nonce: FileNonce::of_digits("0000000000000007").unwrap(),
                messages: first,
                bytes: 0,
            },
            seen: Seen::default(),
            count: 1,
            first,
            time: 5,
            steps: Vec::new(),
            gaps: Vec::new(),
            stored: Stored::default(),
            connection: 3,
            session: None,
            framing: String::new(),
            decode: String::new(),
            part,
        },
        body: Bytes::copy_from_slice(body),
    }
}

/// The parts of a message of this length, each of at most `part` bytes.
fn parts(first: u64, len: usize, part: usize) -> Vec<Fetched> {
    let body: Vec<u8> = (0..len).map(|it| (it as u64 + first) as u8).collect();
    let chunks = body.chunks(part).enumerate();
    let part = |(index, bytes): (usize, &[u8])| {
        let offset = (index * part) as u64;
        stored(index as u64 + 1, Some((offset, len as u64)), first, bytes)
    };
    chunks.map(part).collect()
}

#[test]
fn parts_make_a_message_at_the_last_one() {
    let mut assembler = Assembler::new(MAX, false);
    let mut parts = parts(7, 1000, 300);
    let last = parts.pop().unwrap();
    for part in parts {
        let Assembled { unreadable, whole } = assembler.add(part);
        assert!(unreadable.is_none() && whole.is_none());
    }
    let whole = assembler.add(last).whole.unwrap();
    assert_eq!((whole.body.len(), whole.head.part), (1000, Some((0, 1000))));
    let messages: Vec<_> = whole.messages().collect();
    assert!(
        matches!(&messages[..], [Ok(message)] if message.number == 7 && message.data.len() == 1000)
    );
    assert!(assembler.finish().is_empty());
}

#[test]
fn a_missing_part_is_reported_once() {
    let mut assembler = Assembler::new(MAX, false);
    let mut reports = Vec::new();
    for (index, part) in parts(7, 1000, 100).into_iter().enumerate() {
        if index != 4 {
            let Assembled { unreadable, whole } = assembler.add(part);
            assert_eq!(whole, None);
            reports.extend(unreadable);
        }
    }
    let cause = UnreadableCause::Parts {
        have: 400,
        len: 1000,
    };
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0].cause, cause);
    // The next message is read.
    let next = assembler.add(stored(20, None, 8, b"\0\0\0\x01x"));
    assert!(next.whole.is_some() && next.unreadable.is_none());
    assert_eq!(assembler.bytes, 0);
}

#[test]
fn a_message_without_its_beginning_is_reported_unless_reading_begins_within_it() {
    for begins_within in [false, true] {
        let mut assembler = Assembler::new(MAX, begins_within);
        let reports: Vec<_> = parts(7, 1000, 100)
            .into_iter()
            .skip(3)
            .filter_map(|part| assembler.add(part).unreadable)
            .collect();
        assert_eq!(reports.len(), usize::from(!begins_within), "{reports:?}");
        assert!(assembler.finish().is_empty());
    }
}

#[test]
fn a_message_that_exceeds_the_memory_is_reported_once() {
    let mut assembler = Assembler::new(MAX, false);
    let mut reports = Vec::new();
    for part in parts(7, 3 * MAX, 1000) {
        reports.extend(assembler.add(part).unreadable);
        assert!(assembler.bytes <= MAX);
    }
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0].cause, UnreadableCause::TooLong { max: MAX });
}

proptest! {
    #[test]
    fn hostile_parts_neither_panic_nor_exceed_the_memory(
        all in prop::collection::vec((any::<Option<(u16, u16)>>(), 0_u64..3, 0_usize..700), 0..60)
    ) {
        let mut assembler = Assembler::new(MAX, false);
        for (sequence, (part, first, len)) in (1..).zip(all) {
            let part = part.map(|(offset, len)| (offset.into(), len.into()));
            let wanted = part.map(|(_, len)| len);
            let Assembled { whole, .. } = assembler.add(stored(sequence, part, first, &vec![0; len]));
            prop_assert!(assembler.bytes <= MAX);
            if let (Some(whole), Some(len)) = (whole, wanted) {
                prop_assert_eq!(whole.body.len() as u64, len);
            }
        }
        assembler.finish();
        prop_assert_eq!(assembler.bytes, 0);
    }

    #[test]
    fn any_division_makes_the_same_message(len in 1_usize..MAX, part in 1_usize..800) {
        let mut assembler = Assembler::new(MAX, false);
        let mut whole = None;
        for part in parts(3, len, part) {
            prop_assert_eq!(&whole, &None);
            let assembled = assembler.add(part);
            prop_assert_eq!(assembled.unreadable, None);
            whole = assembled.whole;
        }
        let body: Vec<u8> = (0..len).map(|it| (it as u64 + 3) as u8).collect();
        prop_assert_eq!(whole.map(|it| it.body.to_vec()), Some(body));
    }
}
