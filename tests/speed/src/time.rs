//! Measures times as ratios: all ways of doing one thing in turn, round by round.

use std::hint::black_box;
use std::time::{Duration, Instant};

use asynchronous_codec::LengthCodec;
use bytes::{Bytes, BytesMut};
use tokio_util::codec::LinesCodec;

use crate::cases::{Case, LENS, MIXES, framings, with};
use crate::others;
use crate::ours::{Encoded, Pieces, Sent, Whole};

/// Approximate length of a window.
const WINDOW_LEN: usize = 128 << 10;

/// Messages in a window of mixed lengths: a processor's branch predictor remembers a short sequence.
const MIXED_COUNTS: [usize; 2] = [100, 1_000];

/// One way of doing a thing, which returns the time that it took.
type Way<'a> = (&'static str, Box<dyn FnMut() -> Duration + 'a>);

/// Prints the tables.
pub(crate) fn measure(rounds: usize) {
    let header = "| framing | message | ns/message | ns/message of the others, and how many times ours (spread) |";
    for (title, ways) in [
        (
            "Decoding a whole window",
            whole as fn(&Case) -> Vec<Way<'_>>,
        ),
        ("Decoding pieces of 1,460 bytes", pieces),
        ("Encoding into memory that is reused", encode),
    ] {
        println!("{title}:\n\n{header}\n|---|---:|---:|---|");
        for spec in framings() {
            for len in LENS {
                if let Some(case) = Case::new(&spec, len, WINDOW_LEN) {
                    row(&spec, &len.to_string(), &case, &mut ways(&case), rounds);
                }
            }
        }
        println!();
    }
    println!(
        "Decoding a whole window of `blocks` whose lengths change:\n\n{header}\n|---|---:|---:|---|"
    );
    for (name, mix) in MIXES {
        for count in MIXED_COUNTS {
            let case = Case::mixed(mix, count);
            row(
                "blocks",
                &format!("{name}, {count}"),
                &case,
                &mut whole(&case),
                rounds,
            );
        }
    }
}

fn row(spec: &str, lengths: &str, case: &Case, ways: &mut [Way<'_>], rounds: usize) {
    let mut times = vec![Vec::with_capacity(rounds); ways.len()];
    for round in 0..=rounds {
        for ((_, way), times) in ways.iter_mut().zip(&mut times) {
            let took = way().as_secs_f64() * 1e9 / case.count as f64;
            // The first round only warms up.
            if round != 0 {
                times.push(took);
            }
        }
    }
    let (ours, others) = times.split_first().expect("ours is the first");
    let others = ways.iter().skip(1).zip(others).map(|((name, _), theirs)| {
        let ratios = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours);
        let [least, middle, most] = spread(ratios.collect());
        let [_, ns, _] = spread(theirs.clone());
        format!("{name} {ns:.1}: {middle:.2} ({least:.2}–{most:.2})")
    });
    let others: Vec<_> = others.collect();
    let [_, ns, _] = spread(ours.clone());
    println!("| `{spec}` | {lengths} | {ns:.1} | {} |", others.join("; "));
}

/// The minimum, median and maximum without the outer tenths, since other processes cause outliers.
fn spread(mut figures: Vec<f64>) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    let last = figures.len() - 1;
    [last / 10, last / 2, last - last / 10].map(|at| figures[at])
}

/// Times a call that returns a number of messages, and checks that number.
fn timed(want: Option<u64>, work: impl FnOnce() -> u64) -> Duration {
    let begun = Instant::now();
    let found = black_box(work());
    let took = begun.elapsed();
    assert!(
        want.is_none_or(|want| want == found),
        "found {found}, not {want:?}"
    );
    took
}

/// The expected number of messages, if the framing has messages.
fn count(case: &Case) -> Option<u64> {
    let is_stream = case.framing.to_string() == "stream";
    (!is_stream).then_some(case.count as u64)
}

fn whole(case: &Case) -> Vec<Way<'_>> {
    let want = count(case);
    let mut window = case.wire.clone();
    let mut ways: Vec<Way<'_>> = vec![(
        "framing-core",
        Box::new(move || {
            window.copy_from_slice(&case.wire);
            let window = &mut window;
            timed(want, || with(case.framing, Whole { window }))
        }),
    )];
    let mut copy = Vec::with_capacity(case.wire.len());
    let mut window = case.wire.clone();
    match case.framing.to_string().as_str() {
        "blocks" => {
            ways.push((
                "a loop by hand",
                Box::new(move || timed(want, || others::loop_over_blocks(&case.wire))),
            ));
            ways.push((
                "tokio-util",
                Box::new(move || {
                    let mut window = BytesMut::from(case.wire.as_slice());
                    timed(want, || {
                        others::tokio_whole(others::length_delimited(), &mut window)
                    })
                }),
            ));
            let wire = others::wire_of_length_codec(case);
            ways.push((
                "asynchronous-codec `LengthCodec`",
                Box::new(move || {
                    let mut window = BytesMut::from(wire.as_slice());
                    timed(want, || {
                        others::asynchronous_whole(LengthCodec, &mut window)
                    })
                }),
            ));
        }
        "lines" => {
            ways.push((
                "`slice::split`",
                Box::new(move || timed(want, || others::split_lines(&case.wire))),
            ));
            ways.push((
                "tokio-util `LinesCodec`",
                Box::new(move || {
                    let mut window = BytesMut::from(case.wire.as_slice());
                    timed(None, || others::tokio_whole(LinesCodec::new(), &mut window))
                }),
            ));
        }
        "cobs" => ways.push((
            "`cobs`",
            Box::new(move || {
                window.copy_from_slice(&case.wire);
                timed(want, || others::cobs_in_place(&mut window))
            }),
        )),
        "netstring" => ways.push((
            "a loop by hand",
            Box::new(move || timed(want, || others::loop_over_netstrings(&case.wire))),
        )),
        _ => {}
    }
    ways.push((
        "`memcpy`",
        Box::new(move || {
            timed(None, || {
                copy.clear();
                copy.extend_from_slice(black_box(&case.wire));
                black_box(copy.len()) as u64
            })
        }),
    ));
    ways
}

fn pieces(case: &Case) -> Vec<Way<'_>> {
    let want = count(case);
    let mut window = Vec::with_capacity(case.wire.len());
    let mut ways: Vec<Way<'_>> = vec![(
        "framing-core",
        Box::new(move || {
            let (wire, window) = (case.wire.as_slice(), &mut window);
            timed(want, || with(case.framing, Pieces { wire, window }))
        }),
    )];
    match case.framing.to_string().as_str() {
        "blocks" => ways.push((
            "tokio-util",
            Box::new(move || {
                let mut window = BytesMut::with_capacity(case.wire.len());
                timed(want, || {
                    others::tokio_pieces(others::length_delimited(), &case.wire, &mut window)
                })
            }),
        )),
        "lines" => ways.push((
            "tokio-util `LinesCodec`",
            Box::new(move || {
                let mut window = BytesMut::with_capacity(case.wire.len());
                timed(None, || {
                    others::tokio_pieces(LinesCodec::new(), &case.wire, &mut window)
                })
            }),
        )),
        _ => {}
    }
    ways
}

fn encode(case: &Case) -> Vec<Way<'_>> {
    let want = Some(case.count as u64);
    let mut out = vec![0; 2 * case.wire.len() + 64];
    let mut ways: Vec<Way<'_>> = vec![(
        "framing-core",
        Box::new(move || {
            let out = out.as_mut_slice();
            timed(want, || with(case.framing, Encoded { case, out }))
        }),
    )];
    let mut out = Vec::with_capacity(2 * case.wire.len());
    ways.push((
        "`Sender`",
        Box::new(move || {
            let out = &mut out;
            timed(want, || with(case.framing, Sent { case, out }))
        }),
    ));
    let mut out = Vec::with_capacity(2 * case.wire.len());
    match case.framing.to_string().as_str() {
        "blocks" => {
            ways.push((
                "header and copy by hand",
                Box::new(move || timed(want, || others::copy_with_header(case, &mut out))),
            ));
            let payload = Bytes::from(case.payload.clone());
            let mut out = BytesMut::with_capacity(2 * case.wire.len());
            ways.push((
                "tokio-util",
                Box::new(move || timed(want, || others::tokio_encode(case, &payload, &mut out))),
            ));
        }
        "cobs" => ways.push((
            "`cobs`",
            Box::new(move || timed(want, || others::cobs_encode(case, &mut out))),
        )),
        _ => {}
    }
    ways
}
