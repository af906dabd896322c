//! Honest devices during an attack. Each knows which of its messages must be in the recording.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use framing_core::blocking::Reader;
use framing_core::{AnyFraming, Blocks, Received};

use super::attack::{Tally, encode};
use super::wire::{Route, connect_from};
use crate::disk::Chance;
use crate::process::DEADLINE;
use crate::recorded::{numbered, payload};

/// Message `n` of a device, in a form that this framing can carry.
pub fn message(framing: AnyFraming, device: u64, n: u64) -> Vec<u8> {
    let mut bytes = payload(numbered(device, n));
    bytes.truncate(200);
    match framing {
        AnyFraming::Fixed(_) | AnyFraming::Stream(_) => {
            bytes.resize(16, b'.');
            bytes
        }
        // Some bytes are delimiters.
        AnyFraming::Lines(_) | AnyFraming::Delimited(_) => bytes
            .iter()
            .flat_map(|byte| format!("{byte:02x}").into_bytes())
            .collect(),
        _ => bytes,
    }
}

/// Sends messages until `enough` is set, closes gracefully, and returns the number of messages. The device keeps one
/// connection for the whole time.
pub fn device(
    framing: AnyFraming,
    number: u64,
    from: Ipv4Addr,
    (to, route): (SocketAddr, &Route),
    seed: u64,
    enough: &AtomicBool,
) -> u64 {
    let mut chance = Chance(seed ^ number << 48);
    let stream = connect_from(from, to).expect("the daemon listens");
    let mut stream = route.secure(stream).expect("a handshake");
    stream
        .socket()
        .set_write_timeout(Some(DEADLINE))
        .expect("not zero");
    stream
        .socket()
        .set_read_timeout(Some(DEADLINE))
        .expect("not zero");
    let mut sent = 0;
    while !enough.load(Ordering::Relaxed) {
        let count = chance.of(1..=20) as u64;
        let messages: Vec<_> = (sent..sent + count)
            .map(|n| message(framing, number, n))
            .collect();
        let wire = encode(framing, &messages);
        // Splits the data at an arbitrary place.
        let (first, second) = wire.split_at(chance.of(0..=wire.len()));
        stream.write_all(first).expect("an honest device is served");
        thread::sleep(Duration::from_millis(chance.of(0..=20) as u64));
        stream
            .write_all(second)
            .expect("an honest device is served");
        sent += count;
        thread::sleep(Duration::from_millis(chance.of(1..=100) as u64));
    }
    if let AnyFraming::Blocks(_) = framing {
        stream
            .write_all(&[0; 4])
            .expect("an honest device is served");
    }
    stream.end().expect("a live socket");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the daemon replies");
    assert!(!answer.is_empty(), "device {number} has no receipt");
    sent
}

/// What a visitor has sent, by visit.
#[derive(Clone, Debug, Default)]
pub struct Visits {
    /// First number that was not sent yet.
    pub next: u64,
    /// Numbers of each visit for which there was a receipt.
    pub promised: Vec<std::ops::Range<u64>>,
    /// Number of visits without a receipt: refused at the connection limit.
    pub refused: u64,
}

/// Connects again and again with a series of blocks, until `enough` is set. The daemon may refuse a visit; if it sends a
/// receipt, it must have recorded the whole series.
pub fn visitor(
    number: u64,
    from: Ipv4Addr,
    (to, route): (SocketAddr, &Route),
    seed: u64,
    enough: &AtomicBool,
    tally: &Tally,
) -> Visits {
    let mut chance = Chance(seed ^ number << 48);
    let framing = AnyFraming::Blocks(Blocks);
    let mut visits = Visits::default();
    while !enough.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(chance.of(1..=100) as u64));
        let numbers = visits.next..visits.next + chance.of(1..=50) as u64;
        visits.next = numbers.end;
        let Some(stream) = connect_from(from, to) else {
            continue;
        };
        tally.connected.fetch_add(1, Ordering::Relaxed);
        let Some(mut stream) = route.secure(stream) else {
            visits.refused += 1;
            continue;
        };
        stream
            .socket()
            .set_read_timeout(Some(DEADLINE))
            .expect("not zero");
        let messages: Vec<_> = numbers
            .clone()
            .map(|n| message(framing, number, n))
            .collect();
        let wire = [encode(framing, &messages), vec![0; 4]].concat();
        let mut answer = Vec::new();
        stream.write_all(&wire).ok();
        stream.end().ok();
        stream.read_to_end(&mut answer).ok();
        if is_receipt(&answer, messages.len()) {
            visits.promised.push(numbers);
        } else {
            visits.refused += 1;
        }
    }
    visits
}

/// Whether this is a receipt for this number of blocks.
fn is_receipt(answer: &[u8], blocks: usize) -> bool {
    let mut reader = Reader::new(answer, Blocks, [0; 256]);
    let Ok(Received::Message(receipt)) = reader.receive() else {
        return false;
    };
    let receipt: serde_json::Value = serde_json::from_slice(receipt).expect("a receipt is JSON");
    assert_eq!(receipt["blocks"], blocks, "a wrong receipt");
    true
}
