//! What is known of all devices at one moment: a [`DeviceList`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crate::device::{DeviceState, DeviceStats, from_unix_nanos};
use crate::reason::{CloseReason, FaultKind};

/// The devices of an engine.
#[derive(Clone, Debug, Default)]
pub struct DeviceList {
    /// The connected devices, and those that are gone and not dropped, in no order.
    pub devices: Vec<DeviceSnapshot>,
    /// Number of devices that were dropped, because more were gone than are kept. One that comes back later, and is
    /// dropped again, counts again.
    pub dropped: u64,
}

/// The values of [`DeviceStats`] at one moment.
#[derive(Clone, Debug)]
pub struct DeviceSnapshot {
    /// Name of the device.
    pub device: Arc<str>,
    /// Its state.
    pub state: DeviceState,
    /// Open connections.
    pub connections: u32,
    /// Connections so far.
    pub connections_total: u64,
    /// Times that it connected again after all its connections were closed, or that its session was continued on a new
    /// connection while the old one was open.
    pub reconnects: u64,
    /// Complete messages.
    pub messages: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Messages a second: an average in which the last five seconds weigh most.
    pub messages_per_s: f64,
    /// Faults, in the order of [`FaultKind::ALL`].
    pub faults: [u64; FaultKind::ALL.len()],
    /// Gaps of its sessions.
    pub gaps: u64,
    /// Numbers without a message in these.
    pub gap_messages: u64,
    /// The median of its last intervals between batches, if known.
    pub interval: Option<Duration>,
    /// When it was first connected.
    pub first_seen: SystemTime,
    /// When it last connected or sent a batch.
    pub last_seen: SystemTime,
    /// Why its last connection that has closed was closed.
    pub last_close: Option<CloseReason>,
}

impl DeviceSnapshot {
    /// Reads the values. They may be of slightly different moments.
    pub(super) fn of(stats: &DeviceStats) -> Self {
        let last_close = usize::from(stats.last_close.load(Ordering::Relaxed));
        Self {
            device: Arc::clone(&stats.name),
            state: stats.state(),
            connections: stats.connections.load(Ordering::Relaxed),
            connections_total: stats.connections_total.load(Ordering::Relaxed),
            reconnects: stats.reconnects.load(Ordering::Relaxed),
            messages: stats.messages.load(Ordering::Relaxed),
            bytes: stats.bytes.load(Ordering::Relaxed),
            messages_per_s: stats.messages_per_s(),
            faults: stats
                .faults
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed)),
            gaps: stats.gaps.load(Ordering::Relaxed),
            gap_messages: stats.gap_messages.load(Ordering::Relaxed),
            interval: stats.interval(),
            first_seen: from_unix_nanos(stats.first_seen.load(Ordering::Relaxed)),
            last_seen: from_unix_nanos(stats.last_seen.load(Ordering::Relaxed)),
            last_close: last_close
                .checked_sub(1)
                .and_then(|index| CloseReason::ALL.get(index).copied()),
        }
    }
}
