//! Whether a message ended in what was scanned: what the time-outs of the daemon count from.

use framing_core::{AnyFraming, Decode, Framing, Limits, Scanned};
use tests::drive::wire_of;
use tests::messages::{message, specs};
use tests::samples::Give;

/// Messages that are taken, and messages that are too long, whole or in pieces.
const WAYS: [(u32, bool); 3] = [(100, false), (8, false), (8, true)];

#[test]
fn at_every_split_a_decoder_knows_whether_a_message_ended() {
    for spec in specs(20).iter().filter(|spec| *spec != "stream") {
        let framing: AnyFraming = spec.parse().unwrap();
        let gives = [
            Give::Message(message(spec, 20)),
            Give::Message(message(spec, 20)),
        ];
        let wire = wire_of(framing, &gives);
        let first = wire_of(framing, &gives[..1]).len();
        for (block_max, in_pieces) in WAYS {
            let limits = Limits {
                block_max,
                skip_max: 1000,
            };
            for from in 0..=wire.len() {
                for to in from..=wire.len() {
                    let mut decoder = framing.decoder();
                    let mut window = wire[..from].to_vec();
                    let used = scan(&mut decoder, &mut window, &limits, in_pieces).used;
                    window.drain(..used);
                    window.extend(&wire[from..to]);
                    let ended = scan(&mut decoder, &mut window, &limits, in_pieces).ended;
                    let ends = [first, wire.len()];
                    let want = ends.iter().any(|end| (from + 1..=to).contains(end));
                    assert_eq!(ended, want, "{spec}, {from}..{to}, {block_max} {in_pieces}");
                }
            }
        }
    }
}

#[test]
fn the_end_of_a_series_is_one_and_a_stream_has_none() {
    let blocks: AnyFraming = "blocks".parse().unwrap();
    let limits = Limits {
        block_max: 8,
        skip_max: 8,
    };
    assert!(scan(&mut blocks.decoder(), &mut [0; 4], &limits, false).ended);
    let stream: AnyFraming = "stream".parse().unwrap();
    assert!(!scan(&mut stream.decoder(), &mut [0; 4], &limits, true).ended);
}

fn scan(decoder: &mut impl Decode, window: &mut [u8], limits: &Limits, in_pieces: bool) -> Scanned {
    if in_pieces {
        decoder.scan_all::<true>(window, limits, |_, _| true)
    } else {
        decoder.scan_all::<false>(window, limits, |_, _| true)
    }
}
