//! Who looks at a device: a [`DeviceWatch`] decides whether messages are copied for viewers, and counts those that are not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::device::DeviceStats;
use crate::moment::Moment;

/// How long messages are copied after a request of a viewer, which it must repeat.
pub const WATCHED: Duration = Duration::from_secs(10);
/// The least time between two messages of a device that is sampled.
pub const SAMPLED: Duration = Duration::from_millis(250);

/// The requests of viewers for the messages of one device. Times are [`Moment`]s, or 0.
#[derive(Debug, Default)]
pub(super) struct DeviceWatch {
    watched_until: AtomicU64,
    sampled_until: AtomicU64,
    /// The next message is not due as a sample before this.
    next_sample: AtomicU64,
    not_shown: AtomicU64,
}

impl DeviceStats {
    /// Requests copies of all messages of this device for [`WATCHED`]: see
    /// [`Delivery::Watched`](crate::sink::Delivery::Watched).
    pub fn watch(&self) {
        let until = Moment::now().later(WATCHED).nanos();
        self.watch.watched_until.store(until, Ordering::Relaxed);
    }

    /// Requests a copy of the newest message of this device, at most every [`SAMPLED`], for [`WATCHED`].
    pub fn sample(&self) {
        let until = Moment::now().later(WATCHED).nanos();
        self.watch.sampled_until.store(until, Ordering::Relaxed);
    }

    /// Returns whether all messages are copied for viewers now.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        is_ahead(&self.watch.watched_until)
    }

    /// Returns the number of messages that arrived while the device was watched and were not copied for viewers.
    #[must_use]
    pub fn not_shown(&self) -> u64 {
        self.watch.not_shown.load(Ordering::Relaxed)
    }

    /// Whether messages are copied for viewers now, all or some.
    pub(crate) fn is_viewed(&self) -> bool {
        self.is_watched() || is_ahead(&self.watch.sampled_until)
    }

    /// Whether a message is due as a sample.
    pub(crate) fn is_sample_due(&self) -> bool {
        is_ahead(&self.watch.sampled_until) && !is_ahead(&self.watch.next_sample)
    }

    /// Takes the place of the sample that is due. Returns `false` if another connection has taken it.
    pub(crate) fn take_sample(&self) -> bool {
        let next = &self.watch.next_sample;
        let (due, now) = (next.load(Ordering::Relaxed), Moment::now());
        let later = now.later(SAMPLED).nanos();
        due <= now.nanos()
            && next
                .compare_exchange(due, later, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Gives the place of a sample back, which was not copied.
    pub(crate) fn give_sample_back(&self) {
        self.watch.next_sample.store(0, Ordering::Relaxed);
    }

    /// Counts messages of a device that is watched, which were not copied.
    pub(crate) fn count_not_shown(&self, messages: u64) {
        self.watch.not_shown.fetch_add(messages, Ordering::Relaxed);
    }
}

/// Whether a moment is in the future. Most devices were never watched, and need no clock.
pub(super) fn is_ahead(moment: &AtomicU64) -> bool {
    let moment = moment.load(Ordering::Relaxed);
    moment != 0 && Moment::now().nanos() < moment
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use tokio::time::advance;

    use super::*;
    use crate::device::DeviceRegistry;

    const NS: Duration = Duration::from_nanos(1);

    #[tokio::test(start_paused = true)]
    async fn a_request_lasts_ten_seconds_and_can_be_repeated() {
        let device = DeviceRegistry::new(1).open(&"imu".into(), SystemTime::now());
        assert!(!device.is_watched() && !device.is_viewed());
        device.watch();
        advance(WATCHED - NS).await;
        assert!(device.is_watched() && device.is_viewed());
        device.watch();
        advance(WATCHED - NS).await;
        assert!(device.is_watched());
        advance(NS).await;
        assert!(!device.is_watched() && !device.is_viewed());
        device.sample();
        advance(WATCHED - NS).await;
        assert!(device.is_viewed() && !device.is_watched());
        advance(NS).await;
        assert!(!device.is_viewed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_device_is_watched_from_the_start_if_new_ones_are() {
        let registry = DeviceRegistry::new(10);
        let open = |name| registry.open(&Arc::from(name), SystemTime::now());
        assert!(!open("before").is_watched());
        registry.watch_new();
        let new = open("new");
        assert!(new.is_watched());
        // A session names its device after the connection was opened.
        let named = registry.rename(&new, &Arc::from("named"), false, SystemTime::now());
        assert!(named.is_watched());
        // It was there before: whoever watches it has found it.
        assert!(!open("before").is_watched());
        advance(WATCHED).await;
        assert!(!open("late").is_watched());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sample_is_due_at_once_and_then_every_quarter_second() {
        let device = DeviceRegistry::new(1).open(&"imu".into(), SystemTime::now());
        assert!(!device.is_sample_due(), "nobody looks");
        device.sample();
        assert!(device.is_sample_due() && device.take_sample());
        assert!(!device.is_sample_due() && !device.take_sample());
        advance(SAMPLED - NS).await;
        assert!(!device.is_sample_due());
        advance(NS).await;
        assert!(device.is_sample_due() && device.take_sample());
        device.give_sample_back();
        assert!(device.is_sample_due());
        advance(WATCHED).await;
        assert!(!device.is_sample_due(), "nobody looks any more");
    }

    #[test]
    fn the_requests_of_a_device_take_32_bytes() {
        assert_eq!(size_of::<DeviceWatch>(), 32);
    }
}
