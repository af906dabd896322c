//! A simulated line that loses and flips bytes, and how many messages arrive over it in each framing. Start with [`table`].

use std::collections::HashSet;
use std::fmt::Write;

use framing_core::{AnyFraming, Decode, Framing, Limits, Step, encode};

use crate::messages::specs;
use crate::sizes::wire_len;

/// Number of messages that are sent.
pub const MESSAGES: usize = 10_000;

/// Lengths of messages in bytes.
pub const LENS: [usize; 2] = [32, 200];

/// The lines of [`table`].
pub const NOISES: [Noise; 2] = [
    Noise {
        lost: 1000,
        flipped: 1000,
    },
    Noise {
        lost: 100,
        flipped: 100,
    },
];

/// The receiver's limits: a damaged length costs little.
const LIMITS: Limits = Limits {
    block_max: 1024,
    skip_max: 1024,
};

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// What happens to bytes, each by itself, in 100,000.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Bytes that are lost.
    pub lost: u64,
    /// Bytes of which one bit is flipped.
    pub flipped: u64,
}

/// What arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Messages that were sent.
    pub intact: usize,
    /// Messages that were delivered without a fault, and that nobody has sent.
    pub wrong: usize,
}

/// Sends [`MESSAGES`] messages of text over a noisy line. A receiver that has lost the framing begins afresh with the next
/// byte.
///
/// # Panics
/// If the framing cannot carry text of this length.
#[must_use]
pub fn simulate(framing: AnyFraming, len: usize, noise: Noise) -> Arrived {
    let mut random = Random(SEED);
    let mut line = vec![];
    let mut out = vec![0; wire_len(framing, len)];
    let mut sent = HashSet::new();
    for number in 0..MESSAGES {
        let message = text(number, len, &mut random);
        let used = encode(&mut framing.encoder(), &*message, &mut out).expect("a message of text");
        for &byte in &out[..used] {
            let chance = random.below(100_000);
            if chance < noise.lost {
                continue;
            }
            let is_flipped = chance < noise.lost + noise.flipped;
            let bit = random.below(8);
            line.push(byte ^ u8::from(is_flipped) << bit);
        }
        sent.insert(message);
    }
    let mut arrived = Arrived::default();
    for message in receive(framing, line) {
        if sent.remove(&message) {
            arrived.intact += 1;
        } else {
            arrived.wrong += 1;
        }
    }
    arrived
}

/// The table of `docs/which-framing.md`: for each framing, the messages that arrive intact, and the wrong ones.
///
/// # Panics
/// If a framing cannot carry text.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("| framing |");
    let ways = NOISES.iter().flat_map(|noise| LENS.map(|len| (noise, len)));
    let ways: Vec<_> = ways.collect();
    for (noise, len) in &ways {
        let percent = noise.lost as f64 / 1000.0;
        write!(text, " {len} B at {percent} % | wrong |").expect("memory");
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(2 * ways.len()));
    for spec in AnyFraming::SPECS.iter().filter(|&&spec| spec != "stream") {
        let title = spec.replace("HEX", "0d0a");
        write!(text, "\n| `{title}` |").expect("memory");
        for (noise, len) in &ways {
            let of = specs(&[*len], &["0d0a"]);
            let spec = of
                .iter()
                .find(|it| it.starts_with(spec.trim_end_matches(char::is_uppercase)));
            let framing = spec.expect("an example").parse().expect("a framing");
            let arrived = simulate(framing, *len, **noise);
            write!(text, " {} | {} |", arrived.intact, arrived.wrong).expect("memory");
        }
    }
    text.push('\n');
    text
}

/// A message of text: its number, and measurements.
fn text(number: usize, len: usize, random: &mut Random) -> Vec<u8> {
    let mut text = format!("seq={number:05}");
    while text.len() < len {
        let value = random.below(10_000);
        write!(text, " t={}.{:02}", value / 100, value % 100).expect("memory");
    }
    text.truncate(len);
    text.into_bytes()
}

/// The messages that a receiver delivers.
fn receive(framing: AnyFraming, mut line: Vec<u8>) -> Vec<Vec<u8>> {
    let mut spans = vec![];
    let mut from = 0;
    while from < line.len() {
        let mut decoder = framing.decoder();
        let scanned =
            decoder.scan_all::<false>(&mut line[from..], &LIMITS, |at, step| match step {
                Step::Payload { start, end, .. } => {
                    spans.push(from + at + start..from + at + end);
                    true
                }
                Step::Fault { fault, .. } => !fault.is_lost(),
                _ => true,
            });
        if scanned.want != 0 {
            break;
        }
        from += scanned.used.max(1);
    }
    spans.into_iter().map(|span| line[span].to_vec()).collect()
}

/// Numbers that look random: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }
}
