//! The application: samples the state of a machine, and sends it. Start with [`run_session`], which sends over an acknowledged
//! session, or with [`run`], which sends a plain series of blocks.
//!
//! It is independent of any board and generic over what a board provides: [`Connect`] (a transport of
//! `embedded-io-async`), [`Clock`] and [`Machine`]. The same code runs in a test on a desktop and on a microcontroller.
//!
//! ```text
//! Machine -> sample() -> Queue -> Session ------------> Split     run_session()
//!            every period  fixed   ring, until acknowledged
//!                         Queue -> Samples -> uplink() -> Connect   run()
//!                                  one block   reconnects
//! ```
//!
//! Sampling never waits for the network: a full ring or queue drops its oldest sample, and the next sample that is sent carries
//! the number of dropped ones. [`blocking::stream`] sends the same queue without an executor.

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
#[cfg(feature = "tls")]
pub mod tls;

#[cfg(feature = "embassy")]
mod frames;

mod backoff;
mod queue;
mod receipt;
mod sample;
mod sampler;
mod session;
mod stop;
mod uplink;

use core::pin::pin;

use embassy_futures::join::join;
use embassy_futures::select::select;

pub use self::backoff::Backoff;
pub use self::queue::{Queue, Samples};
pub use self::sample::{BLOCK_MAX, Block, KEYS, Sample, TIME_KEY};
pub use self::sampler::{Machine, pressure_simulated_hpa, sample, temperature_simulated_c};
pub use self::session::{Session, SessionError, SessionMemory, SessionReport, Split, run_session};
pub use self::stop::Stop;
pub use self::uplink::{Connect, LinkError, Report, Source, uplink};

/// A monotonic clock and its timer.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait Clock {
    /// Microseconds since the machine was switched on.
    fn now_us(&self) -> u64;

    /// Waits until that time; returns at once if it has passed.
    async fn sleep_until_us(&self, at_us: u64);

    /// Waits for `ms` milliseconds.
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

/// When to sample and how long to wait at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Time between two samples.
    pub period_ms: u32,
    /// Number of samples after which to stop; `None`: run until a stop is requested.
    pub samples: Option<u32>,
    /// Time limit for the rest of the series after the stop; samples that no connection took by then are lost.
    pub stop_ms: u32,
    /// Time limit for the reply to the series.
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

/// Runs the whole application until it is stopped: samples and sends. `seed` makes the back-off of devices differ.
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
        // Pinned in place: moving a future would take stack for a second copy of it.
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
