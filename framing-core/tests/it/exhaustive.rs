//! Every input up to a length, over the few bytes that matter to its framing, at every split, with small limits.
//!
//! `FRAMING_DEPTH=N` adds N bytes to each length (or subtracts them); each additional byte takes four to ten times longer.

use framing_core::{Framing, Limits};
use framing_core_testing::drive::{MODES, Mode};
use framing_core_testing::properties::{Known, UNLIMITED, check, walk};

#[test]
fn lengths_of_one_byte() {
    try_all("length:u8", &[0, 1, 2, 9], 6);
}

#[test]
fn lengths_of_two_bytes() {
    try_all("length:u16", &[0, 1, 2], 7);
    try_all("length:u16le", &[0, 1, 2], 7);
}

#[test]
fn lengths_of_four_bytes() {
    // Both a series and single messages: one bit is enough for a header, its payload and the next header.
    try_all("blocks", &[0, 1], 9);
    try_all("length:u32", &[0, 1], 9);
    try_all("length:u32le", &[0, 1], 9);
}

#[test]
fn lengths_of_any_bytes() {
    try_all("length:varint", &[0, 2, 0x80, 0x81, 0xff], 6);
}

#[test]
fn lengths_in_digits() {
    try_all("netstring", b"012:,", 6);
    try_all("octet-counted", b"012 x", 6);
}

#[test]
fn lengths_known_before() {
    try_all("fixed:1", b"a", 6);
    try_all("fixed:3", b"ab", 8);
}

#[test]
fn lines() {
    try_all("lines", b"a\r\n", 7);
}

#[test]
fn delimiters() {
    try_all("delimited:00", b"\0a", 8);
    try_all("delimited:0d0a", b"a\r\n", 7);
    // Delimiters that overlap themselves.
    try_all("delimited:6161", b"ab", 8);
    try_all("delimited:616162", b"ab", 8);
    try_all("delimited:61626162", b"ab", 9);
}

#[test]
fn escaped_groups() {
    try_all("cobs", &[0, 1, 2, 3, 255], 6);
}

#[test]
fn checksums() {
    // Both checksums of the empty message, and of a zero the narrow one, are zero.
    try_all("cobs-crc16", &[0, 1, 2, 255], 7);
    try_all("cobs-crc32", &[0, 1, 5], 8);
}

#[test]
fn no_framing() {
    try_all("stream", b"a", 8);
}

/// Limits just around short messages, and limits that never apply.
const LIMITS: [Limits; 3] = [
    Limits {
        block_max: 1,
        skip_max: 2,
    },
    Limits {
        block_max: 0,
        skip_max: Limits::SKIP_MAX,
    },
    UNLIMITED,
];

fn try_all(spec: &'static str, alphabet: &[u8], len_max: usize) {
    let deeper = std::env::var("FRAMING_DEPTH").map_or(0, |depth| depth.parse().expect("a number"));
    let known = Known::of(spec);
    for len in 0..=len_max.saturating_add_signed(deeper) {
        let mut digits = vec![0; len];
        loop {
            let wire: Vec<_> = digits
                .iter()
                .map(|&digit: &usize| alphabet[digit])
                .collect();
            try_splits(&known, &wire);
            // Counts up, with this many digits.
            let Some(at) = digits.iter().position(|&digit| digit + 1 < alphabet.len()) else {
                break;
            };
            digits[..at].fill(0);
            digits[at] += 1;
        }
    }
}

/// Each bit of `split` says whether the wire is cut after a byte. The whole wire is compared with the reference, and every
/// split with the whole wire.
fn try_splits(known: &Known, wire: &[u8]) {
    let (framing, spec) = (known.framing, known.spec);
    for limits in LIMITS {
        for mode in MODES {
            if mode == Mode::Pieces && limits != UNLIMITED {
                continue;
            }
            let whole = walk(&mut framing.decoder(), mode, wire, |_| wire.len(), &limits);
            check(known, mode, wire, &limits, &whole);
            for split in 1..1_u64 << wire.len().saturating_sub(1) {
                let mut at = 0;
                let feed = |_| {
                    let len = 1 + (split >> at).trailing_zeros() as usize;
                    at += len;
                    len
                };
                let seen = walk(&mut framing.decoder(), mode, wire, feed, &limits);
                assert_eq!(
                    seen.events, whole.events,
                    "{spec} {mode:?} {limits:?}: {wire:02x?} split by {split:b}"
                );
            }
        }
    }
}
