//! Properties that must hold at the end of a simulation with any seed.

use blocksd_engine::reason::CloseReason;
use std::net::IpAddr;
use std::time::Duration;

use framing_uplink::SeriesReport;
use serde_json::json;

use super::{Observed, Outcome, World, known};
use crate::board::in_flight;

/// Compares the daemon's events with the report of each device, and with its planned number of samples.
///
/// # Panics
/// If a block is duplicated, out of order or unaccounted for, or a device has not completed its plan.
#[track_caller]
pub(super) fn settle(
    world: &World,
    planned: &[u64],
    addresses: &[IpAddr],
    took: Duration,
) -> Outcome {
    let mut known = known(world);
    let engine = known.engine.take().expect("a daemon");
    let story = std::mem::take(&mut known.story);
    let mut outcome = Outcome {
        reports: known.reports.values().copied().collect(),
        lives: known.lives,
        blocks: 0,
        in_flight: 0,
        took,
        story,
    };
    let mut last_life = (0, 0, 0);
    for ((address, planned), report) in addresses.iter().zip(planned).zip(&outcome.reports) {
        let connections = &outcome.story[&address.to_string()];
        for ((life, _), observed) in connections {
            connection(observed, *life == known.lives);
            if *life == known.lives {
                last_life.0 += 1;
                last_life.1 += observed.samples.len() as u64;
                last_life.2 += u64::from(observed.ended);
            }
        }
        let observed: Vec<_> = connections.values().collect();
        outcome.blocks += observed
            .iter()
            .map(|observed| observed.samples.len() as u64)
            .sum::<u64>();
        outcome.in_flight += device(&observed, *planned, report);
    }
    let totals = engine.counters().totals();
    assert_eq!(
        (totals.connections, totals.messages, totals.series),
        last_life,
        "the daemon's totals differ from its events"
    );
    outcome
}

/// Checks one connection; `is_now`: of a daemon that was not killed.
fn connection(observed: &Observed, is_now: bool) {
    assert!(
        observed.samples.is_sorted_by(|one, other| one.0 < other.0),
        "out of order or duplicated within a connection: {observed:?}"
    );
    match observed.closed {
        Some((blocks, reason)) => {
            assert_eq!(blocks, observed.samples.len() as u64, "{observed:?}");
            assert_eq!(observed.ended, reason == CloseReason::End, "{observed:?}");
            assert!(
                observed.faults <= 1,
                "only truncation is a fault here: {observed:?}"
            );
        }
        None => assert!(!is_now, "the connection is not closed: {observed:?}"),
    }
}

/// Checks that all samples of a device are accounted for. Returns the number in flight when a connection failed.
fn device(connections: &[&Observed], planned: u64, report: &SeriesReport) -> u64 {
    // The first connection may have failed before any event.
    let mut values = vec![Vec::new()];
    for observed in connections {
        let samples = observed.samples.iter();
        values.push(
            samples
                .map(|(n, lost)| json!({"n": n, "lost": lost}))
                .collect(),
        );
    }
    // Numbers are strictly increasing, and every gap within a connection is explained by a loss.
    let taken: u64 = in_flight(&values).into_iter().sum();
    let received: u64 = connections
        .iter()
        .map(|observed| observed.samples.len() as u64)
        .sum();
    let context = format!("{received} received, {taken} in flight, {planned} planned, {report:?}");
    assert!(
        report.ended && report.answered,
        "the device did not complete its plan: {context}"
    );
    // Both sides agree that the last series arrived: the device has a receipt.
    let last = connections.last().expect("a connection");
    assert!(
        last.ended,
        "the device has a receipt, but the daemon reported no end: {context}"
    );
    // The receipt is for the last connection, and covers all of it.
    let of_last = last.samples.len() as u64;
    assert_eq!(u64::from(report.delivered), of_last, "{context}");
    let in_doubt = u64::from(report.in_doubt);
    assert_eq!(in_doubt, received - of_last + taken, "{context}");
    let lost = u64::from(report.lost);
    assert_eq!(of_last + in_doubt + lost, planned, "{context}");
    taken
}
