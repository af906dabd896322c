//! Instructions a message, counted by callgrind. `tests/baseline.py` compares them with the committed figures.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;

use crate::cases::{Case, framings, with};
use crate::ours::{Encoded, Pieces, Sent, Whole};

/// Messages of these lengths are counted; what grows with the length is seen by the second.
const LENS: [usize; 2] = [64, 1_500];
/// Bytes of one window, about.
const WINDOW_LEN: usize = 128 << 10;
/// The bar of `blocks`: instructions to find one whole.
const BLOCKS_MOST: u32 = 32;

/// Does every case once, in a fixed order. Callgrind counts each call of [`counted`] by itself.
pub(crate) fn run() {
    each(|_, case, way| {
        let mut window = case.wire.clone();
        let mut out = Vec::with_capacity(2 * case.wire.len());
        let mut room = vec![0; 2 * case.wire.len()];
        // Once so that memory is there and functions are found, and is not counted.
        for run in [false, true] {
            window.copy_from_slice(&case.wire);
            let mut work = || match way {
                "whole" => with(
                    case.framing,
                    Whole {
                        window: &mut window,
                    },
                ),
                "pieces" => {
                    let (wire, window) = (case.wire.as_slice(), &mut out);
                    with(case.framing, Pieces { wire, window })
                }
                "encode" => {
                    let out = room.as_mut_slice();
                    with(case.framing, Encoded { case, out })
                }
                _ => {
                    let out = &mut out;
                    with(case.framing, Sent { case, out })
                }
            };
            black_box(if run { counted(&mut work) } else { work() });
        }
    });
}

/// The only function in which callgrind counts, and after which it writes.
#[inline(never)]
fn counted(work: &mut dyn FnMut() -> u64) -> u64 {
    black_box(work())
}

fn each(mut call: impl FnMut(&str, &Case, &'static str)) {
    for way in ["whole", "pieces", "encode", "send"] {
        for spec in framings() {
            for len in LENS {
                if let Some(case) = Case::new(&spec, len, WINDOW_LEN) {
                    call(&format!("{way} {spec} {len}"), &case, way);
                }
            }
        }
    }
}

/// Prints the figures that callgrind wrote into `folder`, as `tests/baseline.py` reads them.
pub(crate) fn print(folder: &str) -> ExitCode {
    let (mut number, mut failed) = (0, false);
    each(|name, case, _| {
        number += 1;
        let file = Path::new(folder).join(format!("counts.{number}"));
        let text = fs::read_to_string(&file).unwrap_or_default();
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let Some(total) = total.and_then(|total| total.trim().parse::<f64>().ok()) else {
            eprintln!("{}: no total; was it run under callgrind?", file.display());
            failed = true;
            return;
        };
        let each = total / case.count as f64;
        if name.starts_with("whole blocks ") {
            println!("{name} instructions {each:.1} <= {BLOCKS_MOST}");
        } else {
            println!("{name} instructions {each:.1}");
        }
    });
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
