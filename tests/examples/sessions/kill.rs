//! `kill -9` under load, again and again: [`prove`].

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use blocksd_tests::disk::Chance;
use blocksd_tests::process::Server;
use blocksd_tests::session_audit::SessionAudit;
use blocksd_tests::session_devices::{DevicePlan, SessionDevices};
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

/// Kills the daemon, and asserts after each kill that everything acknowledged is recorded; at the end, that everything is
/// recorded once.
pub(crate) fn prove(scratch: &Path, arguments: &Arguments) {
    let path = scratch.to_str().expect("a path in UTF-8");
    let plan = DevicePlan {
        pause: Duration::from_micros(arguments.pause_us),
        ..DevicePlan::default()
    };
    let begun = Instant::now();
    let devices = SessionDevices::start("boiler", arguments.devices, plan);
    let mut audit = SessionAudit::default();
    let mut chance = Chance(arguments.seed);
    let (mut torn, mut unacked) = (0, 0);
    for kill in 0..arguments.times {
        let compression = ["none", "lz4", "zstd"][kill % 3];
        let args = [
            "--record",
            path,
            "--output",
            "none",
            "--record-sync",
            "10",
            "--record-rotate-size",
            "1000000",
            "--ack-interval",
            ["0", "1"][kill % 2],
            "--record-compression",
            compression,
        ];
        let server = Server::start(&args);
        let log_text = server.process.error_text();
        torn += log_text.matches("a torn file was repaired").count();
        audit.add_sealed(scratch);
        audit.assert_acked(&devices);
        devices.connect_to(server.addr());
        devices.wait_for_acks(chance.of(1..=500) as u64);
        sleep(Duration::from_millis(chance.of(0..=100) as u64));
        server.process.signal("KILL");
        drop(server.process.end());
        devices.leave();
        let held = devices.seen().map(|seen| seen.pushed() - seen.acked());
        unacked += held.sum::<u64>();
    }
    let server = Server::start(&["--record", path, "--output", "none"]);
    devices.connect_to(server.addr());
    let outcomes = devices.finish();
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    audit.add(scratch);
    audit.assert_outcomes(&outcomes);
    assert_eq!((audit.sessions.len(), audit.plain), (arguments.devices, 0));
    let pushed: u64 = outcomes.iter().map(|outcome| outcome.pushed).sum();
    println!(
        "{} kills in {:.0} s, {torn} torn files: {pushed} messages of {} devices are recorded once each; {unacked} were not acknowledged at a kill",
        arguments.times,
        begun.elapsed().as_secs_f64(),
        outcomes.len(),
    );
}
