//! Looks at all devices each second, and emits which are silent and which send again. Start with [`watch`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use framing_core::{AnyFraming, Blocks};

use crate::connection::context::EngineContext;
use crate::device::{DeviceStats, Silence};
use crate::event::{ConnectionInfo, Encoding, Event, EventKind};
use crate::limit::{Cell, Limiter, Rate};
use crate::origin::Origin;
use crate::peer_log::{Kind, warn_peer};

/// How often all devices are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Devices that are looked at before other tasks of the thread run.
const AT_ONCE: usize = 1000;
/// Limit for the silences of each device: ten at once, and one each ten seconds.
const EACH: Rate = Rate {
    burst: 10,
    interval: Duration::from_secs(10),
};
/// Limit for the silences of all devices: 500 at once, and one a second.
const ALL: Rate = Rate {
    burst: 500,
    interval: Duration::from_secs(1),
};

/// Looks at all devices each second until the engine has ended.
pub(super) async fn watch(context: Weak<EngineContext>) {
    let mut limiter = SilenceLimiter::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let devices = match context.upgrade() {
            Some(context) if !context.stop.is_cancelled() => context.devices.all().0,
            _ => return,
        };
        // The clock of the engine, which can be paused.
        limiter.now = tokio::time::Instant::now().into_std();
        for devices in devices.chunks(AT_ONCE) {
            // The sinks end when the last reference is dropped, so none is kept while this task waits.
            let Some(context) = context.upgrade() else {
                return;
            };
            for device in devices {
                device.look();
                look(&context, device, &mut limiter);
            }
            drop(context);
            tokio::task::yield_now().await;
        }
    }
}

/// Emits a change of this device, if there is one. If a queue is full, the next look tries again; nothing waits.
fn look(context: &EngineContext, device: &Arc<DeviceStats>, limiter: &mut SilenceLimiter) {
    // Of ten thousand devices that fall silent together, most wait for their turn for hours.
    if device.is_postponed() && !limiter.has_tokens() {
        return;
    }
    if let Some(silence) = device.new_silence() {
        let Some(cell) = limiter.take(device.name()) else {
            // It is emitted later, unless the device sends before.
            device.postpone();
            return;
        };
        let Silence { since, interval } = silence;
        match emit(context, device, EventKind::Silent { since, interval }) {
            Ok(()) => {
                device.announce();
                let name = device.name();
                warn_peer!(Kind::Silence, name, device = %name, "silent: nothing for {:.1?}; its median interval is {interval:.3?}", since.elapsed().unwrap_or_default());
            }
            Err(()) => limiter.give_back(cell),
        }
    } else if device.ends_postponed() {
        context.devices.unannounced.fetch_add(1, Ordering::Relaxed);
    } else if let Some(silence) = device.ended_silence()
        && emit(context, device, EventKind::Back { silence }).is_ok()
    {
        device.announce_end();
        let name = device.name();
        warn_peer!(Kind::Silence, name, device = %name, "back after a silence of {silence:.3?}");
    }
}

/// Sends an event to the sinks, unless a queue is full.
fn emit(context: &EngineContext, device: &DeviceStats, kind: EventKind) -> Result<(), ()> {
    if context.fanout.is_empty() {
        return Ok(());
    }
    let source = Arc::new(ConnectionInfo {
        conn: 0,
        device: Arc::clone(device.name()),
        framing: AnyFraming::Blocks(Blocks),
        encoding: Encoding::default(),
        first_seq: 0,
        session: None,
        certificate: None,
        stats: None,
    });
    let time = SystemTime::now();
    let sent = context.fanout.try_send(Event { source, time, kind });
    sent.map_err(drop)
}

/// Limits the silences that are emitted. One that is emitted has paid for its end as well.
struct SilenceLimiter {
    limiter: Limiter,
    /// The time of this look.
    now: Instant,
}

impl SilenceLimiter {
    fn new() -> Self {
        Self {
            limiter: Limiter::new(EACH, ALL),
            now: Instant::now(),
        }
    }

    /// Takes a token of a device. Devices of one address share none: an operator with `--device-by peer` wants each.
    fn take(&mut self, device: &Arc<str>) -> Option<Cell> {
        let cell = self.limiter.cell(&Origin::Local(Arc::clone(device)));
        self.limiter.take(cell, 1, self.now).then_some(cell)
    }

    /// Whether the limit of all devices allows a silence.
    fn has_tokens(&self) -> bool {
        self.limiter.has_tokens(1, self.now)
    }

    fn give_back(&mut self, cell: Cell) {
        self.limiter.give_back(cell, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_its_own_limit() {
        let mut limiter = SilenceLimiter::new();
        // Connections of one address, each of which is a device.
        let names: Vec<Arc<str>> = (0..16)
            .map(|port| format!("10.0.0.1:{port}").into())
            .collect();
        let taken = names.iter().filter(|name| limiter.take(name).is_some());
        assert_eq!(taken.count(), 16);
        let taken = (0..100).filter(|_| limiter.take(&names[0]).is_some());
        assert_eq!(taken.count(), 9);
    }
}
