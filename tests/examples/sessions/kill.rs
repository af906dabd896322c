//! `kill -9` under load, again and again: [`prove`].

use std::path::Path;
use std::time::{Duration, Instant};

use blocksd_tests::session_kills::{KillPlan, survive};
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Number of kills
    #[arg(long, value_name = "N", default_value_t = 200)]
    times: usize,
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 16)]
    devices: usize,
    /// Time between two messages of a device, in microseconds
    #[arg(long, value_name = "US", default_value_t = 500)]
    pause_us: u64,
    /// Seed of the moments of the kills
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Kills the daemon, and prints the figures.
pub(crate) fn prove(scratch: &Path, arguments: &Arguments) {
    let begun = Instant::now();
    let plan = KillPlan {
        kills: arguments.times,
        devices: arguments.devices,
        pause: Duration::from_micros(arguments.pause_us),
        acks_max: 500,
        delay_max_ms: 100,
        seed: arguments.seed,
    };
    let outcome = survive(scratch, &plan);
    println!(
        "{} kills in {:.0} s, {} torn files: {} messages of {} devices are recorded once each; {} were not acknowledged at a kill",
        arguments.times,
        begun.elapsed().as_secs_f64(),
        outcome.torn,
        outcome.messages,
        arguments.devices,
        outcome.unacknowledged,
    );
}
