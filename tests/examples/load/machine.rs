//! Describes the machine and the versions that were measured, for the lines above the tables.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::receivers::rsyslogd;

/// Number of small writes, each followed by a sync, in the measurement of the disk.
const SYNCS: usize = 50;
/// Length of the long write, which is followed by one sync.
const LONG_WRITE: usize = 128 << 20;

/// Describes the machine, the disk below `folder`, and the versions.
///
/// # Errors
/// If the disk cannot be written to.
pub(crate) fn describe(folder: &Path, blocksd: &Path) -> io::Result<String> {
    let cores = thread::available_parallelism()?;
    let (sync, mib_per_second) = disk(folder)?;
    let rsyslog = rsyslogd(&["-v"]).map_or_else(|_| String::new(), first_line);
    let rsyslog = rsyslog.split_whitespace().nth(1).unwrap_or("none");
    Ok(format!(
        "- {date}, {kernel}, {cores} cores ({processor}), {memory} GiB; load average {load} before the first run; \
         sender and receiver share the cores.\n\
         - Disk: {kind}; `fdatasync` of 4 KiB takes {sync:.1} ms (median of {SYNCS}), {long} MiB with one sync at the \
         end go at {mib_per_second:.0} MiB/s.\n\
         - rsyslog {rsyslog}, tokio-util {tokio_util}, {blocksd} (commit {commit}), mcap {mcap}, {rustc}, release \
         profile.",
        date = first_output_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        kernel = first_output_line("uname", &["-sr"]),
        processor = field("/proc/cpuinfo", "model name"),
        memory = field("/proc/meminfo", "MemTotal")
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<u64>().ok())
            .map_or(0, |kib| kib >> 20),
        load = read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        kind = first_output_line(
            "findmnt",
            &["-n", "-o", "FSTYPE", "-T", &folder.to_string_lossy()]
        ),
        sync = sync.as_secs_f64() * 1e3,
        long = LONG_WRITE >> 20,
        tokio_util = locked("tokio-util"),
        mcap = locked("mcap"),
        blocksd = first_output_line(blocksd, &["--version"]),
        commit = first_output_line("git", &["describe", "--always", "--dirty"]),
        rustc = first_output_line("rustc", &["--version"]),
    ))
}

/// Measures the time of a small write with its sync, and the MiB/s of a long one.
fn disk(folder: &Path) -> io::Result<(Duration, f64)> {
    let path = folder.join("disk");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort();
    let part = vec![1; 1 << 20];
    let begun = Instant::now();
    for _ in 0..LONG_WRITE / part.len() {
        file.write_all(&part)?;
    }
    file.sync_data()?;
    let rate = (LONG_WRITE >> 20) as f64 / begun.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok((times.get(SYNCS / 2).copied().unwrap_or_default(), rate))
}

/// The first line of the output of a command; empty if it cannot be run.
fn first_output_line(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    first_line(command)
}

/// The first line of the standard output of a command.
fn first_line(mut command: Command) -> String {
    let output = command.output();
    let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// The value after a name and a colon in a file.
fn field(file: &str, name: &str) -> String {
    let text = read(file);
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// The version of a crate in the lock file.
fn locked(name: &str) -> String {
    let lock = include_str!("../../../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
    let version = entry.and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or_default().to_owned()
}
