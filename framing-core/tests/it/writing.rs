//! The bytes that are written, in which writes, from which memory, and the space that they need.

use core::convert::Infallible;

use framing_core::{
    AnyFraming, Blocks, Cobs, Fault, Framing, Length, Netstring, Payload, ReceiveError, Received,
    ReceivedPiece, Refusal, U16, blocking, encode,
};
use framing_core_testing::drive::{Mode, give, is_exact, read, wire_of};
use framing_core_testing::link::{Sink, Source};
use framing_core_testing::messages::{carries_empty, message, parts, specs_of};
use framing_core_testing::samples::{Event, Give, sendable};
use framing_core_testing::sizes::{buffer_len, wire_len};
use framing_core_testing::{concrete, concrete_in_pieces, cuts};

#[test]
fn a_writer_produces_the_wire_of_the_samples() {
    for sample in sendable() {
        for most in [1, 3, usize::MAX] {
            concrete!(sample.framing(), framing => {
                let mut writer = blocking::Writer::new(Sink::new(most), framing);
                give(&mut writer, &sample.sends()).expect("a good message");
                assert_eq!(writer.into_io().wire(), sample.wire, "{}", sample.title());
            });
        }
        assert_eq!(
            wire_of(sample.framing(), &sample.sends()),
            sample.wire,
            "{}",
            sample.title()
        );
    }
}

#[test]
fn a_small_message_is_sent_in_one_write() {
    // Of `lines` and `delimited`, 56 bytes of payload are the most.
    for len in [1, 5, 45, 56] {
        for spec in specs_of(len) {
            let payload = message(&spec, len);
            concrete!(parse(&spec), framing => {
                let mut writer = blocking::Writer::new(Sink::new(usize::MAX), framing);
                writer.send(&payload).expect("a good message");
                assert_eq!(writer.io_mut().writes.len(), 1, "{spec}, {len} bytes");
                // `stream` adds nothing around the parts, and copies nothing.
                if spec != "stream" {
                    writer.send_parts(&parts(&payload)).expect("a good message");
                    assert_eq!(writer.io_mut().writes.len(), 2, "{spec}, {len} bytes in parts");
                }
            });
            let mut writer = blocking::Writer::new(Sink::new(usize::MAX), parse(&spec));
            writer.send_parts(&parts(&payload)).expect("a good message");
            assert_eq!(writer.io_mut().writes.len(), 1, "{spec}, {len} bytes, any");
        }
    }
}

#[test]
fn messages_around_the_length_of_the_stage_are_sent_correctly() {
    for len in (40..=72).chain(500..=516) {
        for spec in specs_of(len) {
            let payload = message(&spec, len);
            let want = wire_of(parse(&spec), &[Give::Message(payload.clone())]);
            for most in [1, 61, usize::MAX] {
                concrete!(parse(&spec), framing => {
                    let mut writer = blocking::Writer::new(Sink::new(most), framing);
                    writer.send(&payload).expect("a good message");
                    assert_eq!(writer.into_io().wire(), want, "{spec}, {len} bytes by {most}");
                });
                let mut writer = blocking::Writer::new(Sink::new(most), parse(&spec));
                writer.send_parts(&parts(&payload)).expect("a good message");
                assert_eq!(
                    writer.into_io().wire(),
                    want,
                    "{spec}, {len} bytes by {most}, any"
                );
            }
        }
    }
}

#[test]
fn sixteen_bytes_of_a_long_message_are_sent_with_its_header() {
    for spec in ["blocks", "length:varint", "netstring"] {
        // The first length that does not fit into 64 bytes with its framing.
        let room = 64 - wire_of(parse(spec), &[Give::Message(vec![b'x'; 50])]).len() + 50;
        for len in [room + 1, room + 2, 1000] {
            concrete!(parse(spec), framing => {
                let mut writer = blocking::Writer::new(Sink::new(usize::MAX), framing);
                writer.send(&vec![b'x'; len]).expect("a good message");
                assert_eq!(writer.into_io().writes[0], 16, "{spec}, {len} bytes");
            });
        }
    }
}

#[test]
fn an_array_is_checked_and_sent_like_a_slice() {
    let mut out = [0; 16];
    let len = encode(&mut Blocks.encoder(), b"abc", &mut out);
    assert_eq!((len, &out[..7]), (Ok(7), &b"\0\0\0\x03abc"[..]));
    let refused = encode(&mut framing_core::Lines.encoder(), b"a\nb", &mut out);
    assert_eq!(refused, Err(Refusal::Delimiter { offset: 1 }));
}

#[test]
fn payloads_know_their_length() {
    let parts: [&[u8]; 3] = [b"", b"ab", b"c"];
    assert_eq!(
        (Payload::len(&parts), parts.rest(1), parts.rest(3)),
        (3, &b"b"[..], &b""[..])
    );
    assert!(!Payload::is_empty(&parts) && Payload::is_empty(b"") && !Payload::is_empty(b"a"));
}

#[test]
fn the_payload_of_a_large_message_is_not_copied() {
    for spec in specs_of(3000) {
        let payload = message(&spec, 3000);
        if spec.starts_with("cobs") || payload.len() < 3000 {
            continue;
        }
        concrete!(parse(&spec), framing => {
            let mut writer = blocking::Writer::new(Places::default(), framing);
            writer.send(&payload).expect("a good message");
            let Places(writes) = writer.into_io();
            let end = payload.as_ptr_range().end.addr();
            let rest: Vec<_> = writes.iter().filter(|&&(at, len)| at + len == end).collect();
            let [(_, len)] = rest[..] else {
                panic!("{spec}: {writes:?}");
            };
            assert!(*len >= 3000 - 64, "{spec}: {len} bytes from the caller's memory");
            let tail = usize::from(spec == "netstring" || spec == "lines" || spec.starts_with("delimited"));
            // Without a header, nothing is copied.
            let has_header = !["stream", "fixed", "lines", "delimited"].iter().any(|name| spec.starts_with(name));
            assert_eq!(writes.len(), usize::from(has_header) + 1 + tail, "{spec}: {writes:?}");
        });
    }
}

#[test]
fn a_message_in_parts_is_sent_as_one_message() {
    for spec in specs_of(40) {
        let payload = message(&spec, 40);
        let want = wire_of(parse(&spec), &[Give::Message(payload.clone())]);
        for cuts in cuts::all(payload.len()) {
            let parts = split(&payload, &cuts);
            concrete!(parse(&spec), framing => {
                let mut writer = blocking::Writer::new(Sink::new(7), framing);
                writer.send_parts(&parts).expect("a good message");
                assert_eq!(writer.into_io().wire(), want, "{spec}, cut at {cuts:?}");
                let mut out = vec![0; wire_len(parse(&spec), payload.len())];
                let len = encode(&mut framing.encoder(), &parts[..], &mut out).expect("enough space");
                assert_eq!(out[..len], want, "{spec}, cut at {cuts:?}, encoded");
            });
        }
    }
}

#[test]
fn pieces_of_a_declared_total_are_sent_as_one_message() {
    let long = specs_of(700)
        .into_iter()
        .map(|spec| (message(&spec, 700), spec));
    let short = specs_of(40)
        .into_iter()
        .map(|spec| (message(&spec, 40), spec));
    for (payload, spec) in short.chain(long) {
        let want = wire_of(parse(&spec), &[Give::Message(payload.clone())]);
        for cuts in cuts::all(payload.len()) {
            let pieces = split(&payload, &cuts);
            let total = u32::try_from(payload.len()).expect("a short message");
            concrete_in_pieces!(parse(&spec), framing => {
                let mut writer = blocking::Writer::new(Sink::new(100), framing);
                writer.begin(total).expect("a good length");
                assert_eq!(writer.io_mut().calls(), 0, "nothing is written yet");
                for piece in &pieces {
                    writer.send_piece(piece).expect("a good piece");
                }
                assert!(!writer.is_mid_block());
                assert_eq!(writer.into_io().wire(), want, "{spec}, cut at {cuts:?}");
            });
        }
    }
}

#[test]
fn an_empty_message_may_be_one_empty_piece() {
    for spec in [
        "length:u8",
        "length:u32",
        "length:varint",
        "netstring",
        "cobs",
        "cobs-crc16",
        "cobs-crc32",
        "lines",
        "delimited:6161",
    ] {
        let mut writer = blocking::Writer::new(Sink::new(9), parse(spec));
        writer.begin(0).expect("a good length");
        writer.send_piece(&[]).expect("the only piece");
        assert!(!writer.is_mid_block());
        let want = wire_of(parse(spec), &[Give::Message(vec![])]);
        assert_eq!(writer.into_io().wire(), want, "{spec}");
    }
}

#[test]
fn wire_len_is_enough_and_is_exact_for_headers_of_one_size() {
    for len in lens() {
        for spec in specs_of(len.max(1)) {
            let payload = message(&spec, len);
            let gives = [Give::Message(payload.clone())];
            if payload.is_empty() && !carries_empty(&spec) {
                continue;
            }
            let wire = wire_of(parse(&spec), &gives);
            let room = wire_len(parse(&spec), payload.len());
            let is_exact = spec == "blocks"
                || spec == "stream"
                || spec.starts_with("fixed")
                || spec.starts_with("length:u");
            assert!(wire.len() <= room, "{spec}, {len} bytes");
            assert!(!is_exact || wire.len() == room, "{spec}, {len} bytes");
            // It must not be much more than enough either.
            assert!(room <= wire.len() + 11, "{spec}, {len} bytes");
        }
        let worst = vec![1; len];
        let wire = wire_of(Cobs, &[Give::Message(worst)]);
        let trailing = usize::from(len != 0 && len % 254 == 0);
        assert_eq!(
            wire.len() + trailing,
            Cobs::wire_len(len),
            "cobs, {len} bytes"
        );
    }
}

#[test]
fn every_output_that_is_too_short_is_refused_with_its_length() {
    for len in [0, 1, 5, 60, 253, 254, 255, 600] {
        for spec in specs_of(len.max(1)) {
            let payload = message(&spec, len);
            concrete!(parse(&spec), framing => {
                let mut out = vec![0; wire_len(parse(&spec), payload.len())];
                let Ok(exact) = encode(&mut framing.encoder(), &payload[..], &mut out) else {
                    assert!(payload.is_empty() && !carries_empty(&spec), "{spec}");
                    continue;
                };
                let want = out[..exact].to_vec();
                let mut out = vec![0; exact];
                assert_eq!(encode(&mut framing.encoder(), &payload[..], &mut out), Ok(exact));
                assert_eq!(out, want);
                for len in 0..exact {
                    let short = &mut out[..len];
                    let refused = encode(&mut framing.encoder(), &payload[..], short);
                    assert_eq!(refused, Err(Refusal::NoRoom { len }), "{spec}");
                    let refused = encode(&mut parse(&spec).encoder(), &parts(&payload)[..], short);
                    assert_eq!(refused, Err(Refusal::NoRoom { len }), "{spec} in parts, any");
                }
            });
        }
    }
}

#[test]
fn a_buffer_of_buffer_len_receives_the_whole_message() {
    for len in lens() {
        for spec in specs_of(len.max(1)) {
            if spec == "stream" {
                continue;
            }
            let framing = parse(&spec);
            let mut payloads = vec![message(&spec, len)];
            // Without zeros `cobs` is longest, and some encoders add an empty group.
            if spec.starts_with("cobs") {
                payloads.push(vec![1; len]);
            }
            for payload in payloads {
                if payload.is_empty() && !carries_empty(&spec) {
                    continue;
                }
                let mut wire = wire_of(framing, &[Give::Message(payload.clone())]);
                if spec == "cobs" && len != 0 && len % 254 == 0 && !payload.contains(&0) {
                    wire.insert(wire.len() - 1, 1);
                }
                let mut buffer = vec![0; buffer_len(framing, payload.len())];
                let seen = read(
                    framing,
                    Mode::Whole,
                    0,
                    Source::new(&wire, &[]),
                    &mut buffer[..],
                );
                let events = [Event::Block(payload.clone()), Event::Closed];
                assert_eq!(seen[0], events[0], "{spec}, {len} bytes");

                // If it is documented as the smallest, one byte less is not enough.
                let is_smallest = is_exact(framing) || spec == "lines";
                let shorter = buffer.len() - 1;
                let mut reader =
                    blocking::Reader::new(Source::new(&wire, &[]), framing, &mut buffer[..shorter]);
                if is_smallest && payload.len() > 11 {
                    assert!(
                        matches!(
                            reader.receive(),
                            Err(ReceiveError::Fault(Fault::TooLong { .. }))
                        ),
                        "{spec}, {len} bytes"
                    );
                }
            }
        }
    }
}

#[test]
fn a_buffer_too_short_for_a_header_is_an_error() {
    for (spec, longest) in [
        ("blocks", &b"\0\0\0\x09"[..]),
        ("length:u8", b"\x09"),
        ("length:u16", b"\0\x09"),
        ("length:u16le", b"\x09\0"),
        ("length:u32", b"\0\0\0\x09"),
        ("length:u32le", b"\x09\0\0\0"),
        ("length:varint", b"\x89\x80\x80\x80\0"),
        ("netstring", b"4294967295:"),
        ("octet-counted", b"4294967295 "),
    ] {
        let enough = buffer_len(parse(spec), 0);
        assert_eq!(enough, longest.len(), "{spec}");
        let mut buffer = vec![0; enough];
        let source = Source::new(longest, &[]);
        let mut reader = blocking::Reader::new(source.clone(), parse(spec), &mut buffer[..]);
        let result = reader.receive();
        assert!(
            matches!(result, Err(ReceiveError::Fault(_))),
            "{spec}: {result:?}"
        );
        let len = enough - 1;
        let mut reader = blocking::Reader::new(source, parse(spec), &mut buffer[..len]);
        assert_eq!(
            reader.receive(),
            Err(ReceiveError::BufferTooSmall { len }),
            "{spec}"
        );
    }
}

#[test]
fn a_heapless_vec_is_a_buffer_of_its_full_capacity() {
    let wire = b"\0\0\0\x08eight by\0\0\0\x09nine byte\0\0\0\0";
    let too_long = Fault::TooLong {
        declared: Some(9),
        limit: 8,
        lost: false,
    };
    for held in [0, 3, 8] {
        let mut vec = heapless::Vec::<u8, 8>::new();
        vec.resize(held, 0xee).expect("at most its capacity");
        let mut reader = blocking::Reader::new(Source::new(wire, &[]), Blocks, &mut vec);
        assert_eq!(reader.receive(), Ok(Received::Message(b"eight by")));
        assert_eq!(reader.receive(), Err(ReceiveError::Fault(too_long)));
        assert_eq!(reader.receive(), Ok(Received::End));
        let mut reader = blocking::Reader::new(Source::new(wire, &[]), Blocks, vec);
        assert_eq!(reader.receive(), Ok(Received::Message(b"eight by")));
    }
}

#[test]
fn a_message_is_copied_out_whole_or_not_at_all() {
    let source = Source::new(b"5:hello,0:,", &[]);
    let mut reader = blocking::Reader::new(source, Netstring, [0; 16]);
    let received = reader.receive().expect("a good message");
    assert_eq!(received.to_vec::<5>().as_deref(), Ok(&b"hello"[..]));
    assert_eq!(received.to_vec::<9>().as_deref(), Ok(&b"hello"[..]));
    let refused = Fault::TooLong {
        declared: Some(5),
        limit: 4,
        lost: false,
    };
    assert_eq!(received.to_vec::<4>(), Err(refused));
    let piece = ReceivedPiece::Piece {
        bytes: b"abc",
        first: true,
        last: false,
    };
    assert_eq!(piece.to_vec::<3>().as_deref(), Ok(&b"abc"[..]));
    assert_eq!(Received::End.to_vec::<0>().as_deref(), Ok(&b""[..]));
    assert_eq!(Received::Closed.to_vec::<0>().as_deref(), Ok(&b""[..]));
}

#[test]
fn arrays_and_borrowed_arrays_are_buffers() {
    let wire = b"\0\x02ok\0\x03yes";
    let mut reader = blocking::Reader::new(Source::new(wire, &[]), Length::<U16>::new(), [0; 3]);
    assert_eq!(reader.receive(), Ok(Received::Message(b"ok")));
    let mut array = [0; 3];
    let rest = reader.into_io();
    let mut reader = blocking::Reader::new(rest, Length::<U16>::new(), &mut array);
    assert_eq!(reader.receive(), Ok(Received::Message(b"yes")));
}

/// The address and length of each write.
#[derive(Debug, Default)]
struct Places(Vec<(usize, usize)>);

impl embedded_io::ErrorType for Places {
    type Error = Infallible;
}

impl embedded_io::Write for Places {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.0.push((bytes.as_ptr().addr(), bytes.len()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        unreachable!("no flush was requested")
    }
}

/// Lengths around all limits that matter.
fn lens() -> impl Iterator<Item = usize> {
    let hot = [0, 9, 99, 127, 253, 507, 761, 1000];
    hot.into_iter().flat_map(|len| len..len + 5)
}

fn split<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let ends = cuts.iter().copied().chain([bytes.len()]);
    let starts = core::iter::once(0).chain(cuts.iter().copied());
    starts
        .zip(ends)
        .map(|(start, end)| &bytes[start..end])
        .collect()
}

fn parse(spec: &str) -> AnyFraming {
    spec.parse().expect("a name")
}
