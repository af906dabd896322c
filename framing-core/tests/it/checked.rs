//! `cobs-crc16` and `cobs-crc32`: damage is detected, and the next message arrives.

use framing_core::{
    AnyFraming, Cobs, Decode, Encode, Fault, Framing, Limits, Refusal, Step, encode,
};
use framing_core_testing::drive::{MODES, Mode, scan, wire_of};
use framing_core_testing::properties::UNLIMITED;
use framing_core_testing::samples::{Event, Give};

const SPECS: [(&str, usize); 2] = [("cobs-crc16", 2), ("cobs-crc32", 4)];

/// The catalogue of CRC algorithms gives these for the text.
#[test]
fn the_checksum_of_the_text_of_the_catalogue_is_its_check_value() {
    for (spec, sum) in [
        ("cobs-crc16", &[0x31, 0xc3][..]),
        ("cobs-crc32", &[0xcb, 0xf4, 0x39, 0x26]),
    ] {
        let wire = sent(spec, &[b"123456789"]);
        assert_eq!(wire[10..], [sum, &[0]].concat(), "{spec}");
        assert_eq!(usize::from(wire[0]), 10 + sum.len(), "{spec}");
    }
}

#[test]
fn each_flipped_bit_is_detected_and_the_message_after_the_next_delimiter_arrives() {
    for (spec, _) in SPECS {
        for message in messages() {
            if spec == "cobs-crc16" && message.starts_with(b"\0") {
                // A zero in front that is lost is not seen: see below.
                continue;
            }
            let wire = sent(spec, &[&message, b"the next", b"the last"]);
            let first = sent(spec, &[&message]).len();
            // The last byte is the delimiter: see the next test.
            for bit in 0..8 * (first - 1) {
                let mut damaged = wire.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                for mode in MODES {
                    let seen = decoded(spec, mode, &damaged);
                    let what = format!("{spec} {mode:?}, bit {bit} of {message:02x?}: {seen:?}");
                    let blocks = blocks(&seen);
                    assert!(blocks.ends_with(&[b"the next", b"the last"]), "{what}");
                    assert_eq!(blocks.len(), 2, "{what}");
                    assert!(matches!(seen[0], Event::Fault(_)), "{what}");
                }
            }
        }
    }
}

/// A delimiter that is lost or flipped joins two messages: the wide checksum refuses them.
#[test]
fn a_damaged_delimiter_costs_two_messages() {
    for message in messages() {
        let wire = sent("cobs-crc32", &[&message, b"the next", b"the last"]);
        let at = sent("cobs-crc32", &[&message]).len() - 1;
        let mut lost = wire.clone();
        lost.remove(at);
        let flipped = (0..8).map(|bit| {
            let mut wire = wire.clone();
            wire[at] ^= 1 << bit;
            wire
        });
        for wire in flipped.chain([lost]) {
            for mode in MODES {
                let seen = decoded("cobs-crc32", mode, &wire);
                assert!(matches!(seen[0], Event::Fault(_)), "{seen:?}");
                assert_eq!(blocks(&seen), [b"the last"], "{message:02x?}");
            }
        }
    }
}

/// The narrow checksum begins at 0, and comes back to 0 after a message with its checksum. So it does not see that a
/// delimiter is lost. The documentation says so.
#[test]
fn the_narrow_checksum_does_not_see_a_lost_delimiter() {
    let mut wire = sent("cobs-crc16", &[b"one", b"two"]);
    let at = sent("cobs-crc16", &[b"one"]).len() - 1;
    wire.remove(at);
    let seen = decoded("cobs-crc16", Mode::Whole, &wire);
    let [joined] = blocks(&seen)[..] else {
        panic!("{seen:?}");
    };
    assert!(joined.starts_with(b"one") && joined.ends_with(b"\0two"));
    // With a zero in front of each message, too, one of two delimiters may be lost.
    wire = [
        b"\0",
        &sent("cobs-crc16", &[b"one"])[..],
        b"\0",
        &sent("cobs-crc16", &[b"two"]),
    ]
    .concat();
    wire.remove(at + 1);
    let seen = decoded("cobs-crc16", Mode::Whole, &wire);
    assert_eq!(blocks(&seen), [b"one", b"two"]);
}

/// Zeros in front do not change the narrow checksum. Each is a code of one byte, so one that is lost is not seen.
#[test]
fn each_byte_that_is_lost_or_doubled_is_detected() {
    for (spec, _) in SPECS {
        for message in messages() {
            let wire = sent(spec, &[&message, b"the next"]);
            let first = sent(spec, &[&message]).len() - 1;
            for at in 0..first {
                for doubles in [false, true] {
                    let mut damaged = wire.clone();
                    if doubles {
                        damaged.insert(at, damaged[at]);
                    } else {
                        damaged.remove(at);
                    }
                    let seen = decoded(spec, Mode::Whole, &damaged);
                    let good = blocks(&seen);
                    let is_blind = spec == "cobs-crc16"
                        && wire[..=at].iter().all(|&byte| byte == 1)
                        && (doubles || !message.is_empty());
                    let want = 1 + usize::from(is_blind);
                    assert_eq!(
                        good.len(),
                        want,
                        "{spec}, byte {at} of {message:02x?}: {seen:?}"
                    );
                    assert_eq!(good.last(), Some(&&b"the next"[..]));
                }
            }
        }
    }
}

/// `Limits` count the payload, and so does the limit that a buffer gives.
#[test]
fn limits_count_the_payload_without_its_checksum() {
    for (spec, width) in SPECS {
        let framing = parse(spec);
        for len in 0..600 {
            let plain = Cobs.decoder().block_max(Cobs::buffer_len(len + width));
            let decoder = framing.decoder();
            let buffer_len = framing_core_testing::sizes::buffer_len(framing, len);
            assert_eq!(decoder.block_max(buffer_len), plain - width as u32);
            let message = vec![b'x'; len];
            let wire = sent(spec, &[&message, b""]);
            let of = |block_max| Limits {
                block_max,
                skip_max: Limits::SKIP_MAX,
            };
            let seen = scan(framing.decoder(), Mode::Whole, &wire, &[], &of(len as u32));
            assert_eq!(blocks(&seen).len(), 2, "{spec}, {len} bytes");
            let Some(limit) = len.checked_sub(1) else {
                continue;
            };
            let limit = limit as u32;
            let seen = scan(framing.decoder(), Mode::Whole, &wire, &[], &of(limit));
            let fault = Fault::TooLong {
                declared: None,
                limit,
                lost: false,
            };
            let empty = Event::Block(vec![]);
            assert_eq!(seen, [Event::Fault(fault), empty, Event::Closed], "{spec}");
        }
        let max = u32::MAX - width as u32;
        let encoder = framing.encoder();
        assert_eq!(encoder.header(max, &mut []), Ok(0));
        let too_long = Refusal::TooLong { len: max + 1, max };
        assert_eq!(encoder.header(max + 1, &mut []), Err(too_long));
    }
}

/// A caller may ask for pieces at any time, and stop asking at any time: a message of which nothing was handed out arrives
/// whole, and the rest of one is skipped if pieces of it were handed out.
#[test]
fn a_change_between_pieces_and_whole_messages_loses_no_message_in_silence() {
    for (spec, _) in SPECS {
        for len in 0..12 {
            let messages = [&b"before"[..], &b"hello, world"[..len], b"after"];
            let wire = sent(spec, &messages);
            for at in 0..=wire.len() {
                let mut decoder = parse(spec).decoder();
                let mut window = wire[..at].to_vec();
                let (mut used, mut begun, mut handed) = (0, 0, vec![]);
                scan_on::<true>(&mut decoder, &mut window, &mut used, |piece, first, _| {
                    begun += usize::from(first);
                    handed.extend(piece);
                });
                assert!(messages[..begun].concat().starts_with(&handed));
                window.extend(&wire[at..]);
                let mut whole = vec![];
                scan_on::<false>(&mut decoder, &mut window, &mut used, |message, _, _| {
                    whole.push(message);
                });
                let rest = &messages[begun..];
                assert_eq!(whole, rest, "{spec}, {len} bytes, pieces up to {at}");
            }
        }
    }
}

/// A message that was refused as too long is handed out if pieces are asked for next; the one after it is whole again.
#[test]
fn pieces_can_be_asked_for_after_a_refusal() {
    let limits = Limits {
        block_max: 3,
        skip_max: Limits::SKIP_MAX,
    };
    for (spec, _) in SPECS {
        for (message, then_pieces) in [
            (&b"four"[..], true),
            (b"four", false),
            (b"twelve bytes", true),
        ] {
            let mut wire = sent(spec, &[message, b"one", b"x"]);
            let mut decoder = parse(spec).decoder();
            let step = decoder.scan::<false>(&mut wire, &limits);
            assert!(matches!(step, Step::Fault { take: 0, .. }), "{step:?}");
            let mut used = 0;
            let mut seen = vec![];
            if then_pieces {
                scan_on::<true>(&mut decoder, &mut wire, &mut used, |piece, _, _| {
                    seen.push(piece);
                });
                assert_eq!(seen, [message, b"one", b"x"], "{spec}");
                continue;
            }
            // Skipped whole; in the middle of the next message, pieces are asked for.
            while let Step::Skip { take, .. } = decoder.scan::<false>(&mut wire[used..], &limits) {
                used += take;
                if !decoder.is_mid_block() {
                    break;
                }
            }
            let end = used + 2;
            let step = decoder.scan::<false>(&mut wire[used..end], &limits);
            assert!(matches!(step, Step::NeedMore { .. }), "{step:?}");
            scan_on::<true>(&mut decoder, &mut wire, &mut used, |piece, _, _| {
                seen.push(piece);
            });
            assert_eq!(seen, [&b"one"[..], b"x"], "{spec}");
        }
    }
}

fn scan_on<const STREAMING: bool>(
    decoder: &mut impl Decode,
    window: &mut [u8],
    used: &mut usize,
    mut each: impl FnMut(Vec<u8>, bool, bool),
) {
    loop {
        let rest = &mut window[*used..];
        match decoder.scan::<STREAMING>(rest, &UNLIMITED) {
            Step::NeedMore { .. } => return,
            Step::Payload {
                start,
                end,
                take,
                first,
                last,
            } => {
                each(rest[start..end].to_vec(), first, last);
                *used += take;
            }
            Step::Skip { take, .. } => *used += take,
            step => panic!("{step:?}"),
        }
    }
}

/// Messages with zeros in every place, with groups of 254 bytes, and empty.
fn messages() -> Vec<Vec<u8>> {
    let long = (0..300_usize).map(|at| b'a' + (at % 7) as u8);
    vec![
        vec![],
        b"x".to_vec(),
        b"\0".to_vec(),
        b"\0\0hello".to_vec(),
        b"hello\0world\0".to_vec(),
        b"\x01\x02\x03\xff\xfe".to_vec(),
        long.clone().take(252).collect(),
        long.clone().collect(),
        long.map(|byte| if byte == b'c' { 0 } else { byte })
            .collect(),
    ]
}

fn decoded(spec: &str, mode: Mode, wire: &[u8]) -> Vec<Event> {
    scan(parse(spec).decoder(), mode, wire, &[], &UNLIMITED)
}

fn blocks(events: &[Event]) -> Vec<&[u8]> {
    events.iter().filter_map(block_of).collect()
}

fn block_of(event: &Event) -> Option<&[u8]> {
    match event {
        Event::Block(bytes) => Some(bytes),
        _ => None,
    }
}

fn sent(spec: &str, messages: &[&[u8]]) -> Vec<u8> {
    let gives: Vec<_> = messages
        .iter()
        .map(|message| Give::Message(message.to_vec()))
        .collect();
    let wire = wire_of(parse(spec), &gives);
    let mut encoded = vec![];
    for message in messages {
        let mut out = vec![0; wire.len()];
        let len = encode(&mut parse(spec).encoder(), *message, &mut out).unwrap();
        encoded.extend_from_slice(&out[..len]);
    }
    assert_eq!(encoded, wire, "{spec}");
    wire
}

fn parse(spec: &str) -> AnyFraming {
    spec.parse().expect(spec)
}
