//! What must hold when a simulation is over, whatever its seed.

use blocksd_engine::reason::CloseReason;
use std::net::IpAddr;
use std::time::Duration;

use firmware_example::Report;
use serde_json::json;

use super::{Outcome, Told, World, known};
use crate::board::in_flight;

/// Compares what the daemon has told with what each device, of so many samples, reports.
///
/// # Panics
/// Where a block is twice, out of order or unaccounted for, or a device has not come to its end.
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
        for ((life, _), told) in connections {
            connection(told, *life == known.lives);
            if *life == known.lives {
                last_life.0 += 1;
                last_life.1 += told.samples.len() as u64;
                last_life.2 += u64::from(told.ended);
            }
        }
        let told: Vec<_> = connections.values().collect();
        outcome.blocks += told
            .iter()
            .map(|told| told.samples.len() as u64)
            .sum::<u64>();
        outcome.in_flight += device(&told, *planned, report);
    }
    let totals = engine.counters().totals();
    assert_eq!(
        (totals.connections, totals.messages, totals.series),
        last_life,
        "the daemon's totals are not what it has told"
    );
    outcome
}

/// One connection; `is_now`: of a daemon that was not killed.
fn connection(told: &Told, is_now: bool) {
    assert!(
        told.samples.is_sorted_by(|one, other| one.0 < other.0),
        "out of order, or twice, within a connection: {told:?}"
    );
    match told.closed {
        Some((blocks, reason)) => {
            assert_eq!(blocks, told.samples.len() as u64, "{told:?}");
            assert_eq!(told.ended, reason == CloseReason::End, "{told:?}");
            assert!(told.faults <= 1, "only a cut is a fault here: {told:?}");
        }
        None => assert!(!is_now, "it is not closed: {told:?}"),
    }
}

/// One device: all its samples are accounted for. Returns how many were on their way when a connection died.
fn device(connections: &[&Told], planned: u64, report: &Report) -> u64 {
    // The first of all may have died before it told anything.
    let mut values = vec![Vec::new()];
    for told in connections {
        let samples = told.samples.iter();
        values.push(
            samples
                .map(|(n, lost)| json!({"n": n, "lost": lost}))
                .collect(),
        );
    }
    // No number comes twice, none goes back, and no gap is within a connection that no loss explains.
    let taken: u64 = in_flight(&values).into_iter().sum();
    let received: u64 = connections
        .iter()
        .map(|told| told.samples.len() as u64)
        .sum();
    let context = format!("{received} received, {taken} in flight, {planned} planned, {report:?}");
    assert!(
        report.ended && report.answered,
        "it did not come to its end: {context}"
    );
    // Both sides believe that the last series is there: the device has a receipt.
    let last = connections.last().expect("a connection");
    assert!(
        last.ended,
        "answered, and the daemon knows of no end: {context}"
    );
    // Its receipt is for the last connection, and covers all of it.
    let of_last = last.samples.len() as u64;
    assert_eq!(u64::from(report.delivered), of_last, "{context}");
    let in_doubt = u64::from(report.in_doubt);
    assert_eq!(in_doubt, received - of_last + taken, "{context}");
    let lost = u64::from(report.lost);
    assert_eq!(of_last + in_doubt + lost, planned, "{context}");
    taken
}
