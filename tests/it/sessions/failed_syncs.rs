//! Syncs that fail and lose everything since the last one: devices send the messages again, and each is recorded once.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::bad_disk::BadDisk;
use blocksd_tests::disk::Chance;
use blocksd_tests::process::{Ended, Process, Server, run, wait_until};
use blocksd_tests::recording_daemon::recording_args;
use blocksd_tests::session_devices::{DeviceOutcome, DevicePlan, DeviceSeen, SessionDevices};
use blocksd_tests::session_oracle::SessionOracle;
use framing_core::session::wire::ClosingCode;
use tempfile::TempDir;

/// Number of failed syncs; `BLOCKSD_TEST_KILLS` overrides it.
const FAILURES: usize = 8;
const DEVICES: usize = 4;
/// The variable for failing syncs.
const SYNCS: &str = "BAD_DATA_SYNCS";
const AGAIN: u8 = ClosingCode::Again as u8;

fn failures() -> usize {
    let given = std::env::var("BLOCKSD_TEST_KILLS").ok();
    given.map_or(FAILURES, |given| given.parse().expect("a number"))
}

/// Number of times that devices had to send again.
fn again(devices: &SessionDevices) -> usize {
    let closings = devices.seen().flat_map(DeviceSeen::closings);
    closings.filter(|code| *code == AGAIN).count()
}

/// Starts a daemon on a disk.
fn start(folder: &Path, on: impl FnOnce(Command) -> Command) -> Server {
    let more = ["--record-rotate-size", "300000", "--ack-interval", "0"];
    let args = recording_args(folder, &more);
    Server::of(Process::start(on(Server::command(&args))), &args)
}

#[test]
fn what_a_failed_sync_takes_is_sent_again_and_recorded_once() {
    let name = "what_a_failed_sync_takes_is_sent_again_and_recorded_once";
    let Some(disk) = BadDisk::build(name) else {
        return;
    };
    let (folder, switch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let switch = switch.path().join("fail");
    let start = |switch: &Path| start(folder.path(), |daemon| disk.failing(SYNCS, switch, daemon));
    let plan = DevicePlan {
        pause: Duration::from_micros(300),
        ..DevicePlan::default()
    };
    let devices = SessionDevices::start("boiler", DEVICES, plan);
    let mut chance = Chance(failures() as u64);
    let mut server = start(&switch);
    devices.connect_to(server.addr());
    for failure in 0..failures() {
        devices.wait_for_acks(chance.of(1..=300) as u64);
        let before = again(&devices);
        fs::write(&switch, "").unwrap();
        wait_until("devices are told to send again", || {
            before < again(&devices)
        });
        // Before or after the next file was begun, and messages were sent again.
        sleep(Duration::from_millis(chance.of(0..=100) as u64));
        match failure % 3 {
            0 => continue,
            1 => server.process.signal("TERM"),
            _ => server.process.signal("KILL"),
        }
        drop(server.end());
        devices.leave();
        server = start(&switch);
        let oracle = SessionOracle::of(folder.path());
        oracle.assert_acked(&devices);
        devices.connect_to(server.addr());
    }
    let outcomes = devices.finish();
    server.stop();
    // The last failed sync may have left a file that a start repairs.
    assert_recorded(&start(&switch).stop().0, folder.path(), &outcomes);
}

#[test]
fn a_sync_that_fails_at_the_end_of_the_daemon_takes_nothing_from_a_session() {
    let name = "a_sync_that_fails_at_the_end_of_the_daemon_takes_nothing_from_a_session";
    let Some(disk) = BadDisk::build(name) else {
        return;
    };
    for is_cut in [false, true] {
        let (folder, switch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let switch = switch.path().join("fail");
        let server = start(folder.path(), |daemon| {
            let daemon = match is_cut {
                true => disk.failing("BAD_DATA_SYNC_CUTS", "", daemon),
                false => daemon,
            };
            let daemon = disk.failing("BAD_DATA_SYNC_MS", "3000", daemon);
            disk.failing(SYNCS, &switch, daemon)
        });
        let plan = DevicePlan {
            // Longer than a file.
            ring_len: 1 << 20,
            pause: Duration::from_micros(300),
            message_len: 1000,
            ..DevicePlan::default()
        };
        let devices = SessionDevices::start("boiler", DEVICES, plan);
        devices.connect_to(server.addr());
        devices.wait_for_acks(50);
        fs::write(&switch, "").unwrap();
        wait_until("the sync has begun", || !switch.exists());
        // Begun while the file before is not durable.
        let files = || fs::read_dir(folder.path()).unwrap().count();
        let before = files();
        wait_until("another file is begun", || before < files());
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        devices.leave();
        let server = start(folder.path(), |daemon| daemon);
        devices.connect_to(server.addr());
        let outcomes = devices.finish();
        assert_recorded(&server.stop().0, folder.path(), &outcomes);
    }
}

/// Asserts that the daemon has ended well, and that each message is recorded once.
#[track_caller]
fn assert_recorded(ended: &Ended, folder: &Path, outcomes: &[DeviceOutcome]) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let oracle = SessionOracle::of(folder);
    oracle.assert_outcomes(outcomes);
    assert_eq!((oracle.sessions.len(), oracle.plain), (DEVICES, 0));
    let verified = run(&["verify", folder.to_str().unwrap()], b"");
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
