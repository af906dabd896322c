//! A test that no message causes an allocation, in any framing, received or sent.

use allocation_counter::measure;

use crate::cases::{Case, LENS, framings, with};
use crate::ours::{Encoded, Pieces, Sent, Whole};

#[test]
fn nothing_is_allocated_for_a_message() {
    let mut cases = 0;
    for spec in framings() {
        for case in LENS
            .iter()
            .filter_map(|&len| Case::new(&spec, len, 16 << 10))
        {
            let mut window = case.wire.clone();
            let mut pieces = Vec::with_capacity(2 * case.wire.len());
            let mut room = vec![0; 2 * case.wire.len()];
            let mut sent = Vec::with_capacity(2 * case.wire.len());
            let (framing, case) = (case.framing, &case);
            let taken = measure(|| {
                let wire = case.wire.as_slice();
                let (window, pieces) = (&mut window, &mut pieces);
                with(framing, Whole { window });
                with(
                    framing,
                    Pieces {
                        wire,
                        window: pieces,
                    },
                );
                let (out, sent) = (room.as_mut_slice(), &mut sent);
                with(framing, Encoded { case, out });
                with(framing, Sent { case, out: sent });
            });
            assert_eq!(taken.count_total, 0, "{spec}, {} bytes", case.len);
            cases += 1;
        }
    }
    assert!(framings().count() < cases, "too few cases");
}
