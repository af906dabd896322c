//! The attacks of strangers and broken devices on a listener, chosen by a seed: the same seed, the same attacks.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use embedded_io_adapters::std::FromStd;
use framing_core::AnyFraming;
use framing_core::blocking::Writer;
use socket2::SockRef;

use super::wire::{Route, Wire, connect_from};
use crate::disk::Chance;

/// The first bytes of a TLS connection.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\x51\xa9\x13\x0c\x77\x2e\x90\xf4\
    \x0b\x8d\x5a\x36\xc1\xe7\x44\x19\xdf\x62\x0a\xb8\x73\x2c\x95\xee\x01\x48\x9f\xd3\x26\x7b\xb0\x05\x20";

const HTTP_GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

/// Kinds of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A connection that is closed at once, without data: a port scan.
    Scan,
    /// A connection that is silent for seconds.
    Silent,
    /// Some complete messages, and a part of one.
    Cut,
    /// The first one or two bytes of a message.
    HalfHeader,
    /// A message, byte by byte.
    Slow,
    /// Random bytes.
    Garbage,
    /// The first bytes of a TLS handshake.
    Tls,
    /// An HTTP request.
    Http,
    /// The header of a message of 4 GiB minus one byte, in the listener's framing.
    Huge,
    /// A flood of empty messages.
    Empties,
    /// A flood of the shortest possible faults.
    Faults,
    /// Hundreds of connections, one after the other, with one byte each or none.
    Storm,
    /// A message that exceeds the limit, followed by a good one.
    TooLong,
    /// Good messages, many at once.
    Whole,
    /// More simultaneous connections than the limits allow.
    Crowd,
    /// As `Crowd`, silent for seconds: takes all places.
    Squat,
    /// As `Crowd`, each with all but the last byte of the longest message.
    Unfinished,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 17] = [
        Self::Scan,
        Self::Silent,
        Self::Cut,
        Self::HalfHeader,
        Self::Slow,
        Self::Garbage,
        Self::Tls,
        Self::Http,
        Self::Huge,
        Self::Empties,
        Self::Faults,
        Self::Storm,
        Self::TooLong,
        Self::Whole,
        Self::Crowd,
        Self::Squat,
        Self::Unfinished,
    ];
}

/// How a connection ends, from the attacker's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The connection is closed.
    Close,
    /// The sending direction is closed, and the reply is read.
    HalfClose,
    /// The connection is reset (`SO_LINGER` of zero).
    Reset,
}

/// One attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attack {
    /// Kind of the attack.
    pub kind: Kind,
    /// Index of the attacked listener.
    pub listener: usize,
    /// Bytes that each connection sends.
    pub wire: Vec<u8>,
    /// Milliseconds from byte to byte; 0: as fast as possible.
    pub pace_ms: u64,
    /// Number of simultaneous connections.
    pub connections: usize,
    /// Number of repetitions.
    pub times: usize,
    /// Milliseconds for which the connections stay open after sending.
    pub hold_ms: u64,
    /// How the connections end.
    pub end: End,
    /// Milliseconds for which the attacker rests after the attack.
    pub rest_ms: u64,
}

/// The endless sequence of attacks of one attacker.
#[derive(Debug)]
pub struct Attacks<'a> {
    chance: Chance,
    framings: &'a [AnyFraming],
    block_max: usize,
    crowd: usize,
}

impl<'a> Attacks<'a> {
    /// The attacks of attacker number `attacker` on listeners of these framings. Messages have at most `block_max`
    /// bytes; a crowd has `crowd` connections.
    pub fn new(
        seed: u64,
        attacker: u64,
        framings: &'a [AnyFraming],
        block_max: usize,
        crowd: usize,
    ) -> Self {
        Self {
            chance: Chance(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ (attacker << 32)),
            framings,
            block_max,
            crowd,
        }
    }

    /// Random bytes, of a random length in this range.
    fn bytes(&mut self, len: std::ops::RangeInclusive<usize>) -> Vec<u8> {
        let len = self.chance.of(len);
        (0..len).map(|_| self.chance.of(0..=255) as u8).collect()
    }

    /// A random message that this framing can carry.
    fn message(&mut self, framing: AnyFraming) -> Vec<u8> {
        let len = self.chance.of(1..=200);
        match framing {
            AnyFraming::Fixed(_) => vec![b'f'; 16],
            _ => vec![b'a' + self.chance.of(0..=25) as u8; len],
        }
    }

    fn wire(&mut self, kind: Kind, framing: AnyFraming) -> Vec<u8> {
        let whole = |messages: &[Vec<u8>]| encode(framing, messages);
        match kind {
            Kind::Scan | Kind::Silent | Kind::Squat => Vec::new(),
            Kind::Cut => {
                let messages: Vec<_> = (0..=self.chance.of(0..=5))
                    .map(|_| self.message(framing))
                    .collect();
                let mut wire = whole(&messages);
                wire.truncate(self.chance.of(1..=wire.len()));
                wire
            }
            Kind::HalfHeader => {
                let mut wire = whole(&[self.message(framing)]);
                wire.truncate(self.chance.of(1..=2));
                wire
            }
            Kind::Slow => {
                let mut wire = whole(&[self.message(framing)]);
                wire.truncate(60);
                wire
            }
            Kind::Garbage => self.bytes(1..=4096),
            Kind::Tls => TLS_HELLO.to_vec(),
            Kind::Http => HTTP_GET.to_vec(),
            Kind::Huge => [huge(framing), self.bytes(0..=100)].concat(),
            Kind::Storm => self.bytes(0..=1),
            Kind::Faults => fault(framing).repeat(self.chance.of(500..=5_000)),
            Kind::Empties => empty(framing).repeat(self.chance.of(500..=5_000)),
            Kind::TooLong => {
                let len = self.block_max * self.chance.of(1..=4) + 1;
                let long = vec![b'L'; len];
                whole(&[long, self.message(framing)])
            }
            Kind::Unfinished => {
                let longest = match framing {
                    AnyFraming::Fixed(_) => vec![b'f'; 16],
                    _ => vec![b'u'; self.block_max],
                };
                let mut wire = whole(&[longest]);
                wire.pop();
                wire
            }
            Kind::Whole | Kind::Crowd => {
                let messages: Vec<_> = (0..self.chance.of(1..=200))
                    .map(|_| self.message(framing))
                    .collect();
                whole(&messages)
            }
        }
    }
}

impl Iterator for Attacks<'_> {
    type Item = Attack;

    fn next(&mut self) -> Option<Attack> {
        let listener = self.chance.of(0..=self.framings.len() - 1);
        let kind = Kind::ALL[self.chance.of(0..=Kind::ALL.len() - 1)];
        let is_cobs = |framing: &AnyFraming| framing.to_string() == "cobs";
        let listener = match (kind, self.framings.iter().position(is_cobs)) {
            (Kind::Faults, Some(cobs)) => cobs,
            _ => listener,
        };
        let wire = self.wire(kind, self.framings[listener]);
        let hold_ms = match kind {
            Kind::Scan | Kind::Storm => 0,
            Kind::Silent | Kind::HalfHeader | Kind::Squat | Kind::Unfinished => {
                self.chance.of(0..=8_000)
            }
            _ => self.chance.of(0..=500),
        };
        Some(Attack {
            kind,
            listener,
            wire,
            pace_ms: match kind {
                Kind::Slow => self.chance.of(1..=200) as u64,
                _ => 0,
            },
            times: match kind {
                Kind::Storm => self.chance.of(100..=400),
                _ => 1,
            },
            connections: match kind {
                Kind::Crowd | Kind::Squat | Kind::Unfinished => self.crowd,
                _ => 1,
            },
            hold_ms: hold_ms as u64,
            end: [End::Close, End::HalfClose, End::Reset][self.chance.of(0..=2)],
            rest_ms: self.chance.of(0..=50) as u64,
        })
    }
}

/// Encodes these messages, and skips those that the framing cannot carry.
pub fn encode(framing: AnyFraming, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::new(FromStd::new(Vec::new()), framing);
    for message in messages {
        writer.send(message).ok();
    }
    writer.into_io().into_inner()
}

/// The header of the largest length in this framing; invalid bytes if it has no lengths.
fn huge(framing: AnyFraming) -> Vec<u8> {
    match framing.to_string().as_str() {
        "length:varint" => b"\xff\xff\xff\xff\x0f".to_vec(),
        "netstring" => b"4294967295:".to_vec(),
        "octet-counted" => b"4294967295 ".to_vec(),
        _ => vec![0xff; 4],
    }
}

/// An empty message, or the shortest input if the framing has no empty messages.
fn empty(framing: AnyFraming) -> &'static [u8] {
    match framing.to_string().as_str() {
        "lines" => b"\n",
        "delimited:0d0a" => b"\r\n",
        "cobs" => b"\x01\0",
        "cobs-crc16" => b"\x01\x01\x01\0",
        "cobs-crc32" => b"\x01\x01\x01\x01\x01\0",
        "netstring" => b"0:,",
        "length:u8" | "length:varint" | "delimited:00" => b"\0",
        "length:u16" | "length:u16le" => b"\0\0",
        _ => b"\0\0\0\0",
    }
}

/// The shortest fault after which a connection continues; an empty message if the framing has no such fault.
fn fault(framing: AnyFraming) -> &'static [u8] {
    match framing.to_string().as_str() {
        "cobs" => b"\x05\0",
        "cobs-crc16" | "cobs-crc32" => b"\x01\0",
        _ => empty(framing),
    }
}

/// Counts of what the attackers have done.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that the system has established.
    pub connected: AtomicU64,
    /// Number of attacks, in the order of [`Kind::ALL`].
    pub attacks: [AtomicU64; Kind::ALL.len()],
}

impl Tally {
    /// Returns the number of attacks by kind.
    pub fn attacks(&self) -> Vec<(Kind, u64)> {
        let counts = self.attacks.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        Kind::ALL.into_iter().zip(counts).collect()
    }
}

impl Attack {
    /// Performs the attack; stops early when `enough` is set.
    pub fn launch(
        &self,
        (from, route): (Ipv4Addr, &Route),
        ports: &[u16],
        enough: &AtomicBool,
        tally: &Tally,
    ) {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[self.listener]));
        for _ in 0..self.times {
            if !enough.load(Ordering::Relaxed) {
                self.connect((from, route), to, enough, tally);
            }
        }
        tally.attacks[self.kind as usize].fetch_add(1, Ordering::Relaxed);
        rest(self.rest_ms, enough);
    }

    fn connect(
        &self,
        (from, route): (Ipv4Addr, &Route),
        to: SocketAddr,
        enough: &AtomicBool,
        tally: &Tally,
    ) {
        let mut streams = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            let Some(stream) = connect_from(from, to) else {
                continue;
            };
            tally.connected.fetch_add(1, Ordering::Relaxed);
            streams.extend(route.secure(stream));
        }
        for stream in &mut streams {
            self.send(stream, enough);
        }
        rest(self.hold_ms, enough);
        for mut stream in streams {
            match self.end {
                End::Close => {}
                End::Reset => {
                    // Fails if the daemon has closed the connection first.
                    SockRef::from(stream.socket())
                        .set_linger(Some(Duration::ZERO))
                        .ok();
                }
                End::HalfClose => {
                    stream.end().ok();
                    let _ = stream.read(&mut [0; 1024]);
                }
            }
        }
    }

    /// Sends the bytes. Fails if the daemon closes the connection, which it may do.
    fn send(&self, stream: &mut Wire, enough: &AtomicBool) {
        if self.pace_ms == 0 {
            stream.write_all(&self.wire).ok();
            return;
        }
        for byte in &self.wire {
            if stream.write_all(&[*byte]).is_err() || enough.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(self.pace_ms));
        }
    }
}

/// Sleeps for this time, or until `enough` is set.
fn rest(ms: u64, enough: &AtomicBool) {
    let mut left_ms = ms;
    while left_ms != 0 && !enough.load(Ordering::Relaxed) {
        let step_ms = left_ms.min(50);
        thread::sleep(Duration::from_millis(step_ms));
        left_ms -= step_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_attacks_of_every_kind_on_every_listener() {
        let framings = AnyFraming::SPECS
            .iter()
            .map(|spec| spec.parse::<AnyFraming>().ok());
        let framings: Vec<_> = framings.flatten().collect();
        let drawn = |seed, attacker| -> Vec<_> {
            Attacks::new(seed, attacker, &framings, 1000, 3)
                .take(500)
                .collect()
        };
        let attacks = drawn(1, 0);
        assert!(attacks == drawn(1, 0));
        assert!(attacks != drawn(2, 0) && attacks != drawn(1, 1));
        for kind in Kind::ALL {
            assert!(attacks.iter().any(|attack| attack.kind == kind), "{kind:?}");
        }
        for listener in 0..framings.len() {
            assert!(attacks.iter().any(|attack| attack.listener == listener));
        }
    }
}
