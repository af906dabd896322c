//! The task of one device: keeps its ring full, and drives a connection after another.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use framing_core::session::wire::HELLO_WIRE_MAX;
use framing_core::session::{Device, Full, Heard, PushError, SessionSender};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::{DevicePlan, DeviceSeen, numbered_payload};

/// Pause before the next attempt to connect.
const BACK_OFF: Duration = Duration::from_millis(20);

/// A device.
pub(super) struct Task {
    plan: DevicePlan,
    seen: Arc<DeviceSeen>,
    host: watch::Receiver<Option<SocketAddr>>,
    is_ending: watch::Receiver<bool>,
    sender: SessionSender<Vec<u8>>,
    /// The next message.
    next: u64,
    /// When it is due.
    due: Instant,
    /// When each message in the ring was pushed, if that is measured.
    pushed_at: VecDeque<Instant>,
    ack_times: Vec<Duration>,
}

impl Task {
    pub(super) fn new(
        plan: DevicePlan,
        seen: &Arc<DeviceSeen>,
        host: watch::Receiver<Option<SocketAddr>>,
        is_ending: watch::Receiver<bool>,
    ) -> Self {
        Self {
            sender: SessionSender::new(vec![0; plan.ring_len], Full::Refuse),
            plan,
            seen: Arc::clone(seen),
            host,
            is_ending,
            next: 0,
            due: Instant::now(),
            pushed_at: VecDeque::new(),
            ack_times: Vec::new(),
        }
    }

    /// Runs until everything is acknowledged. Returns the times from message to acknowledgement.
    pub(super) async fn run(mut self) -> Vec<Duration> {
        // Devices do not begin at the same moment.
        let phase = self.seen.id.bytes().fold(7_u32, |phase, byte| {
            phase.wrapping_mul(31).wrapping_add(byte.into())
        });
        self.due += self
            .plan
            .pause
            .mul_f64(f64::from(phase) / f64::from(u32::MAX));
        loop {
            let host = *self.host.borrow_and_update();
            if self.is_done() {
                return self.ack_times;
            }
            let Some(host) = host else {
                tokio::select! {
                    _ = self.host.changed() => {}
                    _ = self.is_ending.changed() => {}
                }
                continue;
            };
            if let Ok(stream) = TcpStream::connect(host).await {
                // Every reason leads to the next attempt.
                let _ = self.connection(stream).await;
                self.sender.closed();
                self.seen.is_connected.store(false, Ordering::SeqCst);
            }
            if !self.is_done() {
                sleep(BACK_OFF).await;
            }
        }
    }

    fn is_done(&self) -> bool {
        *self.is_ending.borrow() && self.sender.is_settled()
    }

    /// Sends until the connection ends, or everything is acknowledged.
    async fn connection(&mut self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut read, mut write) = stream.split();
        let mut hello = [0; HELLO_WIRE_MAX];
        let device = Device::new(&self.seen.id).expect("an id");
        let hello = self.sender.hello(&device, 0, &mut hello);
        write.write_all(hello).await?;
        let mut received = Vec::new();
        loop {
            let is_later = self.fill();
            let is_ending = *self.is_ending.borrow();
            if is_ending {
                self.sender.end();
            }
            if self.is_done() {
                return Ok(());
            }
            let due = self.due;
            let chunk = self.sender.chunk(0);
            let has_more = !chunk.is_empty();
            let mut bytes = [0; 1024];
            tokio::select! {
                biased;
                len = read.read(&mut bytes) => match len? {
                    0 => return Ok(()),
                    len => {
                        received.extend_from_slice(&bytes[..len]);
                        while let Some(frame) = take_frame(&mut received) {
                            if !self.heard(&frame) {
                                return Ok(());
                            }
                        }
                    }
                },
                len = write.write(chunk), if has_more => self.sender.wrote(len?),
                () = sleep_until(due), if is_later && !is_ending => {}
                _ = self.is_ending.changed(), if !is_ending => {}
                _ = self.host.changed() => return Ok(()),
            }
        }
    }

    /// Pushes the messages that are due. Returns whether the next one only waits for its time.
    fn fill(&mut self) -> bool {
        while !*self.is_ending.borrow() {
            let is_paced = !self.plan.pause.is_zero();
            if is_paced && Instant::now() < self.due {
                return true;
            }
            let payload = numbered_payload(&self.seen.id, self.next, self.plan.message_len);
            match self.sender.push(&payload) {
                Ok(_) => {}
                Err(PushError::Full { .. }) => return false,
                Err(error) => panic!("{}: {error}", self.seen.id),
            }
            if self.plan.is_timed {
                self.pushed_at.push_back(Instant::now());
            }
            self.next += 1;
            self.due += self.plan.pause;
            self.seen.pushed.store(self.next, Ordering::SeqCst);
        }
        false
    }

    /// Takes a frame. Returns whether the connection goes on.
    fn heard(&mut self, frame: &[u8]) -> bool {
        let before = self.sender.unacknowledged().first;
        let heard = self.sender.heard(frame);
        let first = self.sender.unacknowledged().first;
        let seen = &*self.seen;
        seen.acked.store(first, Ordering::SeqCst);
        if self.plan.is_timed {
            let count = usize::try_from(first - before).expect("few");
            let times = self.pushed_at.drain(..count).map(|at| at.elapsed());
            self.ack_times.extend(times);
        }
        match heard {
            Ok(Heard::Welcome { .. }) => {
                seen.session.store(self.sender.session(), Ordering::SeqCst);
                seen.welcomes.fetch_add(1, Ordering::SeqCst);
                seen.is_connected.store(true, Ordering::SeqCst);
                true
            }
            Ok(Heard::Acknowledged) => {
                let count = match first == before {
                    true => &seen.heartbeats,
                    false => &seen.acks,
                };
                count.fetch_add(1, Ordering::SeqCst);
                true
            }
            Ok(Heard::Closing { code, .. }) => {
                let mut closings = seen.closings.lock().unwrap_or_else(PoisonError::into_inner);
                closings.push(code);
                false
            }
            Ok(_) => true,
            Err(error) => panic!("{}: {error}", seen.id),
        }
    }
}

/// Takes the first message of the received bytes, if it is whole.
fn take_frame(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let header = received.first_chunk::<4>()?;
    let end = 4 + u32::from_be_bytes(*header) as usize;
    let frame = received.get(4..end)?.to_vec();
    received.drain(..end);
    Some(frame)
}
