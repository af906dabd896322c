//! `kill -9` of the daemon under the load of sessions, again and again. Start with [`survive`].

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::disk::Chance;
use crate::process::Server;
use crate::recording_daemon::recording_args;
use crate::session_devices::{DevicePlan, SessionDevices};
use crate::session_oracle::SessionOracle;

/// The number of kills and their load.
#[derive(Clone, Copy, Debug)]
pub struct KillPlan {
    /// Number of kills.
    pub kills: usize,
    /// Number of devices.
    pub devices: usize,
    /// Time between two messages of a device.
    pub pause: Duration,
    /// Largest number of acknowledgements that each device gets before a kill.
    pub acks_max: usize,
    /// Longest time between the last of these acknowledgements and the kill, in milliseconds.
    pub delay_max_ms: usize,
    /// Seed of the moments of the kills.
    pub seed: u64,
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct KillOutcome {
    /// Messages of all devices.
    pub messages: u64,
    /// Messages that were not acknowledged at a kill, summed over all kills.
    pub unacknowledged: u64,
    /// Torn files that were repaired.
    pub torn: usize,
}

/// Kills the daemon, and asserts after each kill that every acknowledged message is recorded. Asserts at the end that every
/// message is recorded once, in one session for each device.
#[track_caller]
pub fn survive(folder: &Path, plan: &KillPlan) -> KillOutcome {
    let device_plan = DevicePlan {
        pause: plan.pause,
        ..DevicePlan::default()
    };
    let devices = SessionDevices::start("boiler", plan.devices, device_plan);
    let mut oracle = SessionOracle::default();
    let mut chance = Chance(plan.seed);
    let mut outcome = KillOutcome::default();
    for kill in 0..plan.kills {
        let more = [
            "--record-rotate-size",
            "1000000",
            "--ack-interval",
            ["0", "1"][kill % 2],
            "--record-compression",
            ["none", "lz4", "zstd"][kill % 3],
        ];
        let server = Server::start(&recording_args(folder, &more));
        let log_text = server.process.error_text();
        outcome.torn += log_text.matches("a torn file was repaired").count();
        // The start has sealed all files of earlier daemons.
        oracle.add_sealed(folder);
        oracle.assert_acked(&devices);
        devices.connect_to(server.addr());
        devices.wait_for_acks(chance.of(1..=plan.acks_max) as u64);
        sleep(Duration::from_millis(
            chance.of(0..=plan.delay_max_ms) as u64
        ));
        server.process.signal("KILL");
        drop(server.process.end());
        devices.leave();
        let held = devices.seen().map(|seen| seen.pushed() - seen.acked());
        outcome.unacknowledged += held.sum::<u64>();
    }
    let server = Server::start(&recording_args(folder, &[]));
    devices.connect_to(server.addr());
    let outcomes = devices.finish();
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    oracle.add(folder);
    oracle.assert_outcomes(&outcomes);
    // No session was forgotten, and none was replaced.
    assert_eq!((oracle.sessions.len(), oracle.plain), (plan.devices, 0));
    outcome.messages = outcomes.iter().map(|outcome| outcome.pushed).sum();
    outcome
}
