//! Time of a start that folds the sessions of a recording: [`measure`] writes a torn file, repairs it, and folds it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use blocksd::recorded::journal::{Snapshot, fold};
use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::Lock;
use blocksd_tests::sessions::SessionLog;
use clap::Args;

/// Length of the payload of a message, in bytes.
const LEN: usize = 100;
/// Messages that are received at once.
const BATCH: u64 = 20;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Length of the file in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    len: u64,
    /// Devices with sessions
    #[arg(long, value_name = "N", default_value_t = 100)]
    devices: u64,
    /// Messages without a session among 100
    #[arg(long, value_name = "PERCENT", default_value_t = 50)]
    plain: u64,
}

/// Prints the times.
pub(crate) fn measure(scratch: &Path, arguments: &Arguments) -> io::Result<()> {
    let batches = (arguments.len << 20) / (BATCH * (LEN as u64 + 47));
    let payload = noise();
    let payloads = [payload.as_slice(); BATCH as usize];
    let mut log = SessionLog::new(scratch);
    log.snapshot(Snapshot::Head, &[]);
    for batch in 0..batches {
        let device = format!("device-{}", batch % arguments.devices);
        if batch % 100 < arguments.plain {
            payloads.iter().for_each(|it| log.plain(&device, it));
        } else {
            let round = batch / arguments.devices;
            log.messages(&device, 7, round * BATCH, &payloads);
        }
    }
    log.tear();
    drop(log);
    for _ in 0..2 {
        print("torn", scratch)?;
    }
    let begun = Instant::now();
    let lock = Lock::existing(scratch).map_err(io::Error::other)?;
    let repaired = CHECKER.repair_dir(scratch).map_err(io::Error::other)?;
    for repaired in repaired {
        repaired.map_err(|it| io::Error::other(it.error))?;
    }
    drop(lock);
    println!("repair    {:6} ms", begun.elapsed().as_millis());
    for _ in 0..2 {
        print("repaired", scratch)?;
    }
    let mut log = SessionLog::new(scratch);
    let names: Vec<_> = (0..arguments.devices)
        .map(|it| format!("device-{it}"))
        .collect();
    let states: Vec<_> = names
        .iter()
        .map(|it| (it.as_str(), 7, 1 << 40, 1))
        .collect();
    log.snapshot(Snapshot::End, &states);
    log.seal();
    print("sealed", scratch)
}

/// Folds, and prints a line.
fn print(state: &str, folder: &Path) -> io::Result<()> {
    let begun = Instant::now();
    let folded = fold(folder).map_err(io::Error::other)?;
    let elapsed: Duration = begun.elapsed();
    let mut bytes = 0;
    for entry in folder.read_dir()? {
        bytes += entry?.metadata()?.len();
    }
    println!(
        "{state:<9} {:6} ms  {:5} MiB  {} sessions",
        elapsed.as_millis(),
        bytes >> 20,
        folded.sessions.len()
    );
    Ok(())
}

/// Bytes that look random.
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(&mut next).take(LEN).collect()
}
