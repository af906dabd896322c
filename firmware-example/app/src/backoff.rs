//! How long to wait before the next attempt to connect: longer each time, up to a bound, and never in step.

/// Doubles from [`FIRST_MS`](Self::FIRST_MS) to [`LAST_MS`](Self::LAST_MS); half of each wait is random, so that
/// devices that lost the same server do not come back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    most_ms: u32,
    random: u32,
}

impl Backoff {
    /// Longest first wait, in milliseconds.
    pub const FIRST_MS: u32 = 200;
    /// Longest wait of all, in milliseconds.
    pub const LAST_MS: u32 = 10_000;

    /// A back-off at its beginning. Devices should have different seeds.
    #[must_use]
    pub const fn new(seed: u32) -> Self {
        Self {
            most_ms: Self::FIRST_MS,
            // The generator stands still at zero.
            random: if seed == 0 { 1 } else { seed },
        }
    }

    /// The next wait, in milliseconds: from half of the present bound up to it.
    pub fn wait_ms(&mut self) -> u32 {
        let most_ms = self.most_ms;
        self.most_ms = most_ms.saturating_mul(2).min(Self::LAST_MS);
        let least_ms = most_ms / 2;
        least_ms + self.random() % (most_ms - least_ms + 1)
    }

    /// Begins anew: a connection has held.
    pub const fn reset(&mut self) {
        self.most_ms = Self::FIRST_MS;
    }

    /// Xorshift (Marsaglia, 2003): enough to be out of step, and no secret.
    const fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}
