//! The messages of a session on their way from the ring, and the time of the host: [`Outbox`].

use framing_core::session::wire::SYNCED;
use framing_core::session::{Full, HostClock, PushError};

use super::memory::{Sender, States};
use super::report::SessionReport;
use crate::log::info;
use crate::ring::{Beyond, Front, Ring};
use crate::source::{TAIL_MAX, Tail, tail_of};

/// Age of an estimate of the host's time after which it begins anew: a clock that is wrong by 50 ppm is late by 30 ms then.
const ESTIMATE_US: u64 = 600_000_000;

/// The state of a session beside its sender, which a connection borrows.
#[derive(Debug)]
pub(super) struct Outbox<'m> {
    states: &'m mut States,
    /// Whether the session keeps its messages rather than take new ones.
    keeps: bool,
    tail: Option<Tail>,
    host: HostClock,
    /// When the estimate of the host's time began.
    estimated_us: u64,
    /// Whether the host's clock is synchronised, according to its last WELCOME.
    is_certain: bool,
    /// Whether the WELCOME of the connection has come.
    pub(super) is_welcome: bool,
    /// Whether the connection has acknowledged a message.
    pub(super) has_progress: bool,
    /// Whether a sync of the host has failed, and nothing was acknowledged since.
    pub(super) is_stuck: bool,
    pub(super) report: SessionReport,
}

impl<'m> Outbox<'m> {
    pub(super) fn new(states: &'m mut States, full: Full, restored: u32) -> Self {
        Self {
            states,
            keeps: full == Full::Refuse,
            tail: None,
            host: HostClock::new(),
            estimated_us: 0,
            is_certain: false,
            is_welcome: false,
            has_progress: false,
            is_stuck: false,
            report: SessionReport {
                restored,
                ..SessionReport::default()
            },
        }
    }

    pub(super) fn set_tail(&mut self, tail: Tail) {
        self.tail = Some(tail);
    }

    /// Moves all messages from the ring to the session. Returns whether it could: not if the session keeps what it has, and has
    /// no room.
    pub(super) fn take_all<const N: usize>(
        &mut self,
        sender: &mut Sender<'_>,
        ring: &Ring<N>,
    ) -> bool {
        let mut has_room = true;
        while let Some(front) = ring.front()
            && has_room
        {
            has_room = self.take(sender, ring, front);
        }
        self.note(sender, ring);
        has_room
    }

    fn take<const N: usize>(
        &mut self,
        sender: &mut Sender<'_>,
        ring: &Ring<N>,
        front: Front,
    ) -> bool {
        let was_whole = sender.unacknowledged().lost == 0;
        let lost = ring.counts().lost().saturating_add(self.lost());
        let mut tail = [0; TAIL_MAX];
        let tail = tail_of(self.tail, lost, &mut tail);
        let report = &mut self.report;
        match sender.make_room(front.len.saturating_add(tail.len())) {
            Ok(0) => {}
            Ok(dropped) => {
                // Otherwise the message before was given up, too.
                report.gaps = report.gaps.saturating_add(u32::from(was_whole));
                report.given_up = report.given_up.saturating_add(dropped);
            }
            Err(PushError::Full { .. }) if self.keeps => return false,
            // The oldest message is partly sent, or this one is longer than the host takes.
            Err(_) => {
                if ring.take(front, |_| ()).is_some() {
                    report.refused = report.refused.saturating_add(1);
                }
                return true;
            }
        }
        // The push writes over messages that the last state may count.
        self.states.save(sender);
        match ring.take(front, |[start, end]| sender.push_parts(&[start, end, tail])) {
            Some(Ok(_)) => self.states.save(sender),
            // Cannot be: there is room.
            Some(Err(_)) => report.refused = report.refused.saturating_add(1),
            // It was dropped from the ring just now.
            None => {}
        }
        true
    }

    /// Tells the producers of the ring how the session is.
    pub(super) fn note<const N: usize>(&self, sender: &Sender<'_>, ring: &Ring<N>) {
        ring.note(Beyond {
            host: self.host,
            held: sender.unacknowledged().blocks,
            lost: self.lost(),
        });
    }

    /// Messages that the session gave up or refused.
    const fn lost(&self) -> u32 {
        self.report.given_up.saturating_add(self.report.refused)
    }

    /// The host continues the session. Its clock may be another one, so the estimate of its time begins anew.
    pub(super) fn welcome(&mut self, sender: &Sender<'_>, flags: u16) {
        self.states.save(sender);
        self.host.restart();
        self.is_certain = flags & SYNCED != 0;
        self.is_welcome = true;
        info!(
            "session {=u64:x} up, connection {=u32}, {=u32} messages to send",
            sender.session(),
            self.report.connections,
            sender.unacknowledged().blocks
        );
    }

    /// The host's time, if its clock is synchronised.
    pub(super) fn certain_time(&self) -> HostClock {
        if self.is_certain {
            self.host
        } else {
            HostClock::new()
        }
    }

    /// A frame acknowledged this many messages, and had this time of the host.
    pub(super) fn heard(&mut self, acknowledged: u32, time_ns: Option<u64>, now_us: u64) {
        self.report.acknowledged = self.report.acknowledged.saturating_add(acknowledged);
        self.has_progress |= acknowledged != 0;
        self.is_stuck &= acknowledged == 0;
        let Some(time_ns) = time_ns else { return };
        if self.estimated_us.saturating_add(ESTIMATE_US) <= now_us {
            self.host.restart();
            self.estimated_us = now_us;
        }
        self.host.heard(time_ns, now_us);
    }
}
