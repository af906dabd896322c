//! The application: samples what a machine is doing, and sends it as a series of blocks, whatever the network does.
//!
//! There is no board in it. It is generic over what a board gives: [`Connect`] (a transport of `embedded-io-async`),
//! [`Clock`] and [`Machine`]. The same code runs on a desktop in a plain test, and on a microcontroller.
//!
//! ```text
//! Machine -> sample() -> Queue -> Samples -> uplink() -> Connect
//!            every period  fixed   one block   reconnects
//! ```
//!
//! Sampling never waits for the network: where the queue is full its oldest sample goes, and the next one sent
//! says how many went. [`blocking::stream`] sends the same queue where there is no executor.

#![no_std]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod log;

pub mod blocking;
#[cfg(feature = "defmt")]
pub mod logs;
#[cfg(feature = "embassy")]
pub mod net;

mod backoff;
mod queue;
mod receipt;
mod sample;
mod sampler;
mod stop;
mod uplink;

use core::pin::pin;

use embassy_futures::join::join;
use embassy_futures::select::select;

pub use self::backoff::Backoff;
pub use self::queue::{Queue, Samples};
pub use self::sample::{BLOCK_MAX, Block, KEYS, Sample};
pub use self::sampler::{Machine, pressure_simulated_hpa, sample, temperature_simulated_c};
pub use self::stop::Stop;
pub use self::uplink::{Connect, LinkError, Report, Source, uplink};

/// Time that only goes forward, and the means to wait for it.
#[allow(
    async_fn_in_trait,
    reason = "for one executor of one thread, as embedded-io-async"
)]
pub trait Clock {
    /// Microseconds since the machine was switched on.
    fn now_us(&self) -> u64;

    /// Waits until then; not at all where that has passed.
    async fn sleep_until_us(&self, at_us: u64);

    /// Waits for so long.
    async fn sleep_ms(&self, ms: u32) {
        let at_us = self.now_us().saturating_add(u64::from(ms) * 1_000);
        self.sleep_until_us(at_us).await;
    }
}

impl<C: Clock> Clock for &C {
    fn now_us(&self) -> u64 {
        (**self).now_us()
    }

    async fn sleep_until_us(&self, at_us: u64) {
        (**self).sleep_until_us(at_us).await;
    }
}

/// What the application is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Time from one sample to the next.
    pub period_ms: u32,
    /// Stop after so many samples; `None`: when told to.
    pub samples: Option<u32>,
    /// How long the rest of a series may take once the application is to stop; what no connection took by then is lost.
    pub stop_ms: u32,
    /// How long the answer to the series is waited for.
    pub answer_ms: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            period_ms: 1_000,
            samples: None,
            stop_ms: 10_000,
            answer_ms: 2_000,
        }
    }
}

/// Samples and sends, until stopped: the whole application. `seed` makes the back-off of devices differ.
pub async fn run<const N: usize>(
    plan: Plan,
    queue: &Queue<N>,
    stop: &Stop,
    machine: &mut impl Machine,
    clock: &impl Clock,
    connect: &mut impl Connect,
    seed: u32,
) -> Report {
    let mut samples = Samples::new(queue);
    let report = {
        // Pinned where they are: a future that is moved takes its place twice.
        let sampling = pin!(async {
            select(sample(plan, queue, machine, clock), stop.requested()).await;
            stop.request();
            queue.close();
        });
        let sending = pin!(uplink(plan, &mut samples, stop, clock, connect, seed));
        join(sampling, sending).await.1
    };
    Report {
        lost: (queue.lost().saturating_add(samples.left())).saturating_add(report.lost),
        ..report
    }
}
