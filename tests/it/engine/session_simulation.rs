//! Acknowledged sessions over a simulated network and disk, in simulated time, driven by a seed.
//!
//! `BLOCKSD_TEST_SEEDS=1000` runs this number of seeds; `BLOCKSD_TEST_SEED=7` reproduces the run of one seed.

use blocksd_tests::simulated_sessions::{Outcome, run};

/// Default number of seeds.
const SEEDS: u64 = 30;

fn given(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok();
    given.map(|given| given.parse().expect("a number"))
}

#[test]
fn an_acknowledged_message_is_recorded_once_whatever_fails() {
    let seeds = match given("BLOCKSD_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..given("BLOCKSD_TEST_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let mut sum = Outcome::default();
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let outcome = outcome.unwrap_or_else(|panic| {
            eprintln!("BLOCKSD_TEST_SEED={seed} reproduces it");
            std::panic::resume_unwind(panic)
        });
        sum.made += outcome.made;
        sum.acknowledged += outcome.acknowledged;
        sum.given_up += outcome.given_up;
        sum.connections += outcome.connections;
        sum.lives += outcome.lives;
        sum.failed_syncs += outcome.failed_syncs;
    }
    eprintln!("{count} seeds: {sum:?}");
    // Otherwise nothing went wrong, and the test would show nothing.
    let has_trouble = 6 * count < sum.connections && count < sum.lives && sum.failed_syncs != 0;
    assert!(has_trouble || count == 1, "{sum:?}");
}
