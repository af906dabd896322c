//! The firmware's application and the daemon over a simulated network, by seed, in simulated time.
//!
//! `BLOCKSD_TEST_SEEDS=1000` runs so many seeds; `BLOCKSD_TEST_SEED=7` runs one, again and again the same.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use blocksd_tests::simulated::run;

/// Seeds, unless it is said otherwise.
const SEEDS: u64 = 50;

fn given(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok();
    given.map(|given| given.parse().expect("a number"))
}

/// Says which seed it was.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "seed {}: BLOCKSD_TEST_SEED={} runs it again",
                self.0, self.0
            );
        }
    }
}

#[test]
fn whatever_the_network_does_every_block_is_accounted_for_and_the_devices_come_to_their_end() {
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
        "{count} seeds: {blocks} blocks told, {in_flight} in flight when a connection died, {lost} given up by a full \
         queue; {connections} connections, {lives} lives of the daemon"
    );
    // Else nothing went wrong, and nothing was shown.
    assert!(
        connections > 3 * count && in_flight > 0 || count == 1,
        "{sums:?}"
    );
}

#[test]
fn a_simulation_is_the_same_again() {
    assert_eq!(run(3), run(3));
}
