//! Devices with acknowledged sessions, on a runtime of their own. Start with [`SessionDevices::start`].
//!
//! Each device numbers its messages from 0, keeps them in a ring until they are acknowledged, and never gives one up. So the
//! message with number *n* is [`numbered_payload`] of *n*, in whatever session it is recorded.

mod task;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::process::{DEADLINE, wait_until};

/// The messages of devices, and their rings.
#[derive(Clone, Copy, Debug)]
pub struct DevicePlan {
    /// Length of the ring in bytes.
    pub ring_len: usize,
    /// Length of each message in bytes, if it is longer than its head.
    pub message_len: usize,
    /// Time between two messages. Zero: as fast as the ring takes them.
    pub pause: Duration,
    /// Measures the time of each message until it is acknowledged.
    pub is_timed: bool,
}

/// Running devices. When dropped, they close their connections without an END.
#[derive(Debug)]
pub struct SessionDevices {
    // Ends before the runtime that drives it.
    devices: Vec<RunningDevice>,
    host: watch::Sender<Option<SocketAddr>>,
    is_ending: watch::Sender<bool>,
    runtime: Runtime,
}

/// A device, as seen from outside.
#[derive(Debug)]
struct RunningDevice {
    seen: Arc<DeviceSeen>,
    task: JoinHandle<Vec<Duration>>,
}

/// The progress of a device.
#[derive(Debug)]
pub struct DeviceSeen {
    /// Its id.
    pub id: String,
    pushed: AtomicU64,
    acked: AtomicU64,
    session: AtomicU64,
    is_connected: AtomicBool,
    welcomes: AtomicU64,
    acks: AtomicU64,
    heartbeats: AtomicU64,
    closings: Mutex<Vec<u8>>,
}

/// The final figures of a device.
#[derive(Debug)]
pub struct DeviceOutcome {
    /// Its id.
    pub id: String,
    /// Number of its messages: all from 0 are acknowledged.
    pub pushed: u64,
    /// Times from a message to its acknowledgement, in the order of the messages.
    pub ack_times: Vec<Duration>,
}

impl Default for DevicePlan {
    /// Short messages, as fast as a ring of 16 KiB takes them.
    fn default() -> Self {
        Self {
            ring_len: 16 << 10,
            message_len: 64,
            pause: Duration::ZERO,
            is_timed: false,
        }
    }
}

/// The payload of message number `number` of a device: `len` bytes, or the head if that is longer.
#[must_use]
pub fn numbered_payload(id: &str, number: u64, len: usize) -> Vec<u8> {
    let mut payload = format!("{id}#{number};").into_bytes();
    let from = payload.len();
    payload.extend((from..len).map(|at| (at as u64).wrapping_add(number) as u8));
    payload
}

/// The device and the number of a [payload](numbered_payload); `None` if a byte of it is another.
#[must_use]
pub fn parse_payload(payload: &[u8]) -> Option<(&str, u64)> {
    let end = payload.iter().position(|byte| *byte == b';')?;
    let (id, number) = std::str::from_utf8(&payload[..end]).ok()?.split_once('#')?;
    let number = number.parse().ok()?;
    (numbered_payload(id, number, payload.len()) == payload).then_some((id, number))
}

impl SessionDevices {
    /// Starts the devices `NAME-0`, `NAME-1` and so on. They wait for an [address](Self::connect_to).
    pub fn start(name: &str, count: usize, plan: DevicePlan) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread");
        let host = watch::Sender::new(None);
        let is_ending = watch::Sender::new(false);
        let devices = (0..count).map(|index| {
            let seen = Arc::new(DeviceSeen::new(format!("{name}-{index}")));
            let task = task::Task::new(plan, &seen, host.subscribe(), is_ending.subscribe());
            RunningDevice {
                seen,
                task: runtime.spawn(task.run()),
            }
        });
        Self {
            devices: devices.collect(),
            host,
            is_ending,
            runtime,
        }
    }

    /// Closes the connections, and connects to another host.
    pub fn connect_to(&self, host: SocketAddr) {
        self.host.send_replace(Some(host));
    }

    /// The progress of the devices.
    pub fn seen(&self) -> impl Iterator<Item = &DeviceSeen> {
        self.devices.iter().map(|device| &*device.seen)
    }

    /// Waits until each device has acknowledgements of `more` messages more.
    #[track_caller]
    pub fn wait_for_acks(&self, more: u64) {
        let before: Vec<_> = self.seen().map(DeviceSeen::acked).collect();
        let is_acked = |(seen, before): (&DeviceSeen, &u64)| before + more <= seen.acked();
        wait_until("messages are acknowledged", || {
            self.seen().zip(&before).all(is_acked)
        });
    }

    /// Leaves the host, and waits until no device has a connection.
    #[track_caller]
    pub fn leave(&self) {
        self.host.send_replace(None);
        wait_until("the devices have noticed", || {
            self.seen().all(|seen| !seen.is_connected())
        });
    }

    /// Ends the pushes, and waits until everything is acknowledged.
    #[track_caller]
    pub fn finish(self) -> Vec<DeviceOutcome> {
        self.finish_within(DEADLINE)
    }

    /// Like [`finish`](Self::finish), with another limit.
    #[track_caller]
    pub fn finish_within(self, limit: Duration) -> Vec<DeviceOutcome> {
        self.is_ending.send_replace(true);
        let until = Instant::now() + limit;
        let is_finished = |device: &RunningDevice| device.task.is_finished();
        while !self.devices.iter().all(is_finished) {
            assert!(Instant::now() < until, "not everything is acknowledged");
            sleep(Duration::from_millis(10));
        }
        let Self {
            devices, runtime, ..
        } = self;
        let outcome = |device: RunningDevice| DeviceOutcome {
            ack_times: runtime.block_on(device.task).expect("no panic"),
            id: device.seen.id.clone(),
            pushed: device.seen.pushed(),
        };
        devices.into_iter().map(outcome).collect()
    }
}

impl DeviceSeen {
    fn new(id: String) -> Self {
        Self {
            id,
            pushed: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            session: AtomicU64::new(0),
            is_connected: AtomicBool::new(false),
            welcomes: AtomicU64::new(0),
            acks: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            closings: Mutex::default(),
        }
    }

    /// Number of the next message that enters the ring.
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::SeqCst)
    }

    /// All messages below this number are acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::SeqCst)
    }

    /// Its session; 0 if it has none.
    pub fn session(&self) -> u64 {
        self.session.load(Ordering::SeqCst)
    }

    /// Whether it has a connection with a session.
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::SeqCst)
    }

    /// Number of connections that were welcomed.
    pub fn welcomes(&self) -> u64 {
        self.welcomes.load(Ordering::SeqCst)
    }

    /// Number of frames that have acknowledged something.
    pub fn acks(&self) -> u64 {
        self.acks.load(Ordering::SeqCst)
    }

    /// Number of ACK frames that have acknowledged nothing more.
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::SeqCst)
    }

    /// The codes of all CLOSING frames.
    pub fn closings(&self) -> Vec<u8> {
        self.closings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_number_and_no_other_byte() {
        let payload = numbered_payload("boiler-7", 300, 64);
        assert_eq!(parse_payload(&payload), Some(("boiler-7", 300)));
        for at in 0..payload.len() {
            let mut other = payload.clone();
            other[at] ^= 1;
            assert_ne!(parse_payload(&other), Some(("boiler-7", 300)), "{at}");
        }
        assert_eq!(parse_payload(b"boiler-7#300"), None);
    }
}
