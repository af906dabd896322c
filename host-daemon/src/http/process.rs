//! The Prometheus collector of the process: start time, memory, file descriptors, version.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::engine::metric_writer::MetricWriter;

/// Reads the figures of this process at each scrape; leaves out those that the system does not have.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    started: SystemTime,
}

impl ProcessMetrics {
    /// Of a process that starts now.
    pub(super) fn new() -> Self {
        Self {
            started: SystemTime::now(),
        }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = MetricWriter::new(encoder);
        let started = self.started.duration_since(UNIX_EPOCH);
        writer.gauge(
            "process_start_time_seconds",
            "Start time of the daemon, in Unix time",
            started.unwrap_or_default().as_secs_f64(),
        )?;
        if let Some(bytes) = resident_bytes() {
            writer.gauge("process_resident_memory_bytes", "Resident memory", bytes)?;
        }
        if let Some(count) = open_fds() {
            writer.gauge("process_open_fds", "Open file descriptors", count)?;
        }
        if let Some(count) = max_fds() {
            writer.gauge("process_max_fds", "Limit on open file descriptors", count)?;
        }
        // Not of the type `info`, which readers of the older text format do not know.
        writer.gauge_family(
            "blocksd_build_info",
            "Always 1; the label is the version of the program",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1_u64)],
        )
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Counts the open file descriptors, without the one that counts them.
fn open_fds() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(count).ok()?.checked_sub(1)
}

fn max_fds() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok()
}
