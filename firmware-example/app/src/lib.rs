//! The application: samples the state of a machine, and sends it. Start with [`run_session`], which sends over an acknowledged
//! session, or with [`run`], which sends a plain series.
//!
//! It is independent of any board and generic over what a board provides: a [`Machine`], and what `framing-uplink` needs. The
//! same code runs in a test on a desktop and on a microcontroller.
//!
//! ```text
//! Machine -> sample() -> Ring -> Session::run     run_session()
//!            every period        run_series       run()
//! ```
//!
//! Sampling never waits for the network: a full ring drops its oldest sample, and samples carry the number of those that were
//! dropped before them: see [`tail`].

#![no_std]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[cfg(feature = "embassy")]
pub mod board;

mod sample;
mod sampler;

use core::pin::pin;

use embassy_futures::join::join;
use embassy_futures::select::select;
use framing_uplink::{
    Clock, Config, Connect, Ring, RingSource, SeriesReport, Session, SessionReport, Split, Stop,
    run_series,
};

pub use self::sample::{BLOCK_MAX, Block, KEYS, Sample, TIME_KEY, tail};
pub use self::sampler::{Machine, pressure_simulated_hpa, sample, temperature_simulated_c};

/// When to sample and how long to wait at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Time between two samples.
    pub period_ms: u32,
    /// Number of samples after which to stop; `None`: run until a stop is requested.
    pub samples: Option<u32>,
    /// Time limit for what is left after the stop: see [`Config::stop_ms`].
    pub stop_ms: u32,
    /// Time limit for the reply to a plain series.
    pub answer_ms: u32,
}

impl Plan {
    /// The limits of the uplink.
    #[must_use]
    pub const fn config(&self) -> Config {
        Config {
            stop_ms: self.stop_ms,
            answer_ms: self.answer_ms,
            ..Config::new()
        }
    }
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

/// Samples, and sends a plain series until it is stopped. `seed` makes the back-off of devices differ.
pub async fn run<const N: usize>(
    plan: Plan,
    ring: &Ring<N>,
    stop: &Stop,
    machine: &mut impl Machine,
    clock: &impl Clock,
    connect: &mut impl Connect,
    seed: u32,
) -> SeriesReport {
    let (config, mut source) = (
        plan.config(),
        RingSource::<N, BLOCK_MAX>::new(ring).with_tail(tail),
    );
    // Pinned in place: moving a future would take stack for a second copy of it.
    let sampling = pin!(sample_until(plan, ring, stop, machine, clock));
    let sending = pin!(run_series(&config, &mut source, stop, clock, connect, seed));
    join(sampling, sending).await.1
}

/// Samples, and sends over a session until it is stopped, and until everything is acknowledged. The session needs the
/// [`tail`] of the samples.
pub async fn run_session<const N: usize>(
    plan: Plan,
    ring: &Ring<N>,
    session: &mut Session<'_>,
    stop: &Stop,
    machine: &mut impl Machine,
    clock: &impl Clock,
    connect: &mut impl Split,
) -> SessionReport {
    let config = plan.config();
    let sampling = pin!(sample_until(plan, ring, stop, machine, clock));
    let sending = pin!(session.run(&config, ring, stop, clock, connect));
    join(sampling, sending).await.1
}

/// Samples until the plan is done or a stop is requested; closes the ring.
async fn sample_until<const N: usize>(
    plan: Plan,
    ring: &Ring<N>,
    stop: &Stop,
    machine: &mut impl Machine,
    clock: &impl Clock,
) {
    select(sample(plan, ring, machine, clock), stop.requested()).await;
    stop.request();
    ring.close();
}
