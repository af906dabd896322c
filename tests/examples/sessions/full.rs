//! A full disk for a while: [`prove`].

use std::thread::sleep;
use std::time::Duration;

use blocksd_tests::session_devices::{DevicePlan, DeviceSeen, SessionDevices};
use blocksd_tests::session_oracle::SessionOracle;
use blocksd_tests::small_disk::SmallDisk;
use clap::Args;

use crate::daemon::{Daemon, wait_long};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 4)]
    devices: usize,
    /// Seconds with a full disk
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
}

/// Fills a small disk for some time. Asserts that nothing is acknowledged meanwhile, that the connections stay, and that
/// everything is recorded afterwards.
pub(crate) fn prove(arguments: &Arguments) {
    let Some(disk) = SmallDisk::mount("sessions full") else {
        return;
    };
    disk.fill();
    let args = [
        "--record-sync",
        "10",
        "--record-compression",
        "none",
        "--ack-interval",
        "0",
        "--heartbeat",
        "1",
    ];
    let daemon = Daemon::start(disk.path(), &args);
    let plan = DevicePlan {
        pause: Duration::from_millis(10),
        message_len: 1000,
        ..DevicePlan::default()
    };
    let devices = SessionDevices::start("boiler", arguments.devices, plan);
    devices.connect_to(daemon.addr());
    wait_long("the disk is full", || {
        let log_text = daemon.server.process.error_text();
        log_text.contains("devices are held back")
    });
    let of_all = |figure: fn(&DeviceSeen) -> u64| devices.seen().map(figure).collect::<Vec<_>>();
    let begun = of_all(DeviceSeen::heartbeats);
    wait_long("heartbeats arrive", || {
        let now = of_all(DeviceSeen::heartbeats);
        now.iter().zip(&begun).all(|(now, begun)| begun < now)
    });
    let (acked, beats) = (of_all(DeviceSeen::acked), of_all(DeviceSeen::heartbeats));
    sleep(Duration::from_secs(arguments.seconds));
    assert_eq!(of_all(DeviceSeen::acked), acked);
    let more: u64 = of_all(DeviceSeen::heartbeats).iter().sum();
    let more = more - beats.iter().sum::<u64>();
    assert_eq!(of_all(DeviceSeen::welcomes), vec![1; arguments.devices]);
    disk.make_room();
    devices.wait_for_acks(1);
    let outcomes = devices.finish();
    daemon.stop();
    SessionOracle::of(disk.path()).assert_outcomes(&outcomes);
    let pushed: u64 = outcomes.iter().map(|outcome| outcome.pushed).sum();
    println!(
        "{} s with a full disk: {} devices, no acknowledgement, {more} heartbeats, no connection lost; afterwards all {pushed} messages are recorded once",
        arguments.seconds, arguments.devices,
    );
}
