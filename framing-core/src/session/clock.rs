//! The host's time at a device without a clock: [`HostClock`].

/// Estimates the host's time from the times in WELCOME and ACK.
///
/// Each of them is a lower bound: the frame was written before it arrived. The largest difference to the device's own
/// clock is the best estimate, late by the shortest way from the host to the device. Call [`restart`](Self::restart) if
/// the host's clock may have been set.
///
/// ```
/// use framing_core::session::HostClock;
///
/// let mut clock = HostClock::new();
/// assert_eq!(clock.at(0), None);
/// clock.heard(1_000_000_000_000, 500);
/// // A frame that was delayed by 100 µs changes nothing.
/// clock.heard(1_000_000_900_000, 1_500);
/// assert_eq!(clock.at(2_500), Some(1_000_002_000_000));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct HostClock {
    /// Host's time at the start of the device's clock, in ns since 1970; 0: unknown.
    start_ns: u64,
}

impl HostClock {
    /// A clock that knows no time yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { start_ns: 0 }
    }

    /// Takes a time of the host, in ns since 1970, that arrived at `uptime_us` of the device.
    pub fn heard(&mut self, time_ns: u64, uptime_us: u64) {
        let start_ns = time_ns.saturating_sub(uptime_us.saturating_mul(1000));
        self.start_ns = self.start_ns.max(start_ns);
    }

    /// Forgets the times so far.
    pub fn restart(&mut self) {
        self.start_ns = 0;
    }

    /// The host's time at `uptime_us` of the device, in ns since 1970. `None` before the first time was heard.
    #[must_use]
    pub const fn at(&self, uptime_us: u64) -> Option<u64> {
        match self.start_ns {
            0 => None,
            start_ns => Some(start_ns.saturating_add(uptime_us.saturating_mul(1000))),
        }
    }
}
