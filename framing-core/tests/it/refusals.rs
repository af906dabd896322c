//! A message that cannot be sent is refused before its first byte is written, and the writer continues.

use framing_core::{
    AnyFraming, Blocks, Delimited, Framing, Length, Lines, Refusal, SendError, Sender, U8, U16,
    blocking, encode,
};
use framing_core_testing::drive::wire_of;
use framing_core_testing::link::{Broken, Sink, Upset};
use framing_core_testing::messages::{message, specs_of};
use framing_core_testing::samples::Give;
use framing_core_testing::{concrete, concrete_in_pieces};
use proptest::prelude::*;

#[test]
fn an_empty_message_is_refused_where_it_has_another_meaning() {
    refused("blocks", b"", Refusal::Empty);
    refused("octet-counted", b"", Refusal::Empty);
}

#[test]
fn a_message_longer_than_its_header_can_hold_is_refused() {
    let long = vec![7; 65_536];
    refused(
        "length:u8",
        &long[..256],
        Refusal::TooLong { len: 256, max: 255 },
    );
    refused(
        "length:u16",
        &long,
        Refusal::TooLong {
            len: 65_536,
            max: 65_535,
        },
    );
    refused(
        "length:u16le",
        &long,
        Refusal::TooLong {
            len: 65_536,
            max: 65_535,
        },
    );
    let longest = Give::Message(long[..65_535].to_vec());
    assert_eq!(wire_of(Length::<U16>::new(), &[longest]).len(), 65_537);
    let longest = Give::Message(long[..255].to_vec());
    assert_eq!(wire_of(Length::<U8>::new(), &[longest]).len(), 256);
}

#[test]
fn a_message_without_the_fixed_length_is_refused() {
    for wrong in [&b""[..], b"abc", b"abcde"] {
        let len = u32::try_from(wrong.len()).expect("a short message");
        refused("fixed:4", wrong, Refusal::WrongLength { len, want: 4 });
    }
}

#[test]
fn a_payload_with_the_delimiter_is_refused_at_the_delimiters_last_byte() {
    refused("lines", b"a\nb", Refusal::Delimiter { offset: 1 });
    refused("lines", b"ab\n", Refusal::Delimiter { offset: 2 });
    refused("delimited:00", b"a\0", Refusal::Delimiter { offset: 1 });
    refused(
        "delimited:0d0a",
        b"a\r\r\nb",
        Refusal::Delimiter { offset: 3 },
    );
    refused("delimited:6161", b"baab", Refusal::Delimiter { offset: 2 });
    refused(
        "delimited:616162",
        b"aaaab",
        Refusal::Delimiter { offset: 4 },
    );
}

#[test]
fn a_payload_that_would_form_its_delimiter_too_early_is_refused() {
    refused("delimited:6161", b"xa", Refusal::Delimiter { offset: 2 });
    refused(
        "delimited:61616161",
        b"xaa",
        Refusal::Delimiter { offset: 3 },
    );
    refused("delimited:616261", b"xab", Refusal::Delimiter { offset: 3 });
}

#[test]
fn a_line_that_ends_in_a_carriage_return_is_refused() {
    refused("lines", b"\r", Refusal::Delimiter { offset: 1 });
    refused("lines", b"a\rb\r", Refusal::Delimiter { offset: 4 });
}

#[test]
fn parts_and_pieces_are_refused_like_the_whole_message() {
    for (spec, payload, offset) in [
        ("lines", &b"a\nb"[..], 1),
        ("lines", b"ab\r", 3),
        ("delimited:0d0a", b"a\r\nb", 2),
        ("delimited:616162", b"aaaab", 4),
        ("delimited:6161", b"xa", 2),
    ] {
        for first in 0..=payload.len() {
            for second in first..=payload.len() {
                let parts = [
                    &payload[..first],
                    &payload[first..second],
                    &payload[second..],
                ];
                let mut writer = blocking::Writer::new(Sink::new(9), parse(spec));
                let refusal = Err(SendError::Refused(Refusal::Delimiter { offset }));
                assert_eq!(writer.send_parts(&parts), refusal, "{spec} in {parts:?}");
                assert_eq!(writer.io_mut().calls(), 0);

                // For a piece, the figure counts from the piece, and earlier pieces are already sent.
                writer
                    .begin(payload.len().try_into().unwrap())
                    .expect("any length");
                let mut sent = 0;
                let pieces = parts.iter().filter(|piece| !piece.is_empty());
                let refused = pieces.copied().find_map(|piece| {
                    let result = writer.send_piece(piece).err();
                    sent += if result.is_none() { piece.len() } else { 0 };
                    result
                });
                let offset = offset - sent;
                let refusal = SendError::Refused(Refusal::Delimiter { offset });
                assert_eq!(refused, Some(refusal), "{spec} in {parts:?}");
                assert_eq!(writer.io_mut().wire(), &payload[..sent]);
                assert_eq!(writer.is_mid_block(), sent != 0);
            }
        }
    }
}

#[test]
fn a_refused_message_leaves_no_trace_in_the_next_one() {
    let mut writer = blocking::Writer::new(Sink::new(9), parse("delimited:6161"));
    assert!(writer.send(b"xa").is_err());
    writer.begin(2).expect("any length");
    writer.resume(&[]).expect("nothing to write yet");
    writer.send_piece(b"ab").expect("no delimiter in it");
    assert!(writer.send_parts(&[b"x", b"a"]).is_err());
    writer.send(b"ax").expect("no delimiter in it");
    assert_eq!(writer.into_io().wire(), b"abaaaxaa");
}

#[test]
fn a_message_writes_nothing_before_its_first_piece() {
    for spec in specs_of(8) {
        let payload = message(&spec, 8);
        concrete_in_pieces!(parse(&spec), framing => {
            let mut writer = blocking::Writer::new(Sink::new(3), framing);
            writer.begin(8).expect("a good length");
            writer.resume(&[]).expect("nothing to write yet");
            assert_eq!((writer.io_mut().calls(), writer.is_mid_block()), (0, false), "{spec}");
            writer.send_piece(&payload).expect("a good piece");
            assert_eq!(writer.into_io().wire(), wire_of(framing, &[Give::Message(payload.clone())]), "{spec}");
        });
    }
}

#[test]
fn a_piece_that_does_not_belong_is_refused() {
    for spec in specs_of(8) {
        let payload = message(&spec, 8);
        let overrun = |len, left| Err(SendError::Refused(Refusal::Overrun { len, left }));
        let mut writer = blocking::Writer::new(Sink::new(3), parse(&spec));
        assert_eq!(
            writer.send_piece(b"b"),
            overrun(1, 0),
            "{spec}: before a message"
        );
        assert_eq!(
            writer.resume(&[b"b"]),
            overrun(1, 0),
            "{spec}: before a message"
        );
        writer.begin(8).expect("a good length");
        assert_eq!(
            writer.send_piece(&[b'b'; 9]),
            overrun(9, 8),
            "{spec}: too long"
        );
        writer.send_piece(&payload[..5]).expect("a good piece");
        assert_eq!(
            writer.send_piece(&[b'b'; 4]),
            overrun(4, 3),
            "{spec}: too long"
        );
        assert_eq!(
            writer.resume(&[b"b"]),
            overrun(1, 3),
            "{spec}: not that piece"
        );
        writer.send_piece(&payload[5..]).expect("a good piece");
        assert_eq!(
            writer.send_piece(b"b"),
            overrun(1, 0),
            "{spec}: after a message"
        );
        assert_eq!(
            writer.resume(&[&payload[5..]]),
            overrun(3, 0),
            "{spec}: no message is open"
        );
        let want = wire_of(parse(&spec), &[Give::Message(payload)]);
        assert_eq!(writer.into_io().wire(), want, "{spec}");
    }
}

#[test]
fn a_piece_is_refused_until_the_previous_one_is_written() {
    for spec in specs_of(1400) {
        concrete_in_pieces!(parse(&spec), framing => {
            let payload = message(&spec, 1400);
            if payload.len() < 1400 {
                continue;
            }
            let sink = Sink::new(5).upset(1, Upset::Error);
            let mut writer = blocking::Writer::new(sink, framing);
            writer.begin(1400).expect("a good length");
            let (first, second) = payload.split_at(1000);
            assert_eq!(writer.send_piece(first), Err(SendError::Io(Broken)), "{spec}");
            let refused = writer.send_piece(second);
            assert!(
                matches!(refused, Err(SendError::Refused(Refusal::Unfinished { left: 400.. }))),
                "{spec}: {refused:?}"
            );
            let overrun = writer.resume(&[second]);
            assert!(matches!(overrun, Err(SendError::Refused(Refusal::Overrun { .. }))), "{spec}");
            writer.resume(&[first]).expect("a good transport by now");
            writer.send_piece(second).expect("a good transport by now");
            let want = wire_of(framing, &[Give::Message(payload)]);
            assert_eq!(writer.into_io().wire(), want, "{spec}");
        });
    }
}

#[test]
fn a_piece_is_refused_while_the_previous_one_is_only_staged() {
    let sink = Sink::new(9).upset(0, Upset::Error);
    let mut writer = blocking::Writer::new(sink, Blocks);
    writer.begin(10).expect("a good length");
    assert_eq!(writer.send_piece(b"first"), Err(SendError::Io(Broken)));
    let unfinished = Err(SendError::Refused(Refusal::Unfinished { left: 10 }));
    assert_eq!(writer.send_piece(b"other"), unfinished);
    writer.resume(&[b"first"]).expect("a good transport by now");
    writer.send_piece(b"other").expect("a good piece");
    assert_eq!(writer.into_io().wire(), b"\0\0\0\x0afirstother");
}

#[test]
fn a_refused_message_or_piece_leaves_no_trace_in_the_open_message() {
    let mut writer = blocking::Writer::new(Sink::new(9), parse("delimited:6161"));
    let delimiter = |offset| Err(SendError::Refused(Refusal::Delimiter { offset }));
    writer.begin(3).expect("any length");
    writer.send_piece(b"b").expect("no delimiter in it");
    assert_eq!(
        writer.send_piece(b"ba"),
        delimiter(2),
        "completes the delimiter with the following bytes"
    );
    assert_eq!(
        writer.send_piece(b"ab"),
        Ok(()),
        "in place of the refused piece"
    );

    writer.begin(4).expect("any length");
    writer.send_piece(b"xa").expect("no delimiter in it");
    let unfinished = Err(SendError::Refused(Refusal::Unfinished { left: 2 }));
    assert_eq!(writer.send(b"b"), unfinished);
    assert_eq!(
        writer.send_piece(b"ab"),
        delimiter(0),
        "completes the delimiter with the sent bytes"
    );
    assert_eq!(writer.send_piece(b"bb"), Ok(()));
    assert_eq!(writer.into_io().wire(), b"babaaxabbaa");
}

#[test]
fn a_taken_piece_cannot_be_discarded_even_if_none_of_it_is_written() {
    let mut writer = blocking::Writer::new(Sink::new(9), parse("cobs"));
    writer.begin(4).expect("any length");
    writer.send_piece(b"ab").expect("a good piece");
    assert_eq!(writer.io_mut().calls(), 0, "its group may continue");
    assert!(writer.is_mid_block());
    let unfinished = Err(SendError::Refused(Refusal::Unfinished { left: 2 }));
    assert_eq!(writer.send(b"other"), unfinished);
    assert_eq!(writer.begin(1), unfinished);
    assert_eq!(writer.finish(), unfinished);
    writer.send_piece(b"cd").expect("a good piece");
    assert_eq!(writer.into_io().wire(), b"\x05abcd\0");
}

#[test]
fn an_unfinished_message_reports_how_much_is_missing() {
    let sink = Sink::new(100).upset(1, Upset::Error);
    let mut writer = blocking::Writer::new(sink, Blocks);
    // The first write takes 16 bytes: the header and 12 bytes of the payload.
    assert_eq!(writer.send(&[1; 200]), Err(SendError::Io(Broken)));
    assert_eq!(
        writer.send(b"a"),
        Err(SendError::Refused(Refusal::Unfinished { left: 188 }))
    );
    assert_eq!(
        writer.finish(),
        Err(SendError::Refused(Refusal::Unfinished { left: 188 }))
    );
}

#[test]
fn a_message_without_a_written_byte_may_be_replaced() {
    for spec in specs_of(8) {
        let payload = message(&spec, 8);
        let sink = Sink::new(3).upset(0, Upset::Error);
        let mut writer = blocking::Writer::new(sink, parse(&spec));
        assert_eq!(
            writer.send(&message(&spec, 8)),
            Err(SendError::Io(Broken)),
            "{spec}"
        );
        assert!(!writer.is_mid_block());
        // A refusal in between does not affect what can be resumed.
        if spec == "lines" {
            assert!(writer.send(b"a\n").is_err());
        }
        writer.begin(8).expect("a good length");
        writer.send(&payload).expect("a good message");
        let want = wire_of(parse(&spec), &[Give::Message(payload)]);
        assert_eq!(writer.into_io().wire(), want, "{spec}");
    }
}

#[test]
fn an_empty_first_piece_begins_a_message_only_in_framings_with_a_header() {
    for spec in specs_of(8) {
        concrete_in_pieces!(parse(&spec), framing => {
            let payload = message(&spec, 8);
            let mut writer = blocking::Writer::new(Sink::new(3), framing);
            writer.begin(8).expect("a good length");
            writer.send_piece(b"").expect("a good piece");
            let no_header = ["stream", "fixed", "lines", "delimited", "cobs"];
            let has_header = !no_header.iter().any(|name| spec.starts_with(name));
            assert_eq!(writer.is_mid_block(), has_header, "{spec}");
            let unfinished = SendError::Refused(Refusal::Unfinished { left: 8 });
            let other = writer.send(&payload);
            assert_eq!(other, if has_header { Err(unfinished) } else { Ok(()) }, "{spec}");
            if has_header {
                writer.send_piece(&payload).expect("the rest");
            } else {
                writer.begin(8).expect("a good length");
                writer.send_piece(b"").expect("a good piece");
                writer.send_piece(&payload[..3]).expect("a good piece");
                writer.send_piece(&payload[3..]).expect("the rest");
            }
            let count = if has_header { 1 } else { 2 };
            let want = wire_of(framing, &vec![Give::Message(payload); count]);
            assert_eq!(writer.into_io().wire(), want, "{spec}");
        });
    }
}

#[test]
fn a_sender_with_nothing_begun_has_nothing_to_write() {
    for spec in specs_of(8) {
        let payload = message(&spec, 8);
        let mut sender = Sender::new(parse(&spec));
        assert_eq!(sender.chunk(&payload[..]), b"", "{spec}");
        sender.begin_whole(&payload[..]).expect("a good message");
        while let len @ 1.. = sender.chunk(&payload[..]).len() {
            sender.advance(len);
        }
        let longer = [&payload[..], b"more"].concat();
        assert_eq!(sender.chunk(&longer[..]), b"", "{spec}: after a message");
    }
}

#[test]
fn a_payload_shorter_than_the_one_begun_does_not_end_the_message() {
    for spec in ["blocks", "fixed:100", "netstring", "lines", "cobs"] {
        concrete!(parse(spec), framing => {
            let payload = [b'x'; 100];
            let mut sender = Sender::new(framing);
            sender.begin_whole(&payload).expect("a good message");
            let mut wire = Vec::new();
            for given in [&payload[..40], &payload] {
                loop {
                    let chunk = sender.chunk(given);
                    if chunk.is_empty() {
                        break;
                    }
                    wire.extend_from_slice(chunk);
                    let len = chunk.len();
                    sender.advance(len);
                }
                assert_eq!(sender.is_mid_block(), given.len() < 100 && spec != "cobs", "{spec}");
            }
            assert_eq!(wire, wire_of(framing, &[Give::Message(payload.to_vec())]), "{spec}");
        });
    }
}

#[test]
fn a_sender_returns_the_same_chunk_until_it_is_taken() {
    let mut sender = Sender::new(Blocks);
    let parts: &[&[u8]] = &[b"hel", b"lo"];
    sender.begin_whole(parts).expect("a good message");
    assert_eq!(sender.chunk(parts), b"\0\0\0\x05hello");
    assert_eq!(sender.chunk(parts), b"\0\0\0\x05hello");
    sender.advance(0);
    assert!(!sender.is_mid_block());
    sender.advance(6);
    assert!(sender.is_mid_block());
    assert_eq!(sender.chunk(parts), b"l");
    sender.advance(1);
    assert_eq!(sender.chunk(parts), b"lo");
    sender.advance(2);
    assert!(!sender.is_mid_block());
    assert_eq!(sender.chunk(parts), b"");

    sender.begin_end().expect("nothing is open");
    assert_eq!(sender.chunk(b""), [0; 4]);
    sender.advance(3);
    assert!(sender.is_mid_block());
    sender.advance(1);
    assert!(!sender.is_mid_block());
    assert_eq!(sender.chunk(b""), b"");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Compared with the definition: the receiver gets exactly what was sent, or it was refused.
    #[test]
    fn a_payload_is_refused_exactly_if_it_would_be_received_changed(
        delimiter in proptest::collection::vec(b'a'..b'c', 1..5),
        payload in proptest::collection::vec(b'a'..b'd', 0..10),
    ) {
        let framing = Delimited::new(&delimiter).expect("a short delimiter");
        let wire = [&payload[..], &delimiter].concat();
        let first = wire.windows(delimiter.len()).position(|bytes| bytes == delimiter);
        let is_good = first == Some(payload.len());
        let mut out = [0; 20];
        let encoded = encode(&mut framing.encoder(), &payload[..], &mut out);
        prop_assert_eq!(encoded.is_ok(), is_good);
        if let Ok(len) = encoded {
            prop_assert_eq!(&out[..len], &wire);
        }
    }

    #[test]
    fn a_line_is_refused_exactly_if_it_would_be_received_changed(
        payload in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..6),
    ) {
        let is_good = !payload.contains(&b'\n') && !payload.ends_with(b"\r");
        let mut out = [0; 20];
        let encoded = encode(&mut Lines.encoder(), &payload[..], &mut out);
        prop_assert_eq!(encoded.is_ok(), is_good);
    }
}

/// Asserts the refusal by a writer and by `encode`, of the whole message and of a declared total, and that the next message
/// is sent as if nothing had happened.
fn refused(spec: &str, payload: &[u8], refusal: Refusal) {
    concrete!(parse(spec), framing => {
        let mut writer = blocking::Writer::new(Sink::new(9), framing);
        assert_eq!(writer.send(payload), Err(SendError::Refused(refusal)), "{spec}");
        assert_eq!(writer.io_mut().calls(), 0, "{spec}: nothing is written");
        assert!(!writer.is_mid_block());
        if !matches!(refusal, Refusal::Delimiter { .. }) {
            let total = u32::try_from(payload.len()).expect("a short message");
            assert_eq!(writer.begin(total), Err(SendError::Refused(refusal)), "{spec}");
            let overrun = Refusal::Overrun { len: 1, left: 0 };
            assert_eq!(writer.send_piece(b"b"), Err(SendError::Refused(overrun)), "{spec}");
        }
        let mut out = vec![0; payload.len() + 20];
        let encoded = encode(&mut framing.encoder(), payload, &mut out);
        assert_eq!(encoded, Err(refusal), "{spec}");

        let good = message(spec, 4);
        writer.send(&good).expect("a good message");
        let want = wire_of(framing, &[Give::Message(good)]);
        assert_eq!(writer.into_io().wire(), want, "{spec}");
    });
}

fn parse(spec: &str) -> AnyFraming {
    spec.parse().expect(spec)
}
