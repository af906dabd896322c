//! A full disk: acknowledgements stop, heartbeats go on, and nothing is lost.

use std::time::Duration;

use blocksd_tests::process::{Server, wait_until};
use blocksd_tests::session_audit::SessionAudit;
use blocksd_tests::session_devices::{DevicePlan, DeviceSeen, SessionDevices};
use blocksd_tests::small_disk::SmallDisk;

const DEVICES: usize = 2;

#[test]
fn a_full_disk_stops_acknowledgements_and_no_heartbeat() {
    let name = "a_full_disk_stops_acknowledgements_and_no_heartbeat";
    let Some(disk) = SmallDisk::mount(name) else {
        return;
    };
    disk.fill();
    let server = Server::start(&[
        "--record",
        disk.path().to_str().unwrap(),
        "--output",
        "none",
        "--record-sync",
        "10",
        "--record-compression",
        "none",
        "--ack-interval",
        "0",
        "--heartbeat",
        "1",
    ]);
    let plan = DevicePlan {
        pause: Duration::from_millis(5),
        message_len: 1000,
        ..DevicePlan::default()
    };
    let devices = SessionDevices::start("boiler", DEVICES, plan);
    devices.connect_to(Some(server.addr()));
    server.process.wait_for_error("devices are held back");
    // The last acknowledgements are of what was durable before.
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
    let outcomes = devices.finish();
    let (ended, _) = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let audit = SessionAudit::of(disk.path());
    for outcome in &outcomes {
        audit.assert_all(&outcome.id, outcome.pushed);
    }
}
