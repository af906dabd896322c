//! Whole messages and pieces asked for in turn, of one reader.

use framing_core::{AnyFraming, Decode, Framing, ReceiveError, Received, Step, blocking};
use tests::cuts;
use tests::drive::{Collector, Mode, scan};
use tests::link::{Source, Upset};
use tests::samples::{Event, all, sendable};

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
                Ok(Received::Piece {
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
                rest.result(reader.receive());
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
fn pieces_after_a_whole_receive_that_came_to_nothing_lose_nothing() {
    for sample in all() {
        let limits = sample.limits();
        for cut in 1..sample.wire.len().min(40) {
            // The first bytes are scanned for whole messages, and all that is left for pieces.
            let mut decoder = sample.framing().decoder();
            let mut window = sample.wire[..cut].to_vec();
            let step = decoder.scan::<false>(&mut window, &limits);
            if !matches!(step, Step::More { .. }) {
                continue;
            }
            window.extend_from_slice(&sample.wire[cut..]);
            let seen = scan(decoder, Mode::Pieces, &window, &[], &limits);
            assert_eq!(seen, sample.events_in_pieces, "{} at {cut}", sample.title());
        }
    }
}

#[test]
fn a_whole_receive_after_the_header_was_read_for_pieces_refuses_what_is_too_long() {
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
        for behind in 0..2 {
            let cuts = [header, header + behind];
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
            assert_eq!(reader.receive(), Ok(Received::Block(b"ok")), "{spec}");
        }
    }
}

/// How many reads an exact reader needs for a header that is not cut.
fn calls_of(spec: &str, header: usize) -> usize {
    match spec {
        "netstring" | "octet-counted" => header - 1,
        _ => 1,
    }
}
