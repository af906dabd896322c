//! Parts in any order: whole messages come once, what is missing is reported, and the memory is bounded.

use blocksd_recording::FileNonce;
use proptest::prelude::*;

use super::*;
use crate::fetched::Topic;
use crate::place::{Place, Seen};
use crate::stored::Stored;

const SESSION: &str = "00f3a5c7711d2e4b";
const MAX: usize = 8192;

fn stored(sequence: u64, part: Option<(u64, u64)>, first: u64, body: &[u8]) -> Fetched {
    Fetched {
        sequence,
        published: 0,
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

/// Counts what is held, and checks that it is not more than the limit.
fn check_memory(assembler: &Assembler) {
    let open = assembler.open.iter();
    let costs = open.flat_map(|(subject, open)| open.iter().map(|it| it.cost(subject)));
    assert_eq!(assembler.bytes, costs.sum::<usize>());
    let counts = assembler.open.values().map(Vec::len);
    assert_eq!(assembler.by_age.len(), counts.sum::<usize>());
    assert!(assembler.bytes <= MAX, "{} bytes", assembler.bytes);
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
        assert!(unreadable.is_empty() && whole.is_none());
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
    assert!(next.whole.is_some() && next.unreadable.is_empty());
    assert_eq!(assembler.bytes, 0);
}

#[test]
fn a_message_without_its_beginning_is_reported_unless_reading_begins_within_it() {
    for begins_within in [false, true] {
        let mut assembler = Assembler::new(MAX, begins_within);
        let reports: Vec<_> = parts(7, 1000, 100)
            .into_iter()
            .skip(3)
            .flat_map(|part| assembler.add(part).unreadable)
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
        check_memory(&assembler);
    }
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0].cause, UnreadableCause::TooLong { max: MAX });
}

#[test]
fn parts_of_pieces_and_events_are_joined() {
    for kind in [Kind::Pieces, Kind::Events] {
        let mut assembler = Assembler::new(MAX, false);
        let mut whole = Vec::new();
        for mut part in parts(7, 1000, 300) {
            part.head.kind = kind;
            let assembled = assembler.add(part);
            assert_eq!(assembled.unreadable, []);
            whole.extend(assembled.whole);
        }
        assert_eq!((whole.len(), whole[0].body.len()), (1, 1000));
        let messages: Vec<_> = whole[0].messages().map(Result::unwrap).collect();
        assert_eq!((messages.len(), messages[0].data.len()), (1, 1000));
    }
}

#[test]
fn unfinished_messages_of_many_subjects_give_way_to_newer_ones() {
    const COUNT: u64 = 50;
    let mut assembler = Assembler::new(MAX, false);
    let mut reports = Vec::new();
    for sequence in 1..=COUNT {
        let mut first = stored(sequence, Some((0, 9)), 7, b"abc");
        first.subject = format!("blocksd.main.dev.{sequence}");
        reports.extend(assembler.add(first).unreadable);
        check_memory(&assembler);
    }
    let dropped: Vec<_> = reports.iter().map(|it| it.sequence).collect();
    let left = assembler.finish();
    assert!(!left.is_empty());
    // Each is reported once, the oldest first.
    let all: Vec<_> = dropped
        .iter()
        .copied()
        .chain(left.iter().map(|it| it.sequence))
        .collect();
    assert_eq!(all, (1..=COUNT).collect::<Vec<_>>());
    let cause = UnreadableCause::TooLong { max: MAX };
    assert!(reports.iter().all(|it| it.cause == cause), "{reports:?}");
}

#[test]
fn a_subject_has_few_unfinished_messages() {
    let mut assembler = Assembler::new(1 << 20, false);
    let mut reports = Vec::new();
    for sequence in 1..=40 {
        let mut first = stored(sequence, Some((0, 9)), 7, b"abc");
        first.head.instance = format!("{sequence:016x}").parse().unwrap();
        reports.extend(assembler.add(first).unreadable);
    }
    assert_eq!((reports.len(), assembler.by_age.len()), (24, SUBJECT_MAX));
}

#[test]
fn a_message_that_another_daemon_has_stored_is_not_reported() {
    // The message is stored by another recording, whole or in parts, before the recording of the part goes on or not.
    for (stores_in_parts, goes_on, is_stored) in [
        (false, false, true),
        (false, true, true),
        (true, false, true),
        (true, true, true),
        (false, false, false),
        (true, true, false),
    ] {
        let mut assembler = Assembler::new(MAX, false);
        let mut reports = Vec::new();
        let mut whole = Vec::new();
        let mut other = match stores_in_parts {
            true => parts(7, 6, 3),
            false => vec![stored(2, None, 7, b"\0\0\0\x06abcdef")],
        };
        let mut stream = vec![stored(1, Some((0, 6)), 7, b"abc")];
        for it in &mut other {
            it.head.instance = "00000000000000b8".parse().unwrap();
        }
        stream.extend(other);
        if goes_on {
            stream.push(stored(9, None, 8, b"\0\0\0\x01x"));
        }
        for (sequence, mut it) in (1..).zip(stream) {
            it.sequence = sequence;
            it.head.session = Some(SESSION.to_owned());
            if it.head.part.is_none_or(|(offset, _)| offset == 3) {
                let last = it.head.first + 1;
                it.head
                    .stored
                    .note(SESSION, if is_stored { 7 } else { 8 }, last.max(9));
            }
            let assembled = assembler.add(it);
            reports.extend(assembled.unreadable);
            whole.extend(assembled.whole);
        }
        reports.extend(assembler.finish());
        assert_eq!(whole.len(), if goes_on { 2 } else { 1 });
        assert_eq!(reports.len(), usize::from(!is_stored), "{reports:?}");
    }
}

#[test]
fn each_message_without_its_beginning_is_reported() {
    let mut assembler = Assembler::new(MAX, false);
    let mut reports = Vec::new();
    for first in [7, 8, 9] {
        for part in parts(first, 1000, 100).into_iter().skip(2).take(3) {
            reports.extend(assembler.add(part).unreadable);
        }
    }
    let cause = UnreadableCause::NoBeginning { offset: 200 };
    assert_eq!(reports.len(), 3, "{reports:?}");
    assert!(reports.iter().all(|it| it.cause == cause), "{reports:?}");
}

/// What comes of these messages of a stream: what is whole, and what is reported.
fn read(stream: impl IntoIterator<Item = Fetched>) -> (Vec<Fetched>, Vec<Unreadable>) {
    let mut assembler = Assembler::new(MAX, false);
    let (mut whole, mut reports) = (Vec::new(), Vec::new());
    for (sequence, mut it) in (1..).zip(stream) {
        it.sequence = sequence;
        let assembled = assembler.add(it);
        check_memory(&assembler);
        whole.extend(assembled.whole);
        reports.extend(assembled.unreadable);
    }
    reports.extend(assembler.finish());
    (whole, reports)
}

#[test]
fn parts_that_come_again_make_one_message() {
    let of = |kind, part: usize| {
        let mut parts = parts(7, 1000, part);
        let count = parts.len();
        for (index, part) in (1..).zip(&mut parts) {
            part.head.kind = kind;
            if index == count {
                part.head.place.messages += 1;
            }
        }
        parts
    };
    let body = parts(7, 1000, 1000).remove(0).body;
    for kind in [Kind::Part, Kind::Pieces] {
        let (all, others) = (of(kind, 100), of(kind, 250));
        // The stream has lost what came after these parts, or everything; the parts may be others then.
        for kept in [0, 1, 3, 5] {
            let again = all[..6].iter().chain(&all[kept..]);
            let (whole, reports) = read(again.cloned());
            assert_eq!(reports, [], "{kept}");
            assert!(whole.len() == 1 && whole[0].body == body, "{kept}");
        }
        for kept in [0, 1, 2] {
            let again = all[..6].iter().chain(&others[kept..]);
            let (whole, reports) = read(again.cloned());
            assert_eq!(reports, [], "{kept}");
            assert!(whole.len() == 1 && whole[0].body == body, "{kept}");
        }
    }
    // Those of another message, or of another piece, do not go on with it.
    for kind in [Kind::Part, Kind::Pieces] {
        let mut other = of(kind, 100);
        for it in &mut other {
            it.head.place.messages += 5;
            it.head.first += u64::from(kind == Kind::Part);
        }
        let (whole, reports) = read(of(kind, 100).into_iter().take(6).chain(other));
        let cause = UnreadableCause::Parts {
            have: 600,
            len: 1000,
        };
        assert_eq!(whole.len(), 1);
        assert!(
            reports.len() == 1 && reports[0].cause == cause,
            "{reports:?}"
        );
    }
}

#[test]
fn a_message_that_comes_whole_after_some_of_its_parts_is_not_reported() {
    let part = || stored(1, Some((0, 6)), 7, b"abc");
    let whole = stored(2, None, 7, b"\0\0\0\x06abcdef");
    let (read_whole, reports) = read([part(), whole.clone()]);
    assert_eq!((read_whole.len(), reports), (1, Vec::new()));
    // Another message is not taken for it.
    let other = |change: fn(&mut Fetched)| {
        let mut other = whole.clone();
        change(&mut other);
        read([part(), other]).1.len()
    };
    let reports = [
        other(|it| it.head.first = 8),
        other(|it| it.head.time = 6),
        other(|it| it.head.connection = 4),
        other(|it| it.head.session = Some(SESSION.to_owned())),
        other(|it| it.body = Bytes::from_static(b"\0\0\0\x01a")),
    ];
    assert_eq!(reports, [1; 5]);
}

#[test]
fn the_last_parts_of_a_message_that_was_read_are_not_reported_after_the_stream_went_back() {
    for goes_back in [false, true] {
        let mut assembler = Assembler::new(MAX, false);
        let mut all = parts(7, 1000, 300);
        let whole: Vec<_> = all
            .iter()
            .filter_map(|it| assembler.add(it.clone()).whole)
            .collect();
        assert_eq!(whole.len(), 1);
        if goes_back {
            assembler.note_gone_back();
        }
        let again = all.split_off(2).into_iter();
        let reports: Vec<_> = again.flat_map(|it| assembler.add(it).unreadable).collect();
        assert_eq!(reports.len(), usize::from(!goes_back), "{reports:?}");
    }
}

proptest! {
    #[test]
    fn hostile_parts_neither_panic_nor_exceed_the_memory(
        all in prop::collection::vec(
            (prop::option::of((0_u16..900, 0_u16..9000)), 0_u64..3, (0_u8..30, 0_u8..3), 0_usize..700), 0..120
        )
    ) {
        let mut assembler = Assembler::new(MAX, false);
        for (sequence, (part, first, (instance, subject), len)) in (1..).zip(all) {
            let part = part.map(|(offset, len)| (offset.into(), len.into()));
            let wanted = part.map(|(_, len)| len);
            let mut part = stored(sequence, part, first, &vec![0; len]);
            part.head.instance = format!("{instance:016x}").parse().unwrap();
            part.subject = format!("blocksd.main.dev.{subject}");
            part.head.session = Some(SESSION.to_owned());
            if first == 2 {
                part.head.stored.note(SESSION, 0, 2);
            }
            let Assembled { whole, .. } = assembler.add(part);
            check_memory(&assembler);
            if let (Some(whole), Some(len)) = (whole, wanted) {
                prop_assert_eq!(whole.body.len() as u64, len);
            }
        }
        assembler.finish();
        prop_assert_eq!(assembler.bytes, 0);
    }

    #[test]
    fn any_division_makes_the_same_message(len in 1_usize..MAX - 2 * ENTRY, part in 1_usize..800) {
        let mut assembler = Assembler::new(MAX, false);
        let mut whole = None;
        for part in parts(3, len, part) {
            prop_assert_eq!(&whole, &None);
            let assembled = assembler.add(part);
            prop_assert_eq!(assembled.unreadable, vec![]);
            whole = assembled.whole;
        }
        let body: Vec<u8> = (0..len).map(|it| (it as u64 + 3) as u8).collect();
        prop_assert_eq!(whole.map(|it| it.body.to_vec()), Some(body));
    }
}
