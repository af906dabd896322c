//! The code that the framings are compared with: other libraries, loops written by hand, and a plain copy.

use std::hint::black_box;

use asynchronous_codec as asynchronous;
use bytes::{Bytes, BytesMut};
use tokio_util::codec::{self, Decoder, Encoder};

use crate::cases::{Case, PIECE_LEN};

/// A loop by hand for a 4-byte big-endian length: safe slices, no state.
#[inline(never)]
pub(crate) fn loop_over_blocks(wire: &[u8]) -> u64 {
    let (mut at, mut blocks) = (0, 0);
    while let Some(header) = wire.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        let len = u32::from_be_bytes(*header) as usize;
        if wire.len() - at - 4 < len {
            break;
        }
        black_box((at + 4, at + 4 + len));
        at += 4 + len;
        blocks += 1;
    }
    blocks
}

/// A loop by hand for a decimal length and a colon before each message, and a comma after it.
#[inline(never)]
pub(crate) fn loop_over_netstrings(wire: &[u8]) -> u64 {
    let (mut at, mut blocks) = (0, 0);
    loop {
        let (mut len, mut start) = (0, at);
        while let Some(digit @ b'0'..=b'9') = wire.get(start) {
            len = len * 10 + usize::from(digit - b'0');
            start += 1;
        }
        if wire.get(start) != Some(&b':') || wire.get(start + 1 + len) != Some(&b',') {
            return blocks;
        }
        black_box((start + 1, start + 1 + len));
        at = start + len + 2;
        blocks += 1;
    }
}

/// Splits lines with `slice::split`.
#[inline(never)]
pub(crate) fn split_lines(wire: &[u8]) -> u64 {
    wire.split_inclusive(|&byte| byte == b'\n')
        .map(|line| u64::from(black_box(line).last() == Some(&b'\n')))
        .sum()
}

/// Decodes in place with the `cobs` crate, between zeros.
#[inline(never)]
pub(crate) fn cobs_in_place(wire: &mut [u8]) -> u64 {
    let frames = wire.split_mut(|&byte| byte == 0);
    frames
        .filter(|frame| !frame.is_empty())
        .map(|frame| u64::from(black_box(cobs::decode_in_place(frame)).is_ok()))
        .sum()
}

/// Decodes a whole window with a decoder of tokio-util.
pub(crate) fn tokio_whole(mut codec: impl Decoder, window: &mut BytesMut) -> u64 {
    let mut blocks = 0;
    while let Ok(Some(frame)) = codec.decode(window) {
        black_box(&frame);
        blocks += 1;
    }
    blocks
}

/// Decodes data that arrives in pieces with a decoder of tokio-util.
pub(crate) fn tokio_pieces(mut codec: impl Decoder, wire: &[u8], window: &mut BytesMut) -> u64 {
    let mut blocks = 0;
    for piece in wire.chunks(PIECE_LEN) {
        window.extend_from_slice(piece);
        while let Ok(Some(frame)) = codec.decode(window) {
            black_box(&frame);
            blocks += 1;
        }
    }
    blocks
}

/// Decodes a whole window with a decoder of asynchronous-codec.
pub(crate) fn asynchronous_whole(
    mut codec: impl asynchronous::Decoder,
    window: &mut BytesMut,
) -> u64 {
    let mut blocks = 0;
    while let Ok(Some(frame)) = codec.decode(window) {
        black_box(&frame);
        blocks += 1;
    }
    blocks
}

/// `LengthDelimitedCodec` with a frame limit that admits every case.
pub(crate) fn length_delimited() -> codec::LengthDelimitedCodec {
    codec::LengthDelimitedCodec::new()
}

/// Encodes for asynchronous-codec's `LengthCodec`: 8 bytes of length before each message.
pub(crate) fn wire_of_length_codec(case: &Case) -> Vec<u8> {
    let mut wire = Vec::new();
    for &len in &case.lens {
        wire.extend_from_slice(&(len as u64).to_be_bytes());
        wire.extend_from_slice(&case.payload[..len]);
    }
    wire
}

/// Copies a header and the payload into a reused buffer: the minimum of encoding.
#[inline(never)]
pub(crate) fn copy_with_header(case: &Case, out: &mut Vec<u8>) -> u64 {
    out.clear();
    for _ in 0..case.count {
        let payload = black_box(&case.payload);
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(payload);
    }
    black_box(out.len());
    case.count as u64
}

/// Encodes with `LengthDelimitedCodec` into a reused buffer.
pub(crate) fn tokio_encode(case: &Case, payload: &Bytes, out: &mut BytesMut) -> u64 {
    out.clear();
    let mut codec = length_delimited();
    for _ in 0..case.count {
        if codec.encode(payload.clone(), out).is_err() {
            return 0;
        }
    }
    case.count as u64
}

/// Encodes with the `cobs` crate into a reused buffer, with a zero after each message.
#[inline(never)]
pub(crate) fn cobs_encode(case: &Case, out: &mut Vec<u8>) -> u64 {
    let room = cobs::max_encoding_length(case.len);
    out.clear();
    for _ in 0..case.count {
        let at = out.len();
        out.resize(at + room, 0);
        let len = cobs::encode(black_box(&case.payload), &mut out[at..]);
        out.truncate(at + len);
        out.push(0);
    }
    case.count as u64
}
