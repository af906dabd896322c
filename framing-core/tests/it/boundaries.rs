//! Whether a message ended in the scanned bytes, which the daemon's timeouts depend on; and the lengths that each framing
//! reports.

use framing_core::{AnyFraming, Decode, Encode, Fault, Framing, Limits, Scanned, Step};
use framing_core_testing::drive::wire_of;
use framing_core_testing::messages::{message, specs_of};
use framing_core_testing::properties::{SPECS, UNLIMITED};
use framing_core_testing::samples::Give;
use framing_core_testing::sizes::{buffer_len, wire_len};

/// Limits and modes: messages within the limit, messages over it, and messages over it in pieces.
const WAYS: [(u32, bool); 3] = [(100, false), (8, false), (8, true)];

#[test]
fn a_decoder_knows_at_every_split_whether_a_message_ended() {
    for spec in specs_of(20).iter().filter(|spec| *spec != "stream") {
        let framing: AnyFraming = spec.parse().unwrap();
        let gives = [
            Give::Message(message(spec, 20)),
            Give::Message(message(spec, 20)),
        ];
        let wire = wire_of(framing, &gives);
        let first = wire_of(framing, &gives[..1]).len();
        for (block_max, streaming) in WAYS {
            let limits = Limits {
                block_max,
                skip_max: 1000,
            };
            for from in 0..=wire.len() {
                for to in from..=wire.len() {
                    let mut decoder = framing.decoder();
                    let mut window = wire[..from].to_vec();
                    let used = scan(&mut decoder, &mut window, &limits, streaming).used;
                    window.drain(..used);
                    window.extend(&wire[from..to]);
                    let ended = scan(&mut decoder, &mut window, &limits, streaming).ended;
                    let ends = [first, wire.len()];
                    let want = ends.iter().any(|end| (from + 1..=to).contains(end));
                    assert_eq!(ended, want, "{spec}, {from}..{to}, {block_max} {streaming}");
                }
            }
        }
    }
}

#[test]
fn an_end_mark_counts_as_an_end_and_a_stream_never_ends() {
    let blocks: AnyFraming = "blocks".parse().unwrap();
    let limits = Limits {
        block_max: 8,
        skip_max: 8,
    };
    assert!(scan(&mut blocks.decoder(), &mut [0; 4], &limits, false).ended);
    let stream: AnyFraming = "stream".parse().unwrap();
    assert!(!scan(&mut stream.decoder(), &mut [0; 4], &limits, true).ended);
}

#[test]
fn an_escaped_message_is_decoded_in_place_and_consumed_with_its_delimiter() {
    let cobs: AnyFraming = "cobs".parse().unwrap();
    let step = |mut wire: [u8; 4]| cobs.decoder().scan::<false>(&mut wire, &UNLIMITED);
    let whole = Step::Payload {
        start: 1,
        end: 3,
        take: 4,
        first: true,
        last: true,
    };
    assert_eq!(step(*b"\x03ab\0"), whole);
    let fault = Fault::EarlyEnd { missing: 2 };
    assert_eq!(step(*b"\x05ab\0"), Step::Fault { take: 4, fault });
}

#[test]
fn a_buffer_of_buffer_len_has_exactly_the_requested_limit() {
    for spec in SPECS.iter() {
        let framing: AnyFraming = spec.parse().unwrap();
        for len in 0..1100 {
            let buffer_len = buffer_len(framing, len);
            let block_max = framing.decoder().block_max(buffer_len);
            assert!(len <= block_max as usize, "{spec}, {len} in {buffer_len}");
        }
    }
}

#[test]
fn wire_len_has_room_for_the_longest_header() {
    let powers = (0..10).map(|power| 10_u32.pow(power));
    let near = powers.flat_map(|power| [power - 1, power]);
    for len in near.chain([127, 128, 255, 256, 65535, 65536, u32::MAX]) {
        for spec in SPECS.iter() {
            let framing: AnyFraming = spec.parse().unwrap();
            let mut encoder = framing.encoder();
            let mut stage = [0; 512];
            let Ok(header) = encoder.header(len, &mut stage) else {
                continue;
            };
            let trailer = encoder.trailer(&mut stage).unwrap();
            let most = wire_len(framing, len as usize);
            assert!(
                header + len as usize + trailer <= most,
                "{spec}, {len} bytes"
            );
        }
    }
}

fn scan(decoder: &mut impl Decode, window: &mut [u8], limits: &Limits, streaming: bool) -> Scanned {
    if streaming {
        decoder.scan_all::<true>(window, limits, |_, _| true)
    } else {
        decoder.scan_all::<false>(window, limits, |_, _| true)
    }
}
