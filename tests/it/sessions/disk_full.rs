//! A full disk: acknowledgements stop, heartbeats go on, and nothing is lost.

use std::time::Duration;

use blocksd_tests::process::{Server, wait_until};
use blocksd_tests::recording_daemon::recording_args;
use blocksd_tests::session_devices::{DevicePlan, DeviceSeen, SessionDevices};
use blocksd_tests::session_oracle::SessionOracle;
use blocksd_tests::small_disk::SmallDisk;

const DEVICES: usize = 2;

/// A daemon on a small disk.
fn start(disk: &SmallDisk) -> Server {
    let more = [
        "--record-compression",
        "none",
        "--ack-interval",
        "0",
        "--heartbeat",
        "1",
    ];
    Server::start(&recording_args(disk.path(), &more))
}

/// Starts a daemon on a full disk, and devices that soon fill its queue. Waits until the devices are held back.
#[track_caller]
fn hold_back(disk: &SmallDisk) -> (Server, SessionDevices) {
    disk.fill();
    let server = start(disk);
    let plan = DevicePlan {
        pause: Duration::from_millis(5),
        message_len: 1000,
        ..DevicePlan::default()
    };
    let devices = SessionDevices::start("boiler", DEVICES, plan);
    devices.connect_to(server.addr());
    server.process.wait_for_error("devices are held back");
    (server, devices)
}

/// Ends the devices and the daemon, and asserts that each message is recorded once.
#[track_caller]
fn end(devices: SessionDevices, server: Server, disk: &SmallDisk) {
    let outcomes = devices.finish();
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let oracle = SessionOracle::of(disk.path());
    oracle.assert_outcomes(&outcomes);
    assert_eq!(oracle.sessions.len(), DEVICES);
}

#[test]
fn a_full_disk_stops_acknowledgements_and_no_heartbeat() {
    let name = "a_full_disk_stops_acknowledgements_and_no_heartbeat";
    let Some(disk) = SmallDisk::mount(name) else {
        return;
    };
    let (server, devices) = hold_back(&disk);
    // The last acknowledgements are of messages that were durable before.
    let heartbeats = |more: u64| {
        let before: Vec<_> = devices.seen().map(DeviceSeen::heartbeats).collect();
        wait_until("heartbeats arrive", || {
            let now = devices.seen().map(DeviceSeen::heartbeats);
            now.zip(&before).all(|(now, before)| before + more <= now)
        });
    };
    heartbeats(1);
    let acked: Vec<_> = devices.seen().map(DeviceSeen::acked).collect();
    heartbeats(2);
    let later: Vec<_> = devices.seen().map(DeviceSeen::acked).collect();
    assert_eq!(later, acked);
    disk.make_room();
    server.process.wait_for_error("recording continues");
    devices.wait_for_acks(1);
    // The connections have outlived the full disk.
    for seen in devices.seen() {
        assert_eq!((seen.welcomes(), seen.closings()), (1, vec![]));
    }
    end(devices, server, &disk);
}

#[test]
fn a_daemon_that_ends_with_a_full_disk_takes_nothing_from_a_session() {
    let name = "a_daemon_that_ends_with_a_full_disk_takes_nothing_from_a_session";
    for signal in ["TERM", "KILL"] {
        let Some(disk) = SmallDisk::mount(name) else {
            return;
        };
        let (server, devices) = hold_back(&disk);
        server.process.signal(signal);
        let (ended, _) = server.end();
        // A stop reports messages that are not recorded. Devices with sessions still have them.
        let code = (signal == "TERM").then_some(1);
        assert_eq!(ended.code, code, "{ended:?}");
        devices.leave();
        disk.make_room();
        let server = start(&disk);
        devices.connect_to(server.addr());
        devices.wait_for_acks(1);
        end(devices, server, &disk);
    }
}
