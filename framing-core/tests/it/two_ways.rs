//! The short way of the `cobs` family, `lines` and `delimited`, which firmware contains, beside the fast way of `scan_all`; and
//! the two senders of the `cobs` family. Both are also compared with the reference, which is neither.

use framing_core::{
    AnyFraming, Cobs, CobsCrc16, CobsCrc16Pieces, CobsCrc32, CobsCrc32Pieces, CobsPieces, Decode,
    Encode, Framing, Limits, Sender, Step, encode,
};
use framing_core_testing::concrete;
use framing_core_testing::drive::{MODES, Mode, scan, scan_all};
use framing_core_testing::properties::UNLIMITED;
use framing_core_testing::reference::{self, Format};

const SPECS: [&str; 7] = [
    "cobs",
    "cobs-crc16",
    "cobs-crc32",
    "lines",
    "delimited:0d0a",
    "delimited:616162",
    "delimited:0000",
];

/// Random numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        Self(1)
    }

    fn below(&mut self, end: usize) -> usize {
        // Knuth's multiplier; its upper bits are more random.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Bytes in which delimiters, codes, and long runs without them are frequent.
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![];
        let len = self.below(most + 1);
        while bytes.len() < len {
            let byte = self.one_of(b"\0\0\x01\x02\x03\x10\xfe\xff\xffaab\r\n");
            let run = self.one_of(&[1, 1, 1, 2, 5, 253, 254, 255]);
            bytes.extend(vec![byte; if byte == 0 { 1 } else { run }]);
        }
        bytes.truncate(len);
        bytes
    }

    /// A stream of whole messages, damaged or not, and of any bytes.
    fn stream(&mut self, spec: &str) -> Vec<u8> {
        let mut wire = vec![];
        for _ in 0..self.below(6) {
            let bytes = self.bytes(600);
            let mut message = match Format::of(spec).encode(&bytes) {
                Ok(message) if self.below(5) != 0 => message,
                _ => bytes,
            };
            if !message.is_empty() && self.below(4) == 0 {
                let at = self.below(message.len());
                match self.below(3) {
                    0 => message[at] ^= 1 << self.below(8),
                    1 => drop(message.remove(at)),
                    _ => message.truncate(at),
                }
            }
            wire.extend(message);
        }
        wire
    }

    fn limits(&mut self) -> Limits {
        Limits {
            block_max: self.one_of(&[0, 1, 5, 40, 254, 255, 300, 5000, u32::MAX]),
            skip_max: self.one_of(&[0, 3, 100, 400, Limits::SKIP_MAX, u32::MAX]),
        }
    }
}

/// A decoder with its window, and a text for each result.
struct Side<D> {
    decoder: D,
    window: Vec<u8>,
    log: Vec<String>,
}

impl<D: Decode> Side<D> {
    fn new(decoder: D) -> Self {
        Self {
            decoder,
            window: vec![],
            log: vec![],
        }
    }

    /// Takes steps until more bytes are needed. `modes` chooses the mode by the number of steps that were reported.
    fn run(&mut self, fast: bool, modes: &[Mode], limits: &Limits) {
        loop {
            let mode = modes[self.log.len() % modes.len()];
            let mut reported = None;
            let each = |at, step| {
                reported = Some((at, step));
                false
            };
            let (used, ended) = if fast {
                let scanned = match mode {
                    Mode::Whole => self
                        .decoder
                        .scan_all::<false>(&mut self.window, limits, each),
                    Mode::Pieces => self
                        .decoder
                        .scan_all::<true>(&mut self.window, limits, each),
                };
                (scanned.used, scanned.want != 0)
            } else {
                let step = match mode {
                    Mode::Whole => self.decoder.scan::<false>(&mut self.window, limits),
                    Mode::Pieces => self.decoder.scan::<true>(&mut self.window, limits),
                };
                match step {
                    Step::NeedMore { .. } => (0, true),
                    Step::Skip { take, .. } => (take, false),
                    Step::Payload { take, .. } | Step::Fault { take, .. } | Step::End { take } => {
                        reported = Some((0, step));
                        (take, false)
                    }
                }
            };
            if let Some((at, step)) = reported {
                self.log.push(match step {
                    Step::Payload {
                        start,
                        end,
                        first,
                        last,
                        ..
                    } => format!("{first} {last} {:?}", &self.window[at + start..at + end]),
                    Step::Fault { fault, .. } => format!("{fault:?}"),
                    other => format!("{other:?}"),
                });
            }
            self.window.drain(..used);
            if ended {
                break;
            }
        }
        let unread = self.window.len();
        let unfinished = &self.window[self.decoder.unfinished(unread)];
        let flags = (self.decoder.is_mid_block(), self.decoder.is_lost());
        self.log.push(format!("{unread} {flags:?} {unfinished:?}"));
    }
}

#[test]
fn both_ways_take_the_same_steps_whatever_is_read_and_requested() {
    let mut chance = Chance::new();
    for spec in SPECS {
        for _ in 0..1500 {
            let wire = chance.stream(spec);
            let limits = chance.limits();
            let read_max = chance.one_of(&[1, 2, 7, 100, 2000]);
            let modes: Vec<_> = (0..5).map(|_| chance.one_of(&MODES)).collect();
            concrete!(spec.parse::<AnyFraming>().unwrap(), framing => {
                let mut short = Side::new(framing.decoder());
                let mut fast = Side::new(framing.decoder());
                let mut rest = &wire[..];
                while !rest.is_empty() {
                    let (read, after) = rest.split_at(rest.len().min(1 + chance.below(read_max)));
                    rest = after;
                    short.window.extend(read);
                    short.run(false, &modes, &limits);
                    fast.window.extend(read);
                    fast.run(true, &modes, &limits);
                    assert_eq!(short.log, fast.log, "{spec} {limits:?} {modes:?} {wire:x?}");
                }
                let (short, fast) = (short.decoder.close(short.window.len()), fast.decoder.close(fast.window.len()));
                assert_eq!(short, fast, "{spec} {limits:?} {modes:?} {wire:x?}");
            });
        }
    }
}

#[test]
fn both_ways_agree_with_the_reference_on_long_messages() {
    let mut chance = Chance::new();
    for spec in SPECS {
        let framing: AnyFraming = spec.parse().unwrap();
        for _ in 0..300 {
            let wire = chance.stream(spec);
            let limits = chance.limits();
            let mut cuts: Vec<_> = (0..chance.below(9))
                .map(|_| chance.below(wire.len() + 1))
                .collect();
            cuts.sort_unstable();
            for mode in MODES {
                let want = match mode {
                    Mode::Whole => reference::decode(spec, &wire, &limits),
                    Mode::Pieces => reference::decode(spec, &wire, &UNLIMITED),
                };
                let short = scan(framing.decoder(), mode, &wire, &cuts, &limits);
                assert_eq!(short, want, "{spec} {mode:?} {limits:?} {cuts:?} {wire:x?}");
                let fast = scan_all(framing.decoder(), mode, &wire, &cuts, &limits, 100);
                assert_eq!(fast, want, "{spec} {mode:?} {limits:?} {cuts:?} {wire:x?}");
            }
        }
    }
}

#[test]
fn both_senders_of_cobs_write_the_bytes_of_the_reference() {
    check_senders("cobs", Cobs, CobsPieces);
    check_senders("cobs-crc16", CobsCrc16, CobsCrc16Pieces);
    check_senders("cobs-crc32", CobsCrc32, CobsCrc32Pieces);
}

fn check_senders<F: Framing + Copy, P: Framing + Copy>(spec: &str, framing: F, in_pieces: P) {
    let mut chance = Chance::new();
    for _ in 0..3000 {
        let payload = chance.bytes(900);
        let want = Format::of(spec).encode(&payload).unwrap();
        let (front, back) = payload.split_at(chance.below(payload.len() + 1));
        let (middle, back) = back.split_at(chance.below(back.len() + 1));
        let parts = [front, middle, b"", back];
        let write_max = chance.one_of(&[1, 3, 70, 1000]);
        let whole = sent(framing, &payload[..], write_max, &mut chance);
        assert_eq!(whole, want, "{spec}: {payload:x?}");
        let whole = sent(framing, &parts, write_max, &mut chance);
        assert_eq!(whole, want, "{spec}: {parts:x?}");
        let pieces = sent(in_pieces, &parts, write_max, &mut chance);
        assert_eq!(pieces, want, "{spec}: {parts:x?}");
        let mut out = vec![0; want.len()];
        let len = encode(&mut framing.encoder(), &parts, &mut out).expect("enough space");
        assert_eq!(out[..len], want, "{spec}: {parts:x?}, in memory");
    }
}

/// The bytes of a message that is written in chunks of up to `write_max` bytes.
fn sent<F: Framing<Encoder: Encode>>(
    framing: F,
    payload: &(impl framing_core::Payload + ?Sized),
    write_max: usize,
    chance: &mut Chance,
) -> Vec<u8> {
    let mut sender = Sender::new(framing);
    let mut wire = vec![];
    sender.begin_whole(payload).expect("any payload");
    while let chunk @ [_, ..] = sender.chunk(payload) {
        let len = chunk.len().min(1 + chance.below(write_max));
        wire.extend_from_slice(&chunk[..len]);
        sender.advance(len);
        assert!(chance.below(3) != 0 || sender.resume(payload).is_ok() == sender.is_mid_block());
    }
    assert!(!sender.is_mid_block());
    wire
}

#[test]
fn an_abandoned_message_of_any_groups_is_never_taken_for_a_whole_one() {
    check_abandoned("cobs", Cobs);
    check_abandoned("cobs-crc16", CobsCrc16);
    check_abandoned("cobs-crc32", CobsCrc32);
}

fn check_abandoned<F: Framing + Copy>(spec: &str, framing: F) {
    let mut chance = Chance::new();
    for _ in 0..3000 {
        let payload = chance.bytes(400);
        let whole = Format::of(spec).encode(&payload).unwrap();
        let at = chance.below(whole.len() + 1);
        let mut sender = Sender::new(framing);
        let mut wire = vec![];
        sender.begin_whole(&payload[..]).expect("any payload");
        while wire.len() < at {
            let chunk = sender.chunk(&payload[..]);
            let len = chunk.len().min(at - wire.len());
            wire.extend_from_slice(&chunk[..len]);
            sender.advance(len);
        }
        if chance.below(2) == 0 {
            // What is next was staged, and not written.
            sender.chunk(&payload[..]);
        }
        sender.abandon().expect("cobs can resynchronise");
        while let chunk @ [_, ..] = sender.chunk(b"") {
            let len = chunk.len().min(1 + chance.below(3));
            wire.extend_from_slice(&chunk[..len]);
            sender.advance(len);
        }
        let mut events = reference::decode(spec, &wire, &UNLIMITED);
        events.pop();
        let is_whole = wire == whole;
        let title = format!("{spec}: {payload:x?} at {at}: {wire:x?}");
        match &events[..] {
            [] => assert_eq!(at, 0, "{title}"),
            [event] => assert_eq!(
                format!("{event:?}").starts_with("Block"),
                is_whole,
                "{title}"
            ),
            _ => panic!("{title}: {events:?}"),
        }
        sender.begin_whole(b"next").expect("the next message");
    }
}
