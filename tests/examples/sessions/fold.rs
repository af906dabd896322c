//! How long a start takes after a crash with a long file: [`measure`].

use std::fs;
use std::path::Path;
use std::time::Instant;

use blocksd_tests::session_devices::{DevicePlan, SessionDevices};
use clap::Args;

use crate::daemon::{Daemon, wait_long};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 16)]
    devices: usize,
    /// Length of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    len: usize,
    /// Length of the torn file in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    file: u64,
    /// Compression of the recording, as the daemon's option
    #[arg(long, value_name = "HOW", default_value = "auto")]
    compression: String,
}

/// Kills the daemon when its file has the length. Prints how long the next start takes until it listens.
pub(crate) fn measure(scratch: &Path, arguments: &Arguments) {
    let folder = scratch.join("recording");
    let args = [
        "--record-compression",
        &arguments.compression,
        "--record-rotate-size",
        "100GiB",
    ];
    let daemon = Daemon::start(&folder, &args);
    let plan = DevicePlan {
        ring_len: 1 << 20,
        message_len: arguments.len,
        ..DevicePlan::default()
    };
    let devices = SessionDevices::start("boiler", arguments.devices, plan);
    devices.connect_to(daemon.addr());
    wait_long("the file is long", || {
        arguments.file << 20 <= file_len(&folder)
    });
    let messages = daemon.synced();
    daemon.server.process.signal("KILL");
    drop(daemon.server.process.end());
    devices.leave();
    let len = file_len(&folder);
    let begun = Instant::now();
    let daemon = Daemon::start(&folder, &args);
    let took = begun.elapsed();
    println!(
        "--record-compression {}: {} bytes and {messages:.0} messages in a torn file: {:.2} s from the start until the daemon listens",
        arguments.compression,
        len,
        took.as_secs_f64(),
    );
    devices.connect_to(daemon.addr());
    drop(devices.finish_within(crate::daemon::LIMIT));
    daemon.stop();
}

/// Length of all files of a recording in bytes.
fn file_len(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("a folder of ours");
    let len = |file: std::io::Result<fs::DirEntry>| file.and_then(|file| file.metadata());
    files
        .filter_map(|file| len(file).ok())
        .map(|it| it.len())
        .sum()
}
