//! Alternating receives of whole messages and of pieces, on one reader.

use framing_core::{
    AnyFraming, Decode, Fault, Framing, Limits, ReceiveError, Received, ReceivedPiece, Step,
    blocking,
};
use framing_core_testing::drive::{AnyReader, Collector, Mode, scan};
use framing_core_testing::link::{Source, Upset};
use framing_core_testing::samples::{Event, Sample, all, sendable};
use framing_core_testing::{concrete, cuts};
use proptest::prelude::*;

#[test]
fn a_whole_receive_after_a_piece_skips_the_rest_of_that_message() {
    for sample in sendable() {
        let messages = sample
            .events
            .iter()
            .filter(|event| matches!(event, Event::Block(_)));
        let messages: Vec<_> = messages.collect();
        let Some(Event::Block(first)) = messages.first() else {
            continue;
        };
        for cuts in cuts::few(sample.wire.len()) {
            let source = Source::new(&sample.wire, &cuts);
            let mut buffer = vec![0; sample.buffer_len()];
            let mut reader = blocking::Reader::new(source, sample.framing(), &mut buffer[..]);
            let is_last = match reader.receive_piece() {
                Ok(ReceivedPiece::Piece {
                    bytes,
                    first: true,
                    last,
                }) => {
                    assert_eq!(bytes, &first[..bytes.len()]);
                    last
                }
                other => panic!("{}: {other:?}", sample.title()),
            };
            assert!(
                is_last || reader.is_mid_block(),
                "{}, cut at {cuts:?}",
                sample.title()
            );
            let mut rest = Collector::default();
            while !rest.is_closed() {
                rest.result(reader.next(Mode::Whole));
            }
            let want = &sample.events[1..];
            assert_eq!(
                rest.into_events(),
                want,
                "{}, cut at {cuts:?}",
                sample.title()
            );
        }
    }
}

#[test]
fn receiving_pieces_after_an_incomplete_whole_receive_loses_nothing() {
    for sample in all() {
        let limits = sample.limits();
        for cut in 1..sample.wire.len().min(40) {
            // The first bytes are scanned for whole messages, and the rest for pieces.
            let mut decoder = sample.framing().decoder();
            let mut window = sample.wire[..cut].to_vec();
            let step = decoder.scan::<false>(&mut window, &limits);
            if !matches!(step, Step::NeedMore { .. }) {
                continue;
            }
            window.extend_from_slice(&sample.wire[cut..]);
            let seen = scan(decoder, Mode::Pieces, &window, &[], &limits);
            assert_eq!(seen, sample.events_in_pieces, "{} at {cut}", sample.title());
        }
    }
}

#[test]
fn a_whole_receive_after_a_header_was_read_for_pieces_still_checks_the_limit() {
    for (spec, wire) in [
        ("blocks", &b"\0\0\0\x14twenty letters here!\0\0\0\x02ok"[..]),
        ("length:u8", b"\x14twenty letters here!\x02ok"),
        ("length:varint", b"\x14twenty letters here!\x02ok"),
        ("netstring", b"20:twenty letters here!,2:ok,"),
        ("octet-counted", b"20 twenty letters here!2 ok"),
    ] {
        let framing: AnyFraming = spec.parse().expect(spec);
        let header = wire
            .iter()
            .position(|&byte| byte == b't')
            .expect("a payload");
        for extra in 0..2 {
            let cuts = [header, header + extra];
            let source = Source::new(wire, &cuts).upset(calls_of(spec, header), Upset::Error);
            let mut reader = blocking::Reader::new(source, framing, [0; 16]);
            assert!(
                matches!(reader.receive_piece(), Err(ReceiveError::Io(_))),
                "{spec}"
            );
            let refused = reader.receive();
            assert!(
                matches!(refused, Err(ReceiveError::Fault(fault)) if !fault.is_lost()),
                "{spec}: {refused:?}"
            );
            assert_eq!(reader.receive(), Ok(Received::Message(b"ok")), "{spec}");
        }
    }
}

#[test]
fn the_rest_of_a_skipped_message_is_not_returned() {
    let wire = b"\0\0\0\x14twenty letters here!\0\0\0\x02ok";
    // The header, eight bytes that are skipped, and a failing read.
    let source = Source::new(wire, &[4, 12]).upset(2, Upset::Error);
    let mut reader = blocking::Reader::new(source, framing_core::Blocks, [0; 16]);
    let refused = reader.receive();
    assert!(
        matches!(refused, Err(ReceiveError::Fault(Fault::TooLong { .. }))),
        "{refused:?}"
    );
    assert!(matches!(reader.receive(), Err(ReceiveError::Io(_))));
    let piece = ReceivedPiece::Piece {
        bytes: b"ok",
        first: true,
        last: true,
    };
    assert_eq!(reader.receive_piece(), Ok(piece));
}

#[test]
fn payload_is_returned_as_soon_as_it_cannot_be_the_delimiter() {
    let limits = Limits {
        block_max: 16,
        skip_max: 16,
    };
    for (spec, bytes, certain) in [
        ("lines", &b"ab"[..], 2),
        ("lines", b"ab\r", 2),
        ("lines", b"a\rb", 3),
        ("delimited:0d0a", b"ab\r", 2),
        ("delimited:3c2d2d2d2d2d2d3e", b"ab<--", 2),
        ("delimited:3c2d2d2d2d2d2d3e", b"ab<-x", 5),
        ("delimited:3c2d2d2d2d2d2d3e", b"ab<-<", 4),
        ("delimited:616162", b"aaa", 1),
        ("cobs", b"\x04ab", 3),
        // The last bytes may be the checksum.
        ("cobs-crc16", b"\x05abc", 4),
        ("cobs-crc32", b"\x09abcd", 0),
        ("cobs-crc32", b"\x09abcde", 6),
        ("netstring", b"3:abc", 5),
    ] {
        let framing: AnyFraming = spec.parse().expect(spec);
        let mut decoder = framing.decoder();
        let scanned = decoder.scan_all::<true>(&mut bytes.to_vec(), &limits, |_, _| true);
        assert_eq!(scanned.used, certain, "{spec}: {}", bytes.escape_ascii());
    }
}

#[test]
fn a_refused_message_is_returned_if_pieces_are_received_next() {
    for sample in all() {
        let want = refused_then_returned(&sample);
        for cuts in cuts::all(sample.wire.len()) {
            concrete!(sample.framing(), framing => {
                let source = Source::new(&sample.wire, &cuts);
                let mut buffer = vec![0; sample.buffer_len()];
                let mut reader = blocking::Reader::new(source, framing, &mut buffer[..]).with_skip_max(sample.skip_max);
                let mut seen = Collector::default();
                let mut mode = Mode::Whole;
                while !seen.is_closed() {
                    let result = reader.next(mode);
                    mode = match &result {
                        Err(ReceiveError::Fault(Fault::TooLong { lost: false, .. })) => Mode::Pieces,
                        Ok(ReceivedPiece::Piece { last: false, .. }) => mode,
                        _ => Mode::Whole,
                    };
                    seen.result(result);
                }
                assert_eq!(seen.into_events(), want, "{}, cut at {cuts:?}", sample.title());
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mix_of_calls_forges_a_message_or_changes_the_order(
        index in 0..all().len(),
        modes in proptest::collection::vec(any::<bool>(), 1..20),
        cuts in proptest::collection::vec(0..100usize, 0..4),
    ) {
        let sample = &all()[index];
        let mut buffer = vec![0; sample.buffer_len()];
        let cuts: std::collections::BTreeSet<_> = cuts.into_iter().collect();
        let cuts: Vec<_> = cuts.into_iter().collect();
        let source = Source::new(&sample.wire, &cuts);
        let mut reader = blocking::Reader::new(source, sample.framing(), &mut buffer[..]);
        let mut pieces = Vec::new();
        let mut seen = Vec::new();
        for whole in modes.into_iter().cycle().take(2000) {
            let result = reader.next(if whole { Mode::Whole } else { Mode::Pieces });
            match result {
                Ok(ReceivedPiece::Piece { bytes, first, last }) => {
                    if first {
                        pieces.clear();
                    }
                    pieces.extend_from_slice(bytes);
                    if last {
                        seen.push(Event::Block(pieces.clone()));
                    }
                }
                Ok(ReceivedPiece::End) => seen.push(Event::End),
                Ok(ReceivedPiece::Closed) => {
                    seen.push(Event::Closed);
                    break;
                }
                Err(_) => {}
            }
        }
        let mut real = sample.events_in_pieces.iter();
        for event in &seen {
            prop_assert!(real.any(|real| real == event), "{}: {:?}", sample.title(), seen);
        }
        prop_assert_eq!(seen.last(), Some(&Event::Closed));
    }
}

/// The events if pieces are received after each fault "too long", until the end of that message.
fn refused_then_returned(sample: &Sample) -> Vec<Event> {
    let mut whole = sample.events.iter().peekable();
    let mut pieces = sample.events_in_pieces.iter();
    let mut want = Vec::new();
    while let Some(event) = whole.next() {
        want.push(event.clone());
        match event {
            Event::Fault(Fault::TooLong { lost: false, .. }) => {
                let returned = pieces.next().expect("as many messages");
                want.push(returned.clone());
                if whole.peek() == Some(&&Event::Closed) {
                    // Perhaps because the message is too long to be skipped.
                    want.extend(pieces.cloned());
                    break;
                }
            }
            Event::Fault(Fault::TooLong { .. }) => want.extend(whole.by_ref().cloned()),
            _ => assert_eq!(pieces.next(), Some(event)),
        }
    }
    want
}

/// The number of reads that an exact reader needs for a header that arrives at once.
fn calls_of(spec: &str, header: usize) -> usize {
    match spec {
        "netstring" | "octet-counted" => header - 1,
        _ => 1,
    }
}
