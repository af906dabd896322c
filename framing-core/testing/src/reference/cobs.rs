//! The reference for `cobs`, `cobs-crc16` and `cobs-crc32`.

use framing_core::{Fault, Limits, Part};

use crate::reference::{cut, over};
use crate::samples::Event;

/// Splits at the zeros; encodes each run in groups of 254 and a shorter last group, which is left out if nothing follows.
pub(super) fn to_cobs(message: &[u8]) -> Vec<u8> {
    let mut wire = vec![];
    let mut runs = message.split(|&byte| byte == 0).peekable();
    while let Some(mut run) = runs.next() {
        let is_last = runs.peek().is_none();
        while 254 <= run.len() {
            let (group, rest) = run.split_at(254);
            wire.push(255);
            wire.extend_from_slice(group);
            run = rest;
            if run.is_empty() && is_last {
                wire.push(0);
                return wire;
            }
        }
        wire.push(run.len() as u8 + 1);
        wire.extend_from_slice(run);
    }
    wire.push(0);
    wire
}

/// Groups of bytes without a zero, each after its length plus one. Two groups are separated by a zero byte of the payload,
/// unless the first has 254 bytes; a zero ends the message. Its last `width` bytes are a checksum.
pub(super) fn cobs(wire: &[u8], limits: &Limits, kept: &mut Vec<u8>, width: usize) -> Vec<Event> {
    let mut events = vec![];
    let mut escaped: Vec<&[u8]> = wire.split(|&byte| byte == 0).collect();
    let open = escaped.pop().unwrap_or_default();
    let ended = escaped.into_iter().map(|escaped| (escaped, true));
    for (escaped, is_ended) in ended.chain([(open, false)]) {
        if escaped.is_empty() {
            continue;
        }
        let mut payload = vec![];
        let mut rest = escaped;
        let mut missing = 0;
        let mut zero = false;
        while let Some((&code, following)) = rest.split_first() {
            if zero {
                payload.push(0);
            }
            let len = usize::from(code) - 1;
            let group = &following[..len.min(following.len())];
            payload.extend_from_slice(group);
            missing = len - group.len();
            rest = &following[group.len()..];
            zero = code != 255;
        }
        let sum_at = payload.len().saturating_sub(width);
        if (limits.block_max as usize) < sum_at {
            events.push(over(limits));
            // Skipped data is not unescaped, so these are wire bytes.
            if (limits.skip_max as usize) < escaped.len() {
                return events;
            }
        } else if !is_ended {
            // The last bytes may be the checksum.
            payload.truncate(sum_at);
            let want = payload.len() + missing + 1;
            events.push(cut(Part::Payload, payload.len(), want as u64));
            *kept = payload;
        } else if missing != 0 {
            events.push(Event::Fault(Fault::EarlyEnd {
                missing: missing as u8,
            }));
        } else {
            let sum = payload.split_off(sum_at);
            events.push(match with_checksum(&payload, width).split_off(sum_at) {
                want if want == sum => Event::Block(payload),
                want => Event::Fault(Fault::BadChecksum {
                    want: number(&want),
                    found: (sum.len() == width).then(|| number(&sum)),
                }),
            });
        }
    }
    events
}

/// The payload and its checksum of 2 or 4 bytes, or none.
pub(super) fn with_checksum(payload: &[u8], width: usize) -> Vec<u8> {
    let sum = match width {
        0 => vec![],
        2 => xmodem(payload).to_be_bytes().to_vec(),
        _ => iso_hdlc(payload).to_be_bytes().to_vec(),
    };
    [payload, &sum].concat()
}

/// The remainder of the payload, as a polynomial, times x¹⁶, by x¹⁶ + x¹² + x⁵ + 1.
fn xmodem(payload: &[u8]) -> u16 {
    let step = |rest: u32, bit| rest << 1 ^ bit ^ if rest & 0x8000 != 0 { 0x1_1021 } else { 0 };
    bits(payload, [0; 2], false).fold(0, step) as u16
}

/// The same with the polynomial of Ethernet. The lowest bit of a byte comes first, in the result, too; the first 32 bits and
/// the result are inverted.
fn iso_hdlc(payload: &[u8]) -> u32 {
    let step = |rest: u32, bit| {
        let over = rest >> 31 != 0;
        rest << 1 ^ bit ^ if over { 0x04c1_1db7 } else { 0 }
    };
    let mut inverted = [payload, &[0; 4]].concat();
    inverted.iter_mut().take(4).for_each(|byte| *byte = !*byte);
    !bits(&inverted, [], true).fold(0, step).reverse_bits()
}

/// The bits of these bytes, with zero bytes after them.
fn bits<const N: usize>(
    bytes: &[u8],
    after: [u8; N],
    low_first: bool,
) -> impl Iterator<Item = u32> {
    let bytes = bytes.iter().copied().chain(after);
    bytes.flat_map(move |byte| {
        (0..8).map(move |at| u32::from(byte >> if low_first { at } else { 7 - at } & 1))
    })
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u32::from(byte))
}
