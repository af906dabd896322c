//! Bugs that were found in other framing libraries, one test for each. None of them exists here.

use framing_core::{
    AnyFraming, Blocks, Cobs, Decode, Delimited, Fault, Framing, Length, Limits, Netstring,
    OctetCounted, Part, ReceivedPiece, Step, U8, Varint, blocking,
};
use framing_core_testing::cuts;
use framing_core_testing::drive::{AnyReader, Collector, Mode, read, read_async, scan, scan_all};
use framing_core_testing::link::Source;
use framing_core_testing::samples::Event;

/// tokio-util's `LengthDelimitedCodec` with a limit of 16: returns the same error forever, and "ok" never arrives.
#[test]
fn an_oversize_block_is_reported_once_and_the_next_one_arrives() {
    let wire = [b"\0\0\0\x20", &[7; 32][..], b"\0\0\0\x02ok\0\0\0\0"].concat();
    for_every_split(
        Blocks,
        &wire,
        16,
        &[too_long(Some(32), 16), block(b"ok"), Event::End],
    );
}

/// framez with a buffer of eight bytes: returns "buffer too small" forever.
#[test]
fn a_message_over_a_buffer_of_eight_bytes_is_refused_once() {
    let wire = b"\0\0\0\x09ninechars\0\0\0\x09ninechars\0\0\0\x08justsize\0\0\0\0";
    let refused = too_long(Some(9), 8);
    for_every_split(
        Blocks,
        wire,
        8,
        &[refused.clone(), refused, block(b"justsize"), Event::End],
    );
}

/// postcard's `CobsAccumulator`: after "over full" it reads the rest of the message as another one.
#[test]
fn the_rest_of_an_oversize_message_is_not_taken_for_a_message() {
    // The bytes inside the long message would be a good message, from any byte on.
    let long = [&[24][..], &[1; 23], b"\0"].concat();
    let wire = [&long[..], b"\x03ok\0", &long, b"\x02!\0"].concat();
    let want = [
        too_long(None, 16),
        block(b"ok"),
        too_long(None, 16),
        block(b"!"),
    ];
    for_every_split(Cobs, &wire, Cobs::buffer_len(16), &want);
}

/// cobs.rs, when fed more after "target buffer too small": reports the first 16 bytes as a complete message.
#[test]
fn the_first_bytes_of_an_oversize_message_are_not_reported_as_a_message() {
    let wire = [&[25][..], &[b'x'; 24], b"\0\x03ok\0"].concat();
    for_every_split(
        Cobs,
        &wire,
        Cobs::buffer_len(16),
        &[too_long(None, 16), block(b"ok")],
    );
}

/// cobs-acc: accepts a message of 24 bytes with a limit of 16, if it arrives in a chunk of 64.
#[test]
fn a_message_over_the_limit_is_refused_even_in_one_big_chunk() {
    let limits = limits(16);
    for (spec, wire) in [
        ("cobs", [&[25][..], &[b'x'; 24], b"\0\x03ok\0"].concat()),
        ("lines", b"four and twenty letters!\nok\n".to_vec()),
        ("delimited:00", b"four and twenty letters!\0ok\0".to_vec()),
        ("length:u8", b"\x18four and twenty letters!\x02ok".to_vec()),
        (
            "length:varint",
            b"\x18four and twenty letters!\x02ok".to_vec(),
        ),
        ("netstring", b"24:four and twenty letters!,2:ok,".to_vec()),
        ("octet-counted", b"24 four and twenty letters!2 ok".to_vec()),
    ] {
        let decoder = parse(spec).decoder();
        let seen = scan(decoder, Mode::Whole, &wire, &[], &limits);
        assert!(
            matches!(&seen[..], [Event::Fault(Fault::TooLong { limit: 16, lost: false, .. }), ok, Event::Closed] if *ok == block(b"ok")),
            "{spec}: {seen:?}"
        );
        assert_eq!(
            scan_all(decoder, Mode::Whole, &wire, &[], &limits, 100),
            seen,
            "{spec}"
        );
    }
}

/// Vector's `character_delimited`: does not check the limit until a delimiter arrives.
#[test]
fn a_message_without_an_end_is_refused_as_soon_as_it_is_over_the_limit() {
    for spec in ["lines", "delimited:00", "delimited:0d0a"] {
        let mut decoder = parse(spec).decoder();
        let mut window = [b'x'; 20];
        let fault = Fault::TooLong {
            declared: None,
            limit: 16,
            lost: false,
        };
        let step = decoder.scan::<false>(&mut window, &limits(16));
        assert_eq!(step, Step::Fault { take: 0, fault }, "{spec}");
    }
    let mut decoder = Cobs.decoder();
    let mut window = [b'x'; 18];
    let step = decoder.scan::<false>(&mut window, &limits(16));
    assert!(matches!(
        step,
        Step::Fault {
            fault: Fault::TooLong { limit: 16, .. },
            ..
        }
    ));
}

/// Vector's `octet_counting`: stops skipping at payload that begins with a digit.
#[test]
fn a_message_forged_inside_a_skipped_payload_is_not_delivered() {
    let wire = b"20 abcdefghij4 evilxxxx2 ok";
    for_every_split(
        OctetCounted,
        wire,
        16,
        &[too_long(Some(20), 16), block(b"ok")],
    );
    let wire = b"20:abcdefghij,4:evilxxx,2:ok,";
    for_every_split(Netstring, wire, 17, &[too_long(Some(20), 16), block(b"ok")]);
    let wire = b"\x14abcdefghij\x04evilxxxxx\x02ok";
    for_every_split(
        Length::<U8>::new(),
        wire,
        16,
        &[too_long(Some(20), 16), block(b"ok")],
    );
}

/// Vector's `varint_length_delimited`: reads the first payload bytes as a length if they arrive after the header.
#[test]
fn a_payload_that_comes_after_its_header_is_not_read_as_a_header() {
    let wire = b"\x85\x80\x00\x01\x02\x01\x02\x01\x02ok";
    for_every_split(
        Varint,
        wire,
        16,
        &[block(b"\x01\x02\x01\x02\x01"), block(b"ok")],
    );
}

/// A length near 2^32 overflows if a header or trailer is added before it is compared.
#[test]
fn a_length_of_2_to_the_32_minus_1_does_not_overflow() {
    for (spec, header) in [
        ("blocks", &b"\xff\xff\xff\xff"[..]),
        ("length:u32", b"\xff\xff\xff\xff"),
        ("length:u32le", b"\xff\xff\xff\xff"),
        ("length:varint", b"\xff\xff\xff\xff\x0f"),
        ("netstring", b"4294967295:"),
        ("octet-counted", b"4294967295 "),
    ] {
        let wire = [header, b"abc"].concat();
        let declared = Some(u32::MAX);
        let lost = Event::Fault(Fault::TooLong {
            declared,
            limit: 16,
            lost: true,
        });
        for cuts in cuts::all(wire.len()) {
            let seen = scan(
                parse(spec).decoder(),
                Mode::Whole,
                &wire,
                &cuts,
                &limits(16),
            );
            assert_eq!(seen, [lost.clone(), Event::Closed], "{spec}");
        }
        // Waits for such a message, byte for byte, if the limit allows it.
        let all = limits(u32::MAX);
        let mut decoder = parse(spec).decoder();
        let tail = usize::from(spec == "netstring");
        let want = u32::MAX as usize + tail;
        let mut window = wire.clone();
        let step = decoder.scan::<false>(&mut window, &all);
        let take = header.len();
        assert_eq!(step, Step::Skip { take, want }, "{spec}");
        let step = decoder.scan::<false>(&mut window[take..], &all);
        assert_eq!(step, Step::NeedMore { want: want - 3 }, "{spec}");
        let cut = Fault::Truncated {
            part: Part::Payload,
            have: 3,
            want: u32::MAX,
        };
        assert_eq!(decoder.close(3), Some(cut), "{spec}");
    }
}

/// Twisted refuses them too; other libraries read `+5`, ` 5` and `005`, and Vector panics at twenty digits.
#[test]
fn a_malformed_decimal_length_loses_the_framing() {
    for (length, found, offset) in [
        ("05", b'5', 1),
        ("00", b'0', 1),
        ("+5", b'+', 0),
        ("-5", b'-', 0),
        (" 5", b' ', 0),
        ("5 ", b' ', 1),
        ("0x5", b'x', 1),
        ("", b':', 0),
        ("4294967296", b'6', 9),
        ("99999999999999999999", b'9', 9),
        ("10000000000000000000", b'0', 10),
    ] {
        let wire = format!("2:ok,{length}:hello,2:no,");
        let bad = Event::Fault(Fault::BadLength { found, offset });
        for_every_split(Netstring, wire.as_bytes(), 17, &[block(b"ok"), bad]);
    }
}

/// A reader that ignores the comma returns data between two wrong boundaries.
#[test]
fn a_netstring_without_its_comma_is_not_delivered() {
    let bad = |found| Event::Fault(Fault::BadEnding { want: b',', found });
    for_every_split(Netstring, b"5:hello;2:no,", 17, &[bad(b';')]);
    for_every_split(Netstring, b"5:hello2:no,", 17, &[bad(b'2')]);
    for_every_split(Netstring, b"4:hello,2:no,", 17, &[bad(b'o')]);
    for_every_split(Netstring, b"0:\0,", 17, &[bad(0)]);
}

/// tokio-util's `AnyDelimiterCodec` with `\r\n` ends a message at either byte, so an empty message follows each one.
#[test]
fn a_delimiter_of_two_bytes_ends_only_one_message() {
    let framing = Delimited::new(b"\r\n").expect("a delimiter");
    let wire = b"a\r\nb\n\r\r\n\r\n";
    for_every_split(
        framing,
        wire,
        18,
        &[block(b"a"), block(b"b\n\r"), block(b"")],
    );
}

/// A search that continues after a partly matched delimiter misses one that begins inside it.
#[test]
fn a_delimiter_that_overlaps_itself_is_found_at_its_first_end() {
    let framing = Delimited::new(b"aab").expect("a delimiter");
    for_every_split(framing, b"aaabaaaab", 19, &[block(b"a"), block(b"aa")]);
    let framing = Delimited::new(b"abab").expect("a delimiter");
    for_every_split(framing, b"xabaababab", 20, &[block(b"xaba"), cut(2)]);
}

/// A damaged length must not silence a device for hours, and a lost framing must not report every byte.
#[test]
fn a_message_too_long_to_skip_loses_the_framing_once() {
    let counted = |declared| {
        Event::Fault(Fault::TooLong {
            declared: Some(declared),
            limit: 4,
            lost: true,
        })
    };
    let seen = |spec, wire: &[u8], len, skip_max| {
        let mut all: Vec<_> = cuts::all(wire.len())
            .iter()
            .map(|cuts| {
                read(
                    parse(spec),
                    Mode::Whole,
                    skip_max,
                    Source::new(wire, cuts),
                    &mut vec![0; len][..],
                )
            })
            .collect();
        all.dedup();
        assert_eq!(all.len(), 1, "{spec}: events depend on the split");
        all.remove(0)
    };
    let bytes = b"\0\0\0\x07sevenxx\0\0\0\x08eightxxx\0\0\0\x07sevenxx";
    let refused = too_long(Some(7), 4);
    assert_eq!(
        seen("blocks", bytes, 4, 7),
        [refused, counted(8), Event::Closed]
    );
    assert_eq!(
        seen("fixed:8", b"eightxxxeightxxx", 4, 7),
        [counted(8), Event::Closed]
    );

    // Reported before it is known that it cannot be skipped.
    let twice = [too_long(None, 4), too_long(None, 4), Event::Closed];
    assert_eq!(seen("lines", b"sevenxx\neightxxx\nok\n\n", 6, 7), twice);
    assert_eq!(
        seen("delimited:0d0a", b"sevenxx\r\neightxxx\r\nok\r\n", 6, 7),
        twice
    );
    assert_eq!(
        seen("cobs", b"\x07sixxxx\0\x08sevenxx\0\x03ok\0", 6, 7),
        twice
    );
}

/// The limit also applies to the rest of a message whose first piece was taken.
#[test]
fn the_rest_of_a_message_too_long_to_skip_loses_the_framing_once() {
    for (spec, wire) in [
        ("blocks", &b"\0\0\0\x08eightxxx\0\0\0\x02no\0\0\0\0"[..]),
        ("netstring", b"8:eightxxx,2:no,"),
        ("lines", b"eightxxx\nno\n"),
        ("cobs", b"\x09eightxxx\0\x03no\0"),
    ] {
        for (skip_max, is_lost) in [(7, true), (9, false)] {
            let cuts = cuts::bytes(wire.len());
            let mut reader = blocking::Reader::new(Source::new(wire, &cuts), parse(spec), [0; 16])
                .with_skip_max(skip_max);
            let first = reader.receive_piece();
            assert_eq!(
                first,
                Ok(ReceivedPiece::Piece {
                    bytes: b"e",
                    first: true,
                    last: false
                }),
                "{spec}"
            );
            let mut rest = Collector::default();
            while !rest.is_closed() {
                rest.result(reader.next(Mode::Whole));
            }
            let rest = rest.into_events();
            if is_lost {
                let [Event::Fault(fault @ Fault::TooLong { .. }), Event::Closed] = rest[..] else {
                    panic!("{spec}: {rest:?}");
                };
                assert!(fault.is_lost(), "{spec}");
            } else {
                assert_eq!(rest[0], block(b"no"), "{spec}: {rest:?}");
            }
        }
    }
}

/// Runs every kind of reader at every split, and asserts the events and the close.
fn for_every_split(framing: impl Framing + Copy, wire: &[u8], buffer_len: usize, want: &[Event]) {
    let want = [want, &[Event::Closed]].concat();
    let skip_max = Limits::SKIP_MAX;
    let mut buffer = vec![0; buffer_len];
    for cuts in cuts::all(wire.len()) {
        let source = Source::new(wire, &cuts);
        let seen = read(
            framing,
            Mode::Whole,
            skip_max,
            source.clone(),
            &mut buffer[..],
        );
        assert_eq!(seen, want, "cut at {cuts:?}");
        let source = source.pending();
        let seen = read_async(framing, Mode::Whole, skip_max, source, &mut buffer[..]);
        assert_eq!(seen, want, "cut at {cuts:?}, asynch");
    }
}

fn limits(block_max: u32) -> Limits {
    Limits {
        block_max,
        skip_max: Limits::SKIP_MAX,
    }
}

fn parse(spec: &str) -> AnyFraming {
    spec.parse().expect(spec)
}

fn block(bytes: &[u8]) -> Event {
    Event::Block(bytes.to_vec())
}

fn too_long(declared: Option<u32>, limit: u32) -> Event {
    Event::Fault(Fault::TooLong {
        declared,
        limit,
        lost: false,
    })
}

/// The fault of a stream that ends after this many bytes of an unfinished message.
fn cut(have: u32) -> Event {
    let part = Part::Payload;
    Event::Fault(Fault::Truncated {
        part,
        have,
        want: have + 1,
    })
}
