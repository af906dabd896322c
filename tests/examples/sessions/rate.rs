//! Recorded messages a second, with sessions and without: [`measure`].

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use blocksd_tests::measure::{Spread, settle};
use blocksd_tests::session_devices::{DevicePlan, DeviceSeen, SessionDevices};
use clap::Args;

use crate::daemon::{Daemon, LIMIT, wait_long};
use crate::plain::PlainDevices;

/// Time before a run is measured.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 16)]
    devices: usize,
    /// Length of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    len: usize,
    /// Length of the ring of a device in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    ring: usize,
    /// Seconds of each run
    #[arg(long, value_name = "S", default_value_t = 4)]
    seconds: u64,
    /// Number of runs with sessions, and of runs without
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
}

/// Prints the medians of alternating runs.
pub(crate) fn measure(scratch: &Path, arguments: &Arguments) {
    let mut runs = [Vec::new(), Vec::new()];
    for round in 0..arguments.rounds {
        for (is_session, runs) in [false, true].into_iter().zip(&mut runs) {
            let folder = scratch.join(format!("{round}-{is_session}"));
            runs.push(run(&folder, arguments, is_session));
            fs::remove_dir_all(&folder).expect("a folder of ours");
            settle(scratch);
        }
    }
    for (title, runs) in ["plain", "sessions"].into_iter().zip(&runs) {
        let rate = Spread::of(runs.iter().map(|(rate, _)| *rate));
        let processor_ns = Spread::of(runs.iter().map(|(_, processor_ns)| *processor_ns));
        println!(
            "{title}: {} devices, {} bytes a message: {rate:.0} messages a second recorded, {processor_ns:.0} ns of processor time a message",
            arguments.devices, arguments.len,
        );
    }
    let ratios = runs[0].iter().zip(&runs[1]);
    let ratios = Spread::of(ratios.map(|((plain, _), (sessions, _))| sessions / plain));
    println!("sessions / plain: {ratios:.2}");
}

/// Messages a second that became durable, and processor time of the daemon for each in nanoseconds.
fn run(folder: &Path, arguments: &Arguments, is_session: bool) -> (f64, f64) {
    let daemon = Daemon::start(folder, &[]);
    let (mut plain, mut sessions) = (None, None);
    if is_session {
        let plan = DevicePlan {
            ring_len: arguments.ring,
            message_len: arguments.len,
            ..DevicePlan::default()
        };
        let devices = SessionDevices::start("boiler", arguments.devices, plan);
        devices.connect_to(daemon.addr());
        wait_long("all are connected", || {
            devices.seen().all(DeviceSeen::is_connected)
        });
        sessions = Some(devices);
    } else {
        let (count, len) = (arguments.devices, arguments.len);
        let devices = PlainDevices::start(daemon.addr(), count, len, Duration::ZERO);
        wait_long("all are connected", || devices.connected() == count);
        plain = Some(devices);
    }
    sleep(WARM_UP);
    let (begun, synced, processor_s) = (Instant::now(), daemon.synced(), daemon.processor_s());
    sleep(Duration::from_secs(arguments.seconds));
    let messages = daemon.synced() - synced;
    let took = begun.elapsed().as_secs_f64();
    let processor_s = daemon.processor_s() - processor_s;
    drop(plain);
    if let Some(devices) = sessions {
        devices.finish_within(LIMIT);
    }
    daemon.stop();
    (messages / took, processor_s * 1e9 / messages)
}
