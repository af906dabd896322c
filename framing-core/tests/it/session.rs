//! Random runs of a sender of an acknowledged session, against a host that is written to be clear.

mod frames;
mod host;
mod link;
mod resets;

use std::collections::HashSet;

use framing_core::session::wire::HELLO_WIRE_MAX;
use framing_core::session::{Device, Eager, Full, LinkError, PushError, Saved, SessionSender};

use self::host::Host;

/// A small generator: the runs are the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A sender, its connection, and what it has made.
struct Run {
    chance: Chance,
    sender: Option<SessionSender<Vec<u8>, Eager>>,
    full: Full,
    is_eager: bool,
    /// The state after the last push.
    saved: Saved,
    /// A chunk that was handed out.
    lent: Option<Vec<u8>>,
    is_connected: bool,
    /// Payloads by number.
    made: Vec<Vec<u8>>,
    dropped: HashSet<u64>,
    acked: u64,
    /// What the sender knows of it.
    known: u64,
    host: Host,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let full = match chance.one_in(3) {
            true => Full::Refuse,
            false => Full::DropOldest,
        };
        let ring = vec![0; 24 + chance.below(128)];
        let is_eager = chance.one_in(2);
        let sender = SessionSender::new(ring, full);
        Self {
            saved: sender.save(),
            sender: Some(sender),
            full,
            is_eager,
            lent: None,
            is_connected: false,
            made: Vec::new(),
            dropped: HashSet::new(),
            acked: 0,
            known: 0,
            host: Host::default(),
            chance,
        }
    }

    fn sender(&mut self) -> &mut SessionSender<Vec<u8>, Eager> {
        self.sender.as_mut().expect("is there between two steps")
    }

    fn push(&mut self) {
        let mut message = (self.made.len() as u32).to_be_bytes().to_vec();
        message.resize(4 + self.chance.below(16), 0xa5);
        let held = self.sender().unacknowledged();
        match self.sender().push(&message) {
            Ok(dropped) => {
                self.dropped
                    .extend(held.first..held.first + u64::from(dropped));
                self.made.push(message);
                self.saved = self.sender().save();
            }
            Err(PushError::Full { .. } | PushError::TooLong { .. }) => {
                assert_eq!(
                    self.sender().unacknowledged(),
                    held,
                    "a refused push changed something"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn connect(&mut self) {
        let mut device = Device::new("device").unwrap().with_time();
        if self.is_eager {
            device = device.with_eager_start();
        }
        let mut to = [0; HELLO_WIRE_MAX];
        let hello = self.sender().hello(&device, 7, &mut to).to_vec();
        self.host.accept();
        self.host.wire.extend(hello);
        self.is_connected = true;
    }

    fn write(&mut self) {
        let Some(chunk) = self.lent.take() else {
            let chunk = self.sender().chunk(9).to_vec();
            self.lent = (!chunk.is_empty()).then_some(chunk);
            return;
        };
        let len = 1 + self.chance.below(chunk.len());
        self.host.wire.extend(&chunk[..len]);
        self.sender().wrote(len);
    }

    fn hear(&mut self) -> Result<(), LinkError<()>> {
        let Some(frame) = self.host.down.pop_front() else {
            return Ok(());
        };
        let heard = self.sender().heard(&frame).map_err(LinkError::Heard);
        if frame[0] == 1 {
            // The session.
            self.saved = self.sender().save();
        }
        self.known = self.known.max(self.host.acked_by(&frame));
        self.acked = self.acked.max(self.known);
        heard.map(|_| ())
    }

    fn cut(&mut self) {
        self.is_connected = false;
        self.lent = None;
        self.host.cut();
        self.sender().closed();
    }

    /// A reset of the device, with the ring in memory that outlives it.
    fn reset(&mut self) {
        self.cut();
        let ring = self.sender.take().expect("a sender").into_ring();
        let restored = SessionSender::restore(ring, self.full, &self.saved);
        self.sender = Some(restored.expect("the state is sound"));
        self.known = 0;
    }

    fn step(&mut self) {
        match self.chance.below(12) {
            0 | 1 if self.made.len() < 150 => self.push(),
            2..=5 if self.is_connected => self.write(),
            6 if self.is_connected => self.host.read(&self.made),
            7 if self.is_connected => {
                self.host.sync();
                let heard = self.hear();
                assert_eq!(heard, Ok(()));
            }
            8 if self.is_connected && self.chance.one_in(6) => match self.chance.below(5) {
                0 => self.sender().ping(),
                1 => self.sender().end(),
                2 => self.reset(),
                3 => self.cut(),
                _ => {
                    self.cut();
                    self.host.crash();
                }
            },
            9 if self.is_connected && self.chance.one_in(12) => self.host.fail_sync(),
            10 if self.is_connected => {
                let heard = self.hear();
                assert_eq!(heard, Ok(()));
            }
            11 if !self.is_connected => self.connect(),
            _ => {}
        }
        if !self.host.is_connected && self.is_connected && self.host.down.is_empty() {
            self.cut();
        }
        self.check();
    }

    fn check(&mut self) {
        let held = self.sender().unacknowledged();
        assert_eq!(held.first + u64::from(held.blocks), self.made.len() as u64);
        assert!(u64::from(held.lost) <= held.first);
        // An eager sender can drop what it is told to skip, before it has skipped it.
        let known = if self.is_eager { 0 } else { self.known };
        let given_up = |number: &u64| self.dropped.contains(number) && known <= *number;
        let given_up = (0..held.first).rev().take_while(given_up).count();
        assert!(
            held.lost as usize <= given_up,
            "{} of {given_up} given up",
            held.lost
        );
        let acked = self.acked;
        // Nothing left the ring but by an acknowledgement or a drop.
        assert!((0..held.first).all(|number| number < acked || self.dropped.contains(&number)));
    }

    /// Sends all that is left, and checks the recording.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            if self.sender().is_settled() {
                break;
            }
            if !self.is_connected {
                self.connect();
            }
            self.sender().end();
            self.write();
            self.host.read(&self.made);
            self.host.sync();
            assert_eq!(self.hear(), Ok(()));
            if !self.host.is_connected && self.host.down.is_empty() {
                self.cut();
            }
        }
        assert!(self.sender().is_settled(), "stuck");
        let recorded = self.host.recorded();
        for (number, message) in self.made.iter().enumerate() {
            match recorded.get(&(number as u64)) {
                Some(found) => assert_eq!(found, message, "number {number}"),
                None => assert!(
                    self.dropped.contains(&(number as u64)),
                    "number {number} is lost"
                ),
            }
        }
        assert!(self.full == Full::DropOldest || self.dropped.is_empty());
    }
}

#[test]
fn every_message_is_recorded_once_or_in_a_gap() {
    let seeds =
        std::env::var("SESSION_SEEDS").map_or(2_000, |given| given.parse().expect("a number"));
    for seed in 1..=seeds {
        let ended = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..800 {
                run.step();
            }
            run.finish();
        });
        assert!(ended.is_ok(), "seed {seed}");
    }
}
