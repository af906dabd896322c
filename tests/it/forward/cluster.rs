//! A cluster of three nodes that fails in every way: each message of each recording is in the stream once, in order, and no other.
//!
//! `BLOCKSD_TEST_ROUNDS=200` runs this number of faults; `BLOCKSD_TEST_SEED=7` chooses others.

use blocksd_tests::nats::NatsVersion;
use blocksd_tests::skip::skipped;

use super::failing_fleet::{Fault, Fleet};

/// Faults between two comparisons of the whole stream.
const VERIFY_EVERY: u64 = 20;

#[test]
fn faults_of_a_cluster_lose_and_double_nothing() {
    let rounds = given("BLOCKSD_TEST_ROUNDS").unwrap_or(10);
    let name = "faults_of_a_cluster_lose_and_double_nothing";
    suffer(name, NatsVersion::Current, rounds);
}

#[test]
fn faults_of_a_cluster_of_debian_lose_and_double_nothing() {
    let rounds = given("BLOCKSD_TEST_ROUNDS").unwrap_or(4);
    let name = "faults_of_a_cluster_of_debian_lose_and_double_nothing";
    suffer(name, NatsVersion::Debian, rounds);
}

fn suffer(name: &str, version: NatsVersion, rounds: u64) {
    let seed = given("BLOCKSD_TEST_SEED").unwrap_or(1);
    let mut fleet = match Fleet::start(version, seed) {
        Ok(fleet) => fleet,
        Err(reason) => return skipped(name, reason),
    };
    // Each kind once, in an order of its own, before any is repeated.
    let mut faults = Vec::new();
    for round in 1..=rounds {
        if faults.is_empty() {
            faults = Fault::all(version);
        }
        let chosen = fleet.chance(0, faults.len() - 1);
        let fault = faults.swap_remove(chosen);
        eprintln!("round {round}: {fault:?}");
        fleet.round(fault);
        if round % VERIFY_EVERY == 0 {
            fleet.verify();
        }
    }
    fleet.verify();
    eprintln!("{}", fleet.end());
}

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|it| it.parse().ok())
}
