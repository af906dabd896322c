//! A device: makes messages, keeps them in a ring, and delivers them over the library's link.

use std::sync::Arc;
use std::time::Duration;

use embedded_io_adapters::tokio_1::FromTokio;
use framing_core::asynch::Link;
use framing_core::session::{Device, Full, Heard, SessionSender};
use tokio::time::Instant;
use turmoil::net::TcpStream;

use super::daemon::{HEARTBEAT_S, PORT};
use super::{CALM_MS, Fate, World, known, link, name};
use crate::disk::Chance;
use crate::simulated::wire::Wire;

/// Timeout of an attempt to connect, and of the WELCOME.
const WELCOME_MAX: Duration = Duration::from_secs(4);
/// Silence after which the host is given up.
const SILENCE_MAX: Duration = Duration::from_secs(3 * HEARTBEAT_S);

type Sender = SessionSender<[u8; 400]>;

/// The message with this value.
pub(super) fn payload(value: usize) -> Vec<u8> {
    let mut payload = value.to_string().into_bytes();
    payload.resize(8 + value % 40, b'.');
    payload
}

/// The messages of a device: those that the ring holds are the last ones.
struct Messages {
    world: World,
    device: usize,
    sender: Sender,
    /// Values in the ring, oldest first.
    held: std::collections::VecDeque<usize>,
    /// Reboots so far.
    reboots: u64,
    at: Instant,
    period: Duration,
    until: Instant,
}

impl Messages {
    /// Makes the messages that are due.
    fn make(&mut self) {
        self.settle();
        while self.at <= Instant::now() && self.at < self.until {
            self.at += self.period;
            let value = {
                let mut known = known(&self.world);
                known.fates[self.device].push(Fate::Held);
                known.fates[self.device].len() - 1
            };
            match self.sender.push(&payload(value)) {
                Ok(dropped) => {
                    for _ in 0..dropped {
                        let oldest = self.held.pop_front().expect("a held message");
                        known(&self.world).fates[self.device][oldest] = Fate::GivenUp;
                    }
                    self.held.push_back(value);
                }
                Err(_) => known(&self.world).fates[self.device][value] = Fate::GivenUp,
            }
        }
    }

    /// Notes which messages were acknowledged.
    fn settle(&mut self) {
        let left = self.sender.unacknowledged().blocks as usize;
        while left < self.held.len() {
            let oldest = self.held.pop_front().expect("a held message");
            known(&self.world).fates[self.device][oldest] = Fate::Acknowledged;
        }
    }

    /// Whether the device must restart. Then its ring is gone.
    fn reboot(&mut self) -> bool {
        let reboots = known(&self.world).reboots[self.device];
        if self.reboots == reboots {
            return false;
        }
        self.reboots = reboots;
        self.settle();
        for value in self.held.drain(..) {
            known(&self.world).fates[self.device][value] = Fate::GivenUp;
        }
        self.sender = SessionSender::new([0; 400], Full::DropOldest);
        true
    }

    fn has_ended(&self) -> bool {
        self.until < Instant::now()
    }
}

pub(super) async fn run(world: World, device: usize, period_ms: u64, seed: u64) -> turmoil::Result {
    let mut chance = Chance(seed);
    let now = Instant::now();
    let mut messages = Messages {
        world: Arc::clone(&world),
        device,
        sender: SessionSender::new([0; 400], Full::DropOldest),
        held: std::collections::VecDeque::new(),
        reboots: 0,
        at: now,
        period: Duration::from_millis(period_ms),
        until: now + Duration::from_millis(CALM_MS + 10_000),
    };
    loop {
        messages.reboot();
        messages.make();
        if messages.has_ended() && messages.sender.is_settled() {
            return Ok(());
        }
        deliver(&mut messages).await;
        messages.sender.closed();
        messages.settle();
        let back_off = chance.of(20..=1_500) as u64;
        tokio::time::sleep(Duration::from_millis(back_off)).await;
    }
}

/// One connection, until it fails, or until everything is delivered.
async fn deliver(messages: &mut Messages) {
    let connecting = TcpStream::connect(("daemon", PORT));
    let Ok(Ok(stream)) = tokio::time::timeout(WELCOME_MAX, connecting).await else {
        return;
    };
    let (token, seed) = link(&messages.world, messages.device);
    known(&messages.world).connections += 1;
    let (read, write) = tokio::io::split(Wire::new(stream, token, seed));
    let (read, write) = (FromTokio::new(read), FromTokio::new(write));
    let name = name(messages.device);
    let id = Device::new(&name).expect("a name");
    // The link borrows the sender, and the messages are made between its frames.
    let mut sender = std::mem::replace(
        &mut messages.sender,
        SessionSender::new([0; 400], Full::DropOldest),
    );
    let link = Link::open(&mut sender, read, write, &id, 0);
    let opened = tokio::time::timeout(WELCOME_MAX, link).await;
    let Ok(Ok(mut link)) = opened else {
        messages.sender = sender;
        return;
    };
    let mut heard = Instant::now();
    let mut limit = WELCOME_MAX;
    loop {
        std::mem::swap(link.sender(), &mut messages.sender);
        messages.make();
        let is_rebooted = messages.reboot();
        let is_done = messages.has_ended();
        let is_settled = messages.sender.is_settled();
        std::mem::swap(link.sender(), &mut messages.sender);
        if is_rebooted || (is_done && is_settled) {
            break;
        }
        if is_done {
            link.sender().end();
        }
        let turn = messages.period.min(Duration::from_millis(100));
        match tokio::time::timeout(turn, link.drive(|| 0)).await {
            Ok(Ok(frame)) => {
                heard = Instant::now();
                limit = SILENCE_MAX;
                if matches!(frame, Heard::Closing { .. }) {
                    break;
                }
            }
            Ok(Err(_)) => break,
            Err(_) if limit < heard.elapsed() => break,
            Err(_) => {}
        }
    }
    drop(link);
    messages.sender = sender;
}
