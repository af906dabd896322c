//! Sampling at a steady pace, independent of the network. Start with [`sample`].

use framing_uplink::{Clock, Ring};

use crate::Plan;
use crate::sample::Sample;

/// The values that a board reports about itself.
pub trait Machine {
    /// Highest stack use since the start, in bytes.
    fn stack_bytes(&mut self) -> u32;
    /// Ethernet frames received since the machine was switched on.
    fn frames_received(&mut self) -> u32;
    /// Ethernet frames sent since the machine was switched on.
    fn frames_sent(&mut self) -> u32;
}

/// Puts a sample into the ring every period, until the planned number is reached.
pub async fn sample<const N: usize>(
    plan: Plan,
    ring: &Ring<N>,
    machine: &mut impl Machine,
    clock: &impl Clock,
) {
    let period_us = u64::from(plan.period_ms) * 1_000;
    let (mut loop_us, mut loop_max_us) = (0, 0);
    let mut due_us = clock.now_us();
    let mut number = 0;
    while plan.samples != Some(number) {
        clock.sleep_until_us(due_us).await;
        let now_us = clock.now_us();
        let sample = Sample {
            uptime_ms: now_us / 1_000,
            number,
            loop_us,
            loop_max_us,
            stack_bytes: machine.stack_bytes(),
            frames_received: machine.frames_received(),
            frames_sent: machine.frames_sent(),
            queued: ring.unsent(),
            temperature_simulated_c: temperature_simulated_c(number),
            pressure_simulated_hpa: pressure_simulated_hpa(number),
            time_ms: ring.host_time_ns(now_us).map(|ns| ns / 1_000_000),
        };
        // A sample that is refused is counted by the ring.
        let _ = ring.push(&sample.encode());
        number = number.wrapping_add(1);
        let now_us = clock.now_us();
        loop_us = u32::try_from(now_us.saturating_sub(due_us)).unwrap_or(u32::MAX);
        loop_max_us = loop_max_us.max(loop_us);
        // Skips the periods that were missed.
        due_us = due_us.saturating_add(period_us).max(now_us);
    }
}

/// A simulated temperature that rises from 20 to 24 degrees and falls again within 128 samples, in the steps of a real
/// sensor (a sixteenth of a degree, so that every value is exact).
#[must_use]
pub fn temperature_simulated_c(number: u32) -> f32 {
    20.0 + wave(number, 64) / 16.0
}

/// A simulated pressure that rises from 1000 to 1032 hectopascals and falls again within 512 samples, in steps of an
/// eighth.
#[must_use]
pub fn pressure_simulated_hpa(number: u32) -> f32 {
    1000.0 + wave(number, 256) / 8.0
}

/// A triangle wave: 0, 1, 2, … `top`, … 2, 1, 0, …
fn wave(number: u32, top: u16) -> f32 {
    let top = u32::from(top);
    let at = number % (2 * top);
    let height = at.min(2 * top - at);
    // At most `top`, so it fits.
    f32::from(u16::try_from(height).unwrap_or_default())
}
