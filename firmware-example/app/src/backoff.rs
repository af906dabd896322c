//! Delay before the next attempt to connect: grows up to a bound, and is random so that devices do not retry in step.

/// Doubles from [`FIRST_MS`](Self::FIRST_MS) to [`LAST_MS`](Self::LAST_MS). Half of each delay is random, so that
/// devices that lost the same server do not reconnect at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    most_ms: u32,
    random: u32,
}

impl Backoff {
    /// Upper bound of the first delay, in milliseconds.
    pub const FIRST_MS: u32 = 200;
    /// Upper bound of every delay, in milliseconds.
    pub const LAST_MS: u32 = 10_000;

    /// Upper bound of a [long](Self::long_wait_ms) delay, in milliseconds.
    pub const LONG_MS: u32 = 60_000;

    /// Creates a back-off at its first delay. Devices should have different seeds.
    #[must_use]
    pub const fn new(seed: u32) -> Self {
        Self {
            most_ms: Self::FIRST_MS,
            // Xorshift never leaves the state zero.
            random: if seed == 0 { 1 } else { seed },
        }
    }

    /// Returns the next delay, in milliseconds: random, from half of the current bound to the bound.
    pub fn wait_ms(&mut self) -> u32 {
        let most_ms = self.most_ms;
        self.most_ms = most_ms.saturating_mul(2).min(Self::LAST_MS);
        self.up_to(most_ms)
    }

    /// Returns a long delay, in milliseconds: for a server that will not accept the next attempt either.
    pub fn long_wait_ms(&mut self) -> u32 {
        self.up_to(Self::LONG_MS)
    }

    /// Starts again at the first delay, after a connection that lasted.
    pub const fn reset(&mut self) {
        self.most_ms = Self::FIRST_MS;
    }

    /// A random delay, from half of the bound to the bound.
    const fn up_to(&mut self, most_ms: u32) -> u32 {
        let least_ms = most_ms / 2;
        least_ms + self.random() % (most_ms - least_ms + 1)
    }

    /// Xorshift (Marsaglia, 2003): random enough to spread the devices, but not cryptographic.
    const fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}
