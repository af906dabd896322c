//! `kill -9` of the daemon under the load of sessions: devices continue, and each message is recorded once.

use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::disk::Chance;
use blocksd_tests::process::{Server, run};
use blocksd_tests::session_audit::SessionAudit;
use blocksd_tests::session_devices::{DevicePlan, SessionDevices};
use tempfile::TempDir;

/// Number of kills; `BLOCKSD_TEST_KILLS` overrides it.
const KILLS: usize = 10;
const DEVICES: usize = 4;

fn kills() -> usize {
    let given = std::env::var("BLOCKSD_TEST_KILLS").ok();
    given.map_or(KILLS, |given| given.parse().expect("a number"))
}

#[test]
fn each_message_is_recorded_once_whenever_the_daemon_is_killed() {
    let folder = TempDir::new().unwrap();
    let args = [
        "--record",
        folder.path().to_str().unwrap(),
        "--output",
        "none",
        "--record-sync",
        "10",
        "--record-rotate-size",
        "1000000",
        "--ack-interval",
        "0",
    ];
    let plan = DevicePlan {
        pause: Duration::from_micros(200),
        ..DevicePlan::default()
    };
    let devices = SessionDevices::start("boiler", DEVICES, plan);
    let mut audit = SessionAudit::default();
    let mut chance = Chance(kills() as u64);
    for _ in 0..kills() {
        let server = Server::start(&args);
        // The repair of the start has sealed all files that the daemons before have left.
        audit.add_sealed(folder.path());
        audit.assert_acked(&devices);
        devices.connect_to(server.addr());
        devices.wait_for_acks(chance.of(1..=300) as u64);
        sleep(Duration::from_millis(chance.of(0..=20) as u64));
        server.process.signal("KILL");
        drop(server.process.end());
        devices.leave();
    }
    let server = Server::start(&args);
    devices.connect_to(server.addr());
    let outcomes = devices.finish();
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    audit.add(folder.path());
    for outcome in &outcomes {
        assert!(kills() as u64 <= outcome.pushed, "{outcome:?}");
        audit.assert_all(&outcome.id, outcome.pushed);
    }
    let verified = run(&["verify", folder.path().to_str().unwrap()], b"");
    assert_eq!(verified.code, Some(0), "{verified:?}");
    // No session was forgotten, and none was replaced.
    assert_eq!(audit.sessions.len(), DEVICES);
    assert_eq!(audit.plain, 0);
}
