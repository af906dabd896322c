//! What is known of each device: [`DeviceStats`], updated once a batch, and the [state](DeviceState) that follows from it.
//! A [`DeviceRegistry`] has those of all devices.

mod intervals;
mod registry;
mod snapshot;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::intervals::Intervals;
pub use self::intervals::{BURST, KNOWN_MIN, REMEMBERED};
pub use self::registry::DeviceRegistry;
pub use self::snapshot::{DeviceList, DeviceSnapshot};
use self::watch::DeviceWatch;
pub use self::watch::{SAMPLED, WATCHED};
use crate::moment::{Moment, nanos};
use crate::reason::{CloseReason, FaultKind};
use crate::session::{SessionGap, add_saturating};

/// A connected device is silent after this many of its median intervals without a batch, or later if its intervals differ
/// much.
pub const SILENT_INTERVALS: u32 = 3;
/// The least time without a batch after which a device is silent.
pub const SILENT_MIN: Duration = Duration::from_secs(1);
/// How long a device is faulty after a fault.
pub const FAULTY: Duration = Duration::from_secs(60);

/// The state of a device: the first of these that is true.
///
/// A fault matters while the device sends. So [`Gone`](Self::Gone) and [`Silent`](Self::Silent) have precedence over
/// [`Faulty`](Self::Faulty), and it over [`Live`](Self::Live).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// It has no connection.
    Gone,
    /// It is connected, and has sent not one byte for [`SILENT_INTERVALS`] of its median intervals, one and a half of its
    /// longest interval, and [`SILENT_MIN`]. A device with fewer than [`KNOWN_MIN`] intervals is not silent, nor is one
    /// that the daemon does not read now.
    Silent,
    /// It had a fault within the last minute.
    Faulty,
    /// None of these.
    Live,
}

impl DeviceState {
    /// All states, in the order of their precedence.
    pub const ALL: [Self; 4] = [Self::Gone, Self::Silent, Self::Faulty, Self::Live];

    /// The name of the state in output and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Silent => "silent",
            Self::Faulty => "faulty",
            Self::Live => "live",
        }
    }
}

/// What one device has sent, over all its connections. All methods may be called from any thread.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use std::time::SystemTime;
/// use blocksd_engine::device::{DeviceRegistry, DeviceState};
///
/// let registry = DeviceRegistry::new(1000);
/// let device = registry.open(&Arc::from("imu"), SystemTime::now());
/// device.arrived();
/// device.batch(3, 120, SystemTime::now());
/// let list = registry.list();
/// assert_eq!((list.devices[0].messages, list.devices[0].state), (3, DeviceState::Live));
/// ```
#[derive(Debug)]
pub struct DeviceStats {
    name: Arc<str>,
    messages: AtomicU64,
    bytes: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
    gaps: AtomicU64,
    gap_messages: AtomicU64,
    /// Open connections. The registry changes this and the next two.
    connections: AtomicU32,
    connections_total: AtomicU64,
    reconnects: AtomicU64,
    /// Nanoseconds since 1970.
    first_seen: AtomicU64,
    /// Nanoseconds since 1970.
    last_seen: AtomicU64,
    /// When bytes arrived last, as a [`Moment`].
    heard: AtomicU64,
    /// A silence does not begin before this: the first connection was opened, or the daemon read again.
    reads_since: AtomicU64,
    intervals: Intervals,
    /// The moment of the last fault, or 0.
    faulted: AtomicU64,
    /// The last [`CloseReason`] plus one, or 0.
    last_close: AtomicU8,
    /// Connections that the daemon does not read now.
    held_back: AtomicU32,
    /// The key among the devices that are gone, or 0. A device that was gone keeps it while all its connections are
    /// undecided.
    gone_key: AtomicU64,
    announced: Announced,
    rate: MessageRate,
    watch: DeviceWatch,
}

/// The silence that was emitted.
#[derive(Debug, Default)]
struct Announced {
    is_silent: AtomicBool,
    /// [`DeviceStats::heard`] when a silence could not be emitted because of the rate limit, or 0.
    postponed: AtomicU64,
    /// [`DeviceStats::heard`] when the silence was emitted.
    heard: AtomicU64,
}

/// Messages a second. Only the task that looks at all devices writes it.
#[derive(Debug, Default)]
struct MessageRate {
    /// [`DeviceStats::messages`] at the last look.
    messages: AtomicU64,
    /// The moment of the last look.
    at: AtomicU64,
    /// The bits of an `f64`.
    per_s: AtomicU64,
}

/// The silence of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// When its last batch was received.
    pub since: SystemTime,
    /// Its median interval.
    pub interval: Duration,
}

impl DeviceStats {
    fn new(name: Arc<str>, seen: SystemTime) -> Self {
        let seen = unix_nanos(seen);
        Self {
            name,
            messages: AtomicU64::default(),
            bytes: AtomicU64::default(),
            faults: Default::default(),
            gaps: AtomicU64::default(),
            gap_messages: AtomicU64::default(),
            connections: AtomicU32::default(),
            connections_total: AtomicU64::default(),
            reconnects: AtomicU64::default(),
            first_seen: AtomicU64::new(seen),
            last_seen: AtomicU64::new(seen),
            heard: AtomicU64::default(),
            reads_since: AtomicU64::new(Moment::now().nanos()),
            intervals: Intervals::default(),
            faulted: AtomicU64::default(),
            last_close: AtomicU8::default(),
            held_back: AtomicU32::default(),
            gone_key: AtomicU64::default(),
            announced: Announced::default(),
            rate: MessageRate::default(),
            watch: DeviceWatch::default(),
        }
    }

    /// Returns the name of the device.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Notes that bytes have arrived now, which may be a part of a message.
    pub fn arrived(&self) {
        self.arrived_at(Moment::now());
    }

    pub(crate) fn arrived_at(&self, now: Moment) {
        self.heard.store(now.nanos(), Ordering::Relaxed);
    }

    /// Counts a batch of the bytes that [arrived](Self::arrived) last: its messages, and their payload bytes. `time` is the
    /// time of its event.
    pub fn batch(&self, messages: u64, bytes: u64, time: SystemTime) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_seen.store(unix_nanos(time), Ordering::Relaxed);
        self.intervals.batch(self.heard.load(Ordering::Relaxed));
    }

    /// Counts a fault.
    pub fn fault(&self, kind: FaultKind) {
        if let Some(counter) = self.faults.get(kind as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.faulted.store(Moment::now().nanos(), Ordering::Relaxed);
    }

    /// Counts numbers of a session without a message.
    pub fn gap(&self, gap: &SessionGap) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        add_saturating(&self.gap_messages, gap.to.saturating_sub(gap.from));
    }

    /// Returns the state now.
    #[must_use]
    pub fn state(&self) -> DeviceState {
        let now = Moment::now();
        if self.connections.load(Ordering::Relaxed) == 0 {
            return DeviceState::Gone;
        }
        if self.silence_at(now).is_some() {
            return DeviceState::Silent;
        }
        let faulted = self.faulted.load(Ordering::Relaxed);
        match faulted != 0 && now.nanos() < faulted.saturating_add(nanos(FAULTY)) {
            true => DeviceState::Faulty,
            false => DeviceState::Live,
        }
    }

    /// Returns its values now.
    #[must_use]
    pub fn snapshot(&self) -> DeviceSnapshot {
        DeviceSnapshot::of(self)
    }

    /// Returns the median of the last intervals between batches, if enough are known.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.intervals.median()
    }

    /// Notes that a connection is one of this device. The registry is locked.
    fn decided(&self, time: SystemTime) {
        if self.gone_key.swap(0, Ordering::Relaxed) != 0 {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
            self.intervals.interrupt();
        }
        self.last_seen
            .fetch_max(unix_nanos(time), Ordering::Relaxed);
    }

    /// Keeps the reason for which a connection was closed.
    pub(crate) fn closed(&self, reason: CloseReason) {
        self.last_close.store(reason as u8 + 1, Ordering::Relaxed);
    }

    /// Returns the silence to emit, if one has begun that is not [announced](Self::announce) yet.
    pub(crate) fn new_silence(&self) -> Option<Silence> {
        let is_connected = self.connections.load(Ordering::Relaxed) != 0;
        if !is_connected || self.announced.is_silent.load(Ordering::Relaxed) {
            return None;
        }
        self.silence_at(Moment::now())
    }

    /// Notes that a silence was emitted.
    pub(crate) fn announce(&self) {
        let heard = self.heard.load(Ordering::Relaxed);
        self.announced.heard.store(heard, Ordering::Relaxed);
        self.announced.postponed.store(0, Ordering::Relaxed);
        self.announced.is_silent.store(true, Ordering::Relaxed);
    }

    /// Notes that a silence cannot be emitted yet, because of the rate limit.
    pub(crate) fn postpone(&self) {
        let heard = self.heard.load(Ordering::Relaxed);
        self.announced.postponed.store(heard, Ordering::Relaxed);
    }

    /// Whether a silence is postponed that has not ended.
    pub(crate) fn is_postponed(&self) -> bool {
        let postponed = self.announced.postponed.load(Ordering::Relaxed);
        postponed != 0 && postponed == self.heard.load(Ordering::Relaxed)
    }

    /// Returns whether a postponed silence has ended, once.
    pub(crate) fn ends_postponed(&self) -> bool {
        let postponed = self.announced.postponed.load(Ordering::Relaxed);
        let has_ended = postponed != 0 && postponed != self.heard.load(Ordering::Relaxed);
        if has_ended {
            self.announced.postponed.store(0, Ordering::Relaxed);
        }
        has_ended
    }

    /// Forgets a postponed silence, since the device is gone. Returns whether there was one.
    fn drop_postponed(&self) -> bool {
        self.announced.postponed.swap(0, Ordering::Relaxed) != 0
    }

    /// Returns how long the device was silent, if its silence was announced and it has sent something since then: up to what
    /// it has sent last.
    pub(crate) fn ended_silence(&self) -> Option<Duration> {
        let Announced {
            is_silent, heard, ..
        } = &self.announced;
        let before = heard.load(Ordering::Relaxed);
        let now = self.heard.load(Ordering::Relaxed);
        let has_ended = is_silent.load(Ordering::Relaxed) && before != now;
        has_ended.then(|| Duration::from_nanos(now.saturating_sub(before)))
    }

    /// Notes that the end of a silence was emitted.
    pub(crate) fn announce_end(&self) {
        self.announced.is_silent.store(false, Ordering::Relaxed);
    }

    /// The rate of messages; 0 once nobody updates it, because the engine has ended.
    fn messages_per_s(&self) -> f64 {
        const STALE: Duration = Duration::from_secs(10);
        let at = self.rate.at.load(Ordering::Relaxed);
        match Moment::now().nanos() < at.saturating_add(nanos(STALE)) {
            true => f64::from_bits(self.rate.per_s.load(Ordering::Relaxed)),
            false => 0.0,
        }
    }

    /// Updates the rate of messages: an average in which the last seconds weigh most.
    pub(crate) fn look(&self) {
        /// After this time, an earlier rate counts for a third.
        const FADING_S: f64 = 5.0;
        let now = Moment::now().nanos();
        let before = self.rate.at.swap(now, Ordering::Relaxed);
        let messages = self.messages.load(Ordering::Relaxed);
        let earlier = self.rate.messages.swap(messages, Ordering::Relaxed);
        if before == 0 || now <= before {
            return;
        }
        let passed_s = Duration::from_nanos(now - before).as_secs_f64();
        let per_s = messages.saturating_sub(earlier) as f64 / passed_s;
        let former = f64::from_bits(self.rate.per_s.load(Ordering::Relaxed));
        if former == 0.0 && messages == earlier {
            return;
        }
        let weight = (-passed_s / FADING_S).exp();
        let mixed = former * weight + per_s * (1.0 - weight);
        // Below this, nobody waits for the next message.
        let mixed = if mixed < 0.000_5 { 0.0 } else { mixed };
        self.rate.per_s.store(mixed.to_bits(), Ordering::Relaxed);
    }

    fn silence_at(&self, now: Moment) -> Option<Silence> {
        let heard = self.heard.load(Ordering::Relaxed);
        let since = heard.max(self.reads_since.load(Ordering::Relaxed));
        let passed = Duration::from_nanos(now.nanos().saturating_sub(since));
        // Most devices have sent within the last second, and need no median.
        if passed < SILENT_MIN || self.held_back.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let usual = self.intervals.usual()?;
        (usual.silent_after() <= passed).then(|| Silence {
            since: from_unix_nanos(self.last_seen.load(Ordering::Relaxed)),
            interval: usual.median,
        })
    }
}

/// The daemon does not read a connection of this device: it waits for a queue, for memory, or sends a reply. Until this is
/// dropped, the device is not silent. A second or more of this is no interval of the device.
#[derive(Debug)]
pub(crate) struct HeldBack {
    stats: Arc<DeviceStats>,
    since: Moment,
}

impl HeldBack {
    pub(crate) fn new(stats: &Arc<DeviceStats>) -> Self {
        stats.held_back.fetch_add(1, Ordering::Relaxed);
        Self {
            stats: Arc::clone(stats),
            since: Moment::now(),
        }
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        let (stats, now) = (&self.stats, Moment::now());
        if self.since.is_past(SILENT_MIN, now) {
            stats.intervals.interrupt();
        }
        stats.reads_since.store(now.nanos(), Ordering::Relaxed);
        stats.held_back.fetch_sub(1, Ordering::Relaxed);
    }
}

fn unix_nanos(time: SystemTime) -> u64 {
    nanos(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn from_unix_nanos(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}
