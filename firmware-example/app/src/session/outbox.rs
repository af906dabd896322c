//! The samples of a session on their way into its ring, with the host's time: [`Outbox`].

use framing_core::session::HostClock;
use framing_core::session::wire::SYNCED;

use super::memory::{Sender, States};
use super::report::SessionReport;
use crate::log::info;
use crate::sample::Sample;

/// Age of an estimate of the host's time after which it begins anew: a clock that is wrong by 50 ppm is late by 30 ms then.
const ESTIMATE_US: u64 = 600_000_000;

/// The state of a session beside its sender, which a connection borrows.
#[derive(Debug)]
pub(super) struct Outbox<'m> {
    states: &'m mut States,
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
    pub(super) fn new(states: &'m mut States, restored: u32) -> Self {
        Self {
            states,
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

    /// Puts a sample into the ring, with the host's time of it if that is known. The queue has dropped `lost` samples so far.
    pub(super) fn take(&mut self, sender: &mut Sender<'_>, sample: Sample, lost: u32) {
        let held = sender.unacknowledged();
        let report = &mut self.report;
        let time_ns = self.host.at(sample.uptime_ms.saturating_mul(1_000));
        let block = Sample {
            queued: held.blocks,
            ..sample
        }
        .encode_with_time(
            lost.saturating_add(report.given_up)
                .saturating_add(report.refused),
            time_ns.map(|ns| ns / 1_000_000),
        );
        match self.states.push(sender, &block) {
            Ok(0) => {}
            Ok(dropped) => {
                // Otherwise the message before was given up, too.
                report.gaps = report.gaps.saturating_add(u32::from(held.lost == 0));
                report.given_up = report.given_up.saturating_add(dropped);
            }
            // The oldest message is partly sent, or the sample is longer than the host takes.
            Err(_) => report.refused = report.refused.saturating_add(1),
        }
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
