//! The frames that a session's connection sends to the device: [`Attached`] decides which is due, and writes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use framing_core::session::Resumed;
use framing_core::session::wire::{
    Ack, Closing, ClosingCode, HEARTBEAT_HOST, HEARTBEAT_NONE, Hello, NEW, TIME, Welcome,
};
use tokio::time::{Instant, Sleep};

use crate::connection::policy::Policy;
use crate::listen::transport::Transport;
use crate::moment::Moment;
use crate::reason::CloseReason;
use crate::session::{HelloKind, OpenedSession, Session, Sessions, Standing};

/// How often the ends of series may hasten a commit.
const HASTE: Duration = Duration::from_millis(100);

/// A connection that has opened a session.
#[derive(Debug)]
pub(in crate::connection) struct Attached {
    pub(super) session: Arc<Session>,
    /// Number of the next message of the connection.
    pub(super) next: u64,
    pub(super) expects: Expects,
    pub(super) after: Option<After>,
    /// Messages that were received, and passed to the sinks.
    pub(super) messages: u64,
    /// A series was begun.
    pub(super) has_begun: bool,
    /// END was the last item that arrived, so an acknowledgement does not wait.
    pub(super) has_ended: bool,
    /// The device is owed an answer with the time.
    pub(super) is_pinged: bool,
    /// Bytes of the ring that are not acknowledged.
    pub(super) unacked: u64,
    /// The last frame, once it is decided to close.
    pub(super) closing: Option<Box<LastFrame>>,
    pub(super) conn: u64,
    /// The device before it opened the session.
    pub(super) former: Arc<str>,
    sessions: Arc<Sessions>,
    /// Length of the device's ring in bytes; 0 if unknown.
    room: u32,
    has_time: bool,
    welcome: Option<Box<Welcome>>,
    /// The part of a frame that is not written yet.
    unwritten: Vec<u8>,
    acked: u64,
    acked_at: Moment,
    framed_at: Moment,
    /// When the end of a series last hastened a commit.
    hastened_at: Option<Moment>,
    ack_interval_ms: u32,
    /// 0: none.
    heartbeat_s: u16,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The next part of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    Cont,
    Message,
    /// The rest of a refused message, in bytes.
    Skip(u64),
}

/// The item that ended a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    End,
    Refused(framing_core::Fault),
}

/// A CLOSING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) struct LastFrame {
    pub(super) code: ClosingCode,
    pub(super) retry_s: u16,
    pub(super) text: &'static str,
    /// The highest version of the protocol, for a device that speaks another one.
    pub(super) number: u64,
}

impl Attached {
    pub(super) fn new(
        sessions: &Arc<Sessions>,
        (conn, former): (u64, Arc<str>),
        opened: OpenedSession,
        hello: &Hello<'_>,
        policy: &Policy,
        clock: u16,
    ) -> Self {
        let Resumed {
            acked,
            resume,
            check,
            ..
        } = opened.resumed;
        let heartbeat_s = match hello.heartbeat {
            HEARTBEAT_HOST => seconds(policy.sessions.heartbeat),
            HEARTBEAT_NONE => 0,
            tens => 10 * u16::from(tens),
        };
        let ack_interval_ms = policy.sessions.ack_interval.as_millis();
        let is_new = opened.kind == HelloKind::Replaced;
        let now = Moment::now();
        let welcome = Welcome {
            acked,
            resume,
            session: opened.session.number(),
            time_ns: 0,
            block_max: policy.limits.block_max.max(1),
            heartbeat_s,
            flags: clock | if is_new { NEW } else { 0 },
            check,
        };
        Self {
            session: opened.session,
            next: resume,
            expects: Expects::Cont,
            after: None,
            messages: 0,
            has_begun: false,
            has_ended: false,
            is_pinged: false,
            unacked: 0,
            closing: None,
            sessions: Arc::clone(sessions),
            conn,
            former,
            room: hello.room,
            has_time: hello.flags & TIME != 0,
            welcome: Some(Box::new(welcome)),
            unwritten: Vec::new(),
            acked,
            acked_at: now,
            framed_at: now,
            hastened_at: None,
            ack_interval_ms: u32::try_from(ack_interval_ms).unwrap_or(u32::MAX),
            heartbeat_s,
            timer: None,
        }
    }

    /// Whether everything that the connection has sent is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        (self.next <= self.acked || !self.has_begun)
            && self.unwritten.is_empty()
            && self.welcome.is_none()
    }

    /// The series has ended: hastens the commit of its messages.
    pub(super) fn hasten(&mut self) {
        let now = Moment::now();
        let is_free = self.hastened_at.is_none_or(|at| at.is_past(HASTE, now));
        if is_free && self.session.durable() < self.next {
            self.hastened_at = Some(now);
            self.session.hasten(self.next);
        }
    }

    /// Whether half of the ring, or more, is full when `len` bytes more have arrived.
    pub(super) fn is_half_full(&self, len: u64) -> bool {
        self.room != 0 && u64::from(self.room) / 2 <= self.unacked + len
    }

    /// Whether the device has not taken a frame yet.
    pub(super) const fn is_blocked(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Writes the frames that are due. Returns the reason to close, if the connection cannot go on. Otherwise wakes the task
    /// when there may be more to write.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut dyn Transport,
    ) -> Option<CloseReason> {
        loop {
            let is_blocked = match self.poll_write(context, transport) {
                Poll::Ready(Err(())) => return Some(CloseReason::Reset),
                Poll::Ready(Ok(())) => false,
                Poll::Pending => true,
            };
            let standing = self.session.standing(self.conn, self.next, context.waker());
            let durable = match standing {
                Standing::Owner { durable } => durable,
                Standing::Superseded { retry_s } => {
                    let frame = LastFrame::new(ClosingCode::Superseded, retry_s, "superseded");
                    self.closing = Some(Box::new(frame));
                    return Some(CloseReason::Superseded);
                }
                Standing::Again => {
                    let frame = LastFrame::new(ClosingCode::Again, 0, "the host lost messages");
                    self.closing = Some(Box::new(frame));
                    return Some(CloseReason::SyncFailed);
                }
            };
            if is_blocked {
                return None;
            }
            if let Some(welcome) = self.welcome.take() {
                let welcome = Welcome {
                    time_ns: now_ns(),
                    ..*welcome
                };
                self.put(&welcome.encode());
                continue;
            }
            match self.due(durable) {
                Due::Now => self.acknowledge(durable),
                Due::At(at) => {
                    let timer = self
                        .timer
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                    if timer.deadline() != at {
                        timer.as_mut().reset(at);
                    }
                    if timer.as_mut().poll(context).is_pending() {
                        return None;
                    }
                }
                Due::Never => return None,
            }
        }
    }

    /// Encodes the last frame, and returns it. Nothing is written after it.
    pub(super) fn last_frame(&mut self) -> Option<Vec<u8>> {
        let closing = self.closing.take()?;
        self.sessions.counters().closing(closing.code);
        Some(closing.encode())
    }

    /// Takes the rest of the frame that is being written.
    pub(super) fn take_unwritten(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unwritten)
    }

    /// When the next ACK is due.
    fn due(&self, durable: u64) -> Due {
        if self.is_pinged {
            return Due::Now;
        }
        let time = Duration::from_secs(self.heartbeat_s.into());
        let heartbeat = self.framed_at.after(time).filter(|_| !time.is_zero());
        let acked = (self.acked < durable).then(|| {
            let is_urgent = self.has_ended || self.room == 0 || self.is_half_full(0);
            match is_urgent {
                true => self.acked_at.after(Duration::ZERO),
                false => self
                    .acked_at
                    .after(Duration::from_millis(self.ack_interval_ms.into())),
            }
        });
        let next = heartbeat.into_iter().chain(acked.flatten()).min();
        match next {
            Some(at) if at <= Instant::now() => Due::Now,
            Some(at) => Due::At(at),
            None => Due::Never,
        }
    }

    fn acknowledge(&mut self, durable: u64) {
        let time_ns = (self.has_time || self.is_pinged).then(now_ns);
        let ack = Ack {
            acked: durable,
            time_ns,
        };
        let (bytes, len) = ack.encode();
        self.put(bytes.get(..len).unwrap_or_default());
        self.sessions.counters().ack();
        self.is_pinged = false;
        if self.acked < durable {
            // Messages are taken to be of equal length.
            let left = self.next.saturating_sub(durable);
            let before = self.next.saturating_sub(self.acked).max(1);
            let rest = u128::from(self.unacked) * u128::from(left) / u128::from(before);
            self.unacked = u64::try_from(rest).unwrap_or(u64::MAX);
            self.acked = durable;
            self.acked_at = self.framed_at;
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.unwritten = bytes.to_vec();
        self.framed_at = Moment::now();
    }

    /// Writes the rest of the frame.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut dyn Transport,
    ) -> Poll<Result<(), ()>> {
        while !self.unwritten.is_empty() {
            match Pin::new(&mut *transport).poll_write(context, &self.unwritten) {
                Poll::Ready(Ok(len @ 1..)) => drop(self.unwritten.drain(..len)),
                Poll::Ready(_) => return Poll::Ready(Err(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.unwritten = Vec::new();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.sessions.closed(&self.session, self.conn);
    }
}

/// When a frame is due.
enum Due {
    Now,
    At(Instant),
    Never,
}

impl LastFrame {
    pub(super) const fn new(code: ClosingCode, retry_s: u16, text: &'static str) -> Self {
        Self {
            code,
            retry_s,
            text,
            number: 0,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let closing = Closing {
            code: self.code as u8,
            retry_s: self.retry_s,
            number: self.number,
            text: self.text.as_bytes(),
        };
        let (bytes, len) = closing.encode();
        bytes.get(..len).unwrap_or_default().to_vec()
    }
}

/// Whole seconds, as in a WELCOME.
fn seconds(time: Duration) -> u16 {
    u16::try_from(time.as_secs()).unwrap_or(u16::MAX)
}

/// Nanoseconds since 1970.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
