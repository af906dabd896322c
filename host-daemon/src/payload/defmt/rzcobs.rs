//! rzCOBS, the default encoding of defmt: it removes zeros, so that a zero can end a frame. Start with [`decode`].

use crate::payload::DecodeError;
use crate::payload::defmt::frame::reason;

/// Bytes of a decoded frame allowed for each byte of the encoded one. A byte can stand for seven zeros.
const DECODED_FACTOR: usize = 5;
/// Bytes of a decoded frame allowed in addition.
const DECODED_BASE: usize = 16 << 10;

/// Maximum number of zeros that the encoding adds to a frame.
pub(super) const PADDING_MAX: usize = 6;

/// A frame without the zeros that separate it from others.
pub(super) fn trim(mut message: &[u8]) -> &[u8] {
    while let [0, rest @ ..] | [rest @ .., 0] = message {
        message = rest;
    }
    message
}

/// Decodes a frame without separators. Up to [`PADDING_MAX`] zeros may follow its content.
///
/// The encoding is read from the end: a marker follows the bytes that it describes.
pub(super) fn decode(encoded: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if encoded.contains(&0) {
        return Err(reason(
            "a zero within an rzCOBS frame: it has several frames",
        ));
    }
    // Allocated once, to its length.
    let mut decoded = Vec::with_capacity(decoded_len(encoded)?);
    let mut bytes = encoded.iter().rev().copied();
    while let Some(marker) = bytes.next() {
        let marker = Marker::of(marker);
        if marker.ends_with_zero {
            decoded.push(0);
        }
        match marker.zeros {
            0 => decoded.extend(bytes.by_ref().take(marker.len)),
            zeros => decoded.extend((0..7).rev().map(|bit| match zeros >> bit & 1 {
                0 => bytes.next().unwrap_or_default(),
                _ => 0,
            })),
        }
    }
    decoded.reverse();
    Ok(decoded)
}

/// The length of the decoded frame, if it is valid and within its bound.
fn decoded_len(encoded: &[u8]) -> Result<usize, DecodeError> {
    let most = encoded
        .len()
        .saturating_mul(DECODED_FACTOR)
        .saturating_add(DECODED_BASE);
    let (mut rest, mut len) = (encoded, 0);
    while let Some((marker, before)) = rest.split_last() {
        let marker = Marker::of(*marker);
        let left = before.len().checked_sub(marker.len);
        rest = left
            .and_then(|left| before.get(..left))
            .ok_or_else(|| reason("an rzCOBS frame whose beginning is missing"))?;
        len += match marker.zeros {
            0 => marker.len + usize::from(marker.ends_with_zero),
            _ => 7,
        };
        if most < len {
            return Err(reason("an rzCOBS frame with too many zeros for its length"));
        }
    }
    Ok(len)
}

/// The description of the bytes before it.
struct Marker {
    /// Number of bytes that are not zero.
    len: usize,
    /// Seven bits, the first byte in the lowest: the byte is zero. 0 if no byte is.
    zeros: u8,
    /// A zero follows the bytes.
    ends_with_zero: bool,
}

impl Marker {
    fn of(byte: u8) -> Self {
        let (len, zeros, ends_with_zero) = match byte {
            0..=0x7f => (7 - byte.count_ones() as usize, byte, false),
            0x80..=0xfe => (usize::from(byte & 0x7f) + 7, 0, true),
            0xff => (134, 0, false),
        };
        Self {
            len,
            zeros,
            ends_with_zero,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Encodes a frame, without separators, as defmt's encoder does.
    pub(in crate::payload::defmt) fn encode(frame: &[u8]) -> Vec<u8> {
        let (mut encoded, mut run, mut zeros) = (Vec::new(), 0_u8, 0_u8);
        for &byte in frame {
            if byte != 0 {
                encoded.push(byte);
                run += 1;
            }
            match (byte, run) {
                (0, 0..7) => {
                    zeros |= 1 << run;
                    run += 1;
                }
                (0, _) => {
                    encoded.push((run - 7) | 0x80);
                    (run, zeros) = (0, 0);
                }
                (_, 134) => {
                    encoded.push(0xff);
                    run = 0;
                }
                _ => {}
            }
            if run == 7 && zeros != 0 {
                encoded.push(zeros);
                (run, zeros) = (0, 0);
            }
        }
        match run {
            0 => {}
            1..=6 => encoded.push((zeros | 0xff << run) & 0x7f),
            _ => encoded.push((run - 7) | 0x80),
        }
        encoded
    }

    #[test]
    fn zeros_are_decoded_up_to_the_bound() {
        // Each byte stands for seven zeros: more than the bound allows for each byte of a long frame.
        let decoded = |len: usize| decode(&vec![0x7f; len]).map(|frame| frame.len());
        assert_eq!(decoded(8192), Ok(7 * 8192));
        assert!(decoded(8193).is_err());
    }

    #[test]
    fn the_examples_of_defmt_are_decoded() {
        let count = |range: std::ops::RangeInclusive<u8>| range.collect::<Vec<_>>();
        for (frame, encoded) in [
            (&b""[..], &b""[..]),
            (b"\0", b"\x7f"),
            (b"\0\0\0\0\0\0\0", b"\x7f"),
            (b"\0\0\0\0\0\0\0\0", b"\x7f\x7f"),
            (b"\x01", b"\x01\x7e"),
            (b"\0\x01", b"\x01\x7d"),
            (
                b"\x11\x22\x33\x44\x55\x66\0",
                b"\x11\x22\x33\x44\x55\x66\x40",
            ),
            (
                b"\x11\x22\x33\x44\x55\x66\x77\0",
                b"\x11\x22\x33\x44\x55\x66\x77\x80",
            ),
            (b"\0\0\0\0\0\x44\0\0\0\0\0\0\0\xff", b"\x44\x5f\xff\x3f"),
            (&count(1..=0x85), &[&count(1..=0x85)[..], b"\xfe"].concat()),
            (&count(1..=0x86), &[&count(1..=0x86)[..], b"\xff"].concat()),
        ] {
            assert_eq!(encode(frame), encoded);
            let decoded = decode(encoded).expect("valid");
            let padding = decoded.strip_prefix(frame).expect("the frame");
            assert!(padding.len() <= PADDING_MAX && padding.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn every_frame_comes_back() {
        let mut state = 1_u32;
        for len in 0..2_000_usize {
            let frame: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Between no zeros and nearly only zeros.
                    let is_zero = state >> 16 & 0xff < len as u32 % 300;
                    if is_zero { 0 } else { (state >> 24) as u8 }
                })
                .collect();
            let decoded = decode(&encode(&frame)).expect("valid");
            let padding = decoded.strip_prefix(&frame[..]).expect("the frame");
            assert!(padding.len() <= PADDING_MAX && padding.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn an_invalid_frame_is_refused() {
        for encoded in [
            &b"\x01\x00\x7e"[..],
            b"\x01",
            b"\x80",
            b"\xff",
            b"\x01\x02\x81",
        ] {
            assert!(decode(encoded).is_err(), "{encoded:x?}");
        }
        let zeros = vec![0x7f; 1 << 20];
        assert!(decode(&zeros).is_err());
        assert!(decode(&zeros[..2_000]).is_ok());
    }

    #[test]
    fn separators_are_removed() {
        for message in [&b"\0\0\x01\x7e\0"[..], b"\x01\x7e\0", b"\x01\x7e"] {
            assert_eq!(trim(message), b"\x01\x7e");
        }
        assert_eq!(trim(b"\0\0"), b"");
    }
}
