//! The reference for `cobs`.

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
/// unless the first has 254 bytes; a zero ends the message.
pub(super) fn cobs(wire: &[u8], limits: &Limits, kept: &mut Vec<u8>) -> Vec<Event> {
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
        if (limits.block_max as usize) < payload.len() {
            events.push(over(limits));
            // Skipped data is not unescaped, so these are wire bytes.
            if (limits.skip_max as usize) < escaped.len() {
                return events;
            }
        } else if !is_ended {
            let want = payload.len() + missing + 1;
            events.push(cut(Part::Payload, payload.len(), want as u64));
            *kept = payload;
        } else if missing != 0 {
            events.push(Event::Fault(Fault::EarlyEnd {
                missing: missing as u8,
            }));
        } else {
            events.push(Event::Block(payload));
        }
    }
    events
}
