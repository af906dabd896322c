//! The firmware's application and the daemon over a simulated network, in simulated time, driven by a seed.
//!
//! `BLOCKSD_TEST_SEEDS=1000` runs this number of seeds; `BLOCKSD_TEST_SEED=7` reproduces the run of one seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use blocksd_tests::simulated::run;

/// Default number of seeds.
const SEEDS: u64 = 50;

fn given(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok();
    given.map(|given| given.parse().expect("a number"))
}

/// Prints the seed when a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "seed {}: BLOCKSD_TEST_SEED={} reproduces it",
                self.0, self.0
            );
        }
    }
}

#[test]
fn every_block_is_accounted_for_in_any_network_and_every_device_completes() {
    let seeds = match given("BLOCKSD_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..given("BLOCKSD_TEST_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let next = AtomicU64::new(seeds.start);
    let sums = thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut sums = [0; 5];
                    loop {
                        let seed = Seed(next.fetch_add(1, Ordering::Relaxed));
                        if seeds.end <= seed.0 {
                            return sums;
                        }
                        let outcome = run(seed.0);
                        let reports = &outcome.reports;
                        let connections: u32 =
                            reports.iter().map(|report| report.connections).sum();
                        let lost: u32 = reports.iter().map(|report| report.lost).sum();
                        let more = [
                            outcome.blocks,
                            outcome.in_flight,
                            u64::from(lost),
                            u64::from(connections),
                            outcome.lives,
                        ];
                        sums.iter_mut()
                            .zip(more)
                            .for_each(|(sum, more)| *sum += more);
                    }
                })
            })
            .collect();
        let mut sums = [0; 5];
        for worker in workers {
            let more = worker.join().expect("a property does not hold");
            sums.iter_mut()
                .zip(more)
                .for_each(|(sum, more)| *sum += more);
        }
        sums
    });
    let [blocks, in_flight, lost, connections, lives] = sums;
    eprintln!(
        "{count} seeds: {blocks} blocks received, {in_flight} in flight when a connection failed, {lost} dropped by a full \
         queue; {connections} connections, {lives} lives of the daemon"
    );
    // Otherwise nothing went wrong, and the test would show nothing.
    assert!(
        connections > 3 * count && in_flight > 0 || count == 1,
        "{sums:?}"
    );
}

#[test]
fn a_simulation_is_reproducible() {
    assert_eq!(run(3), run(3));
}
