//! Batches decoded from wire bytes.

use framing_core::{Blocks, Framing};

use crate::batch::*;
use crate::event::StreamPosition;

const LIMITS: Limits = Limits {
    block_max: 4,
    skip_max: 100,
};

fn decode(wire: &[u8], policy: ClosePolicy) -> Decoded {
    let mut decoder = framing_core::AnyFraming::Blocks(Blocks).decoder();
    Batch::decode(
        Buffer::own(wire.to_vec()),
        &mut decoder,
        &LIMITS,
        policy,
        WholeMessages::Kept,
        &mut false,
    )
}

#[test]
fn items_come_in_the_order_of_the_stream() {
    let wire = b"\0\0\0\x01a\0\0\0\0\0\0\0\x05large\0\0\0\x01b\0\0\0\x01c\0\0\0\x02r";
    let Decoded {
        batch, used, stop, ..
    } = decode(wire, ClosePolicy::default());
    let too_long = Fault::TooLong {
        declared: Some(5),
        limit: 4,
        lost: false,
    };
    let want = [
        Item::Message(b"a"),
        Item::End,
        Item::Fault(too_long),
        Item::Message(b"b"),
        Item::Message(b"c"),
    ];
    assert_eq!(batch.items().collect::<Vec<_>>(), want);
    assert_eq!(batch.messages(), (3, 3));
    assert_eq!(batch.rest(used), b"r");
    assert_eq!(stop, None);
}

#[test]
fn counted_messages_give_the_same_totals_as_kept_ones() {
    let wire = b"\0\0\0\x01a\0\0\0\x02bc\0\0\0\0\0\0\0\x05large\0\0\0\x01d\0\0\0\x02r";
    let kept = decode(wire, ClosePolicy::default());
    let counted = Batch::decode(
        Buffer::own(wire.to_vec()),
        &mut framing_core::AnyFraming::Blocks(Blocks).decoder(),
        &LIMITS,
        ClosePolicy::default(),
        WholeMessages::Counted,
        &mut false,
    );
    let passed = |decoded: &Decoded| {
        let mut position = StreamPosition::default();
        position.pass_all(&decoded.batch);
        (position.seq, position.in_series, position.offset)
    };
    assert_eq!(passed(&kept), (3, 1, 0));
    assert_eq!(passed(&counted), passed(&kept));
    assert_eq!(counted.batch.messages(), (3, 4));
    assert_eq!(kept.batch.messages(), (3, 4));
    assert_eq!(counted.used, kept.used);
    assert_eq!(counted.batch.items().count(), 2);
    assert!(!counted.batch.is_empty());
}

#[test]
fn the_scan_stops_after_an_item_that_closes_the_connection() {
    let policy = ClosePolicy {
        at_end: true,
        oversize: OversizePolicy::Close,
    };
    let Decoded {
        batch, used, stop, ..
    } = decode(b"\0\0\0\0\0\0\0\x01a", policy);
    assert_eq!(
        (batch.items().collect::<Vec<_>>(), used),
        (vec![Item::End], 4)
    );
    assert_eq!(stop, Some(CloseCause::End));
    let Decoded { used, stop, .. } = decode(b"\0\0\0\x05large", policy);
    assert_eq!((used, stop), (4, Some(CloseCause::TooLong)));
    let Decoded { stop, .. } = decode(b"\0\0\0\xffx", ClosePolicy::default());
    assert_eq!(stop, Some(CloseCause::TooLong), "too long to skip");
}

#[test]
fn an_oversize_message_is_streamed_between_complete_ones() {
    let policy = ClosePolicy {
        at_end: true,
        oversize: OversizePolicy::Stream,
    };
    let wire = b"\0\0\0\x01a\0\0\0\x05large\0\0\0\x01b";
    let Decoded { batch, used, .. } = decode(wire, policy);
    let piece = Item::Piece {
        bytes: b"large",
        first: true,
        last: true,
        truncated: false,
    };
    let want = [Item::Message(b"a"), piece, Item::Message(b"b")];
    assert_eq!(batch.items().collect::<Vec<_>>(), want);
    assert_eq!(used, wire.len());
}

#[test]
fn a_window_with_very_many_marks_is_decoded_in_parts() {
    let found = decode(&vec![0; (MARKS_MAX + 10) * 4], ClosePolicy::default());
    assert_eq!((found.used, found.full), (MARKS_MAX * 4, true));
    let found = decode(found.batch.rest(found.used), ClosePolicy::default());
    assert_eq!((found.batch.items().count(), found.full), (10, false));
}

#[test]
fn a_fault_ends_a_streamed_message_and_the_next_is_complete() {
    let mut decoder = framing_core::AnyFraming::Cobs(framing_core::Cobs).decoder();
    let policy = ClosePolicy {
        at_end: true,
        oversize: OversizePolicy::Stream,
    };
    let mut streaming = false;
    let mut decode = |wire: &[u8]| {
        Batch::decode(
            Buffer::own(wire.to_vec()),
            &mut decoder,
            &LIMITS,
            policy,
            WholeMessages::Kept,
            &mut streaming,
        )
    };
    // A COBS group of nine bytes that ends after six, then a complete message, then half of one.
    let decoded = decode(b"\x0aabcdef\0\x02x\0\x03y");
    let kinds: Vec<_> = decoded.batch.items().collect();
    assert!(
        matches!(kinds[..], [.., Item::Fault(_), Item::Message(b"x")]),
        "{kinds:?}"
    );
    let decoded = decode(b"\x03yz\0");
    assert_eq!(
        decoded.batch.items().collect::<Vec<_>>(),
        [Item::Message(b"yz")]
    );
}
