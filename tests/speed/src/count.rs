//! Counts instructions per message with callgrind. `tests/baseline.py` compares them with the committed figures.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;

use crate::cases::{Case, framings, with};
use crate::ours::{Encoded, Pieces, Sent, Whole};

/// The message lengths that are counted; the second shows costs that grow with the length.
const LENS: [usize; 2] = [64, 1_500];
/// Approximate length of a window.
const WINDOW_LEN: usize = 128 << 10;
/// Limit for `blocks`: instructions to find one whole message.
const BLOCKS_MOST: u32 = 32;

/// Runs every case once, in a fixed order. Callgrind counts each call of [`counted`] separately.
pub(crate) fn run() {
    each(|_, case, way| {
        let mut window = case.wire.clone();
        let mut out = Vec::with_capacity(2 * case.wire.len());
        let mut room = vec![0; 2 * case.wire.len()];
        // A first uncounted call allocates memory and resolves functions.
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

/// The only function in which callgrind counts; it writes its counts when the function returns.
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

/// Prints the figures that callgrind wrote into `folder`, in the format that `tests/baseline.py` reads.
pub(crate) fn print(folder: &str) -> ExitCode {
    let (mut number, mut failed) = (0, false);
    each(|name, case, _| {
        number += 1;
        let file = Path::new(folder).join(format!("counts.{number}"));
        let text = fs::read_to_string(&file).unwrap_or_default();
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let Some(total) = total.and_then(|total| total.trim().parse::<f64>().ok()) else {
            eprintln!(
                "{}: it has no total; run this program under callgrind",
                file.display()
            );
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
