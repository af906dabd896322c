//! Delay before the next attempt to connect: grows up to a bound, and is random so that devices do not retry in step.

/// Upper bounds of delays, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BackoffBounds {
    /// Of the first delay: 0.2 s.
    pub first_ms: u32,
    /// Of every delay: 10 s.
    pub last_ms: u32,
    /// Of a [long](Backoff::long_wait_ms) delay: 60 s.
    pub long_ms: u32,
}

impl BackoffBounds {
    /// The bounds that are said at each field.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first_ms: 200,
            last_ms: 10_000,
            long_ms: 60_000,
        }
    }
}

impl Default for BackoffBounds {
    fn default() -> Self {
        Self::new()
    }
}

/// Doubles from the first delay to the last. Half of each delay is random, so that devices that lost the same server do not
/// reconnect at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    bounds: BackoffBounds,
    most_ms: u32,
    random: u32,
}

impl Backoff {
    /// Creates a back-off at its first delay. Devices should have different seeds.
    #[must_use]
    pub const fn new(bounds: BackoffBounds, seed: u32) -> Self {
        Self {
            bounds,
            most_ms: first(bounds),
            // Xorshift never leaves the state zero.
            random: if seed == 0 { 1 } else { seed },
        }
    }

    /// Changes the bounds, from the next delay on.
    pub(crate) fn set_bounds(&mut self, bounds: BackoffBounds) {
        if self.most_ms == first(self.bounds) {
            self.most_ms = first(bounds);
        }
        self.bounds = bounds;
    }

    /// Returns the next delay, in milliseconds: random, from half of the current bound to the bound.
    pub fn wait_ms(&mut self) -> u32 {
        let most_ms = self.most_ms;
        // After a first delay of 0, too.
        let next_ms = most_ms.max(1).saturating_mul(2);
        self.most_ms = next_ms.min(self.bounds.last_ms);
        self.up_to(most_ms)
    }

    /// Returns a long delay, in milliseconds: for a server that will not accept the next attempt either.
    pub fn long_wait_ms(&mut self) -> u32 {
        self.up_to(self.bounds.long_ms)
    }

    /// Starts again at the first delay, after a connection that lasted.
    pub const fn reset(&mut self) {
        self.most_ms = first(self.bounds);
    }

    /// A random delay, from half of the bound to the bound.
    const fn up_to(&mut self, most_ms: u32) -> u32 {
        let least_ms = most_ms / 2;
        let choices = (most_ms - least_ms).saturating_add(1);
        // The number of choices is never 0, and the compiler does not see it.
        let choice = match self.random().checked_rem(choices) {
            Some(choice) => choice,
            None => 0,
        };
        least_ms.saturating_add(choice)
    }

    /// Xorshift (Marsaglia, 2003): random enough to spread the devices, but not cryptographic.
    const fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

/// The bound of the first delay.
const fn first(bounds: BackoffBounds) -> u32 {
    match bounds.first_ms < bounds.last_ms {
        true => bounds.first_ms,
        false => bounds.last_ms,
    }
}
