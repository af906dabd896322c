//! Several hosts for one device: another folder, and a folder that was restored from a backup.

use std::fs;
use std::path::Path;

use blocksd_tests::process::{Server, run};
use blocksd_tests::recording_daemon::recording_args;
use blocksd_tests::session_devices::{DeviceOutcome, DevicePlan, SessionDevices};
use blocksd_tests::session_oracle::{Numbers, SessionOracle};
use tempfile::TempDir;

const DEVICES: usize = 3;
/// Messages that are acknowledged before each change.
const MESSAGES: u64 = 400;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn start(folder: &Path) -> Server {
    Server::start(&recording_args(folder, &["--ack-interval", "0"]))
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Asserts that each number of a device has a message or a gap of unknown cause. Returns the messages.
#[track_caller]
fn explained(oracle: &SessionOracle, device: &DeviceOutcome, gaps: usize) -> Numbers {
    oracle.assert_sound();
    oracle.assert_once(&device.id);
    let messages = oracle.messages_of(&device.id);
    let mut all = messages.clone();
    let found = oracle.gaps_of(&device.id);
    assert_eq!(found.len(), gaps, "{found:?}");
    for (from, to, cause) in found {
        assert_eq!(cause, "unknown", "{from}..{to}");
        all.add_all(from, to);
    }
    let all: Vec<_> = all.ranges().collect();
    assert_eq!(all, [(0, device.pushed)], "{device:?}");
    messages
}

#[test]
fn a_second_daemon_is_refused_while_sessions_are_recorded() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let devices = SessionDevices::start("boiler", 1, DevicePlan::default());
    devices.connect_to(server.addr());
    devices.wait_for_acks(MESSAGES);
    let args = ["serve", "--listen", "127.0.0.1:0", "--record"];
    let second = run(&[&args[..], &[text(folder.path())]].concat(), b"");
    second.assert_refused(75, "a daemon is recording to");
    let outcomes = devices.finish();
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let oracle = SessionOracle::of(folder.path());
    oracle.assert_outcomes(&outcomes);
}

#[test]
fn a_device_that_moves_between_hosts_loses_nothing() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let servers = folders.each_ref().map(|folder| start(folder.path()));
    let devices = SessionDevices::start("boiler", DEVICES, DevicePlan::default());
    for server in [&servers[0], &servers[1], &servers[0]] {
        devices.connect_to(server.addr());
        devices.wait_for_acks(MESSAGES);
    }
    // It keeps its session.
    let mut sessions: Vec<_> = devices
        .seen()
        .map(|seen| (seen.id.clone(), format!("{:016x}", seen.session())))
        .collect();
    sessions.sort();
    let outcomes = devices.finish();
    for server in servers {
        let (ended, _) = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let oracles = folders.each_ref().map(|it| SessionOracle::of(it.path()));
    for oracle in &oracles {
        assert!(
            oracle.sessions.keys().eq(&sessions),
            "{:?}",
            oracle.sessions
        );
    }
    for device in &outcomes {
        // The first host reports the messages that the second has acknowledged.
        let mut all = explained(&oracles[0], device, 1);
        oracles[1].assert_once(&device.id);
        assert_eq!(oracles[1].gaps_of(&device.id), []);
        let others = oracles[1].messages_of(&device.id);
        assert!(MESSAGES <= others.len());
        for (from, to) in others.ranges() {
            all.add_all(from, to);
        }
        let all: Vec<_> = all.ranges().collect();
        assert_eq!(all, [(0, device.pushed)]);
    }
}

#[test]
fn a_restored_backup_continues_and_reports_what_it_does_not_have() {
    let (folder, backup) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = start(folder.path());
    let devices = SessionDevices::start("boiler", DEVICES, DevicePlan::default());
    devices.connect_to(server.addr());
    devices.wait_for_acks(MESSAGES);
    let acked: Vec<_> = devices.seen().map(|seen| seen.acked()).collect();
    // While the daemon writes.
    copy(folder.path(), backup.path());
    devices.wait_for_acks(MESSAGES);
    devices.leave();
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for entry in fs::read_dir(folder.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    copy(backup.path(), folder.path());

    let server = start(folder.path());
    devices.connect_to(server.addr());
    devices.wait_for_acks(MESSAGES);
    let welcomes: Vec<_> = devices.seen().map(|seen| seen.welcomes()).collect();
    assert_eq!(welcomes, [2; DEVICES]);
    let outcomes = devices.finish();
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let oracle = SessionOracle::of(folder.path());
    assert_eq!(oracle.sessions.len(), DEVICES);
    for (device, acked) in outcomes.iter().zip(acked) {
        let messages = explained(&oracle, device, 1);
        assert!(acked <= messages.end_of_first(), "{device:?}");
        assert!(messages.len() < device.pushed, "{device:?}");
    }
}
