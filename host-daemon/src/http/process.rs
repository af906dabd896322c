//! The metrics of this process that the system provides: a [`ProcessCollector`].

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use blocksd_engine::metrics::Page;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// Collects the metrics of this process.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    started: SystemTime,
}

impl ProcessCollector {
    /// The metrics of a process that starts now.
    #[must_use]
    pub(super) fn now() -> Self {
        Self {
            started: SystemTime::now(),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::from(encoder);
        let started = self.started.duration_since(UNIX_EPOCH);
        let started = started.unwrap_or_default().as_secs_f64();
        page.gauge(
            "process_start_time_seconds",
            "Start time of the daemon, in Unix time",
            started,
        )?;
        if let Some(bytes) = resident_bytes() {
            page.gauge("process_resident_memory_bytes", "Resident memory", bytes)?;
        }
        if let Some(count) = open_fds() {
            page.gauge("process_open_fds", "Open file descriptors", count)?;
        }
        if let Some(count) = max_fds() {
            page.gauge("process_max_fds", "Limit on open file descriptors", count)?;
        }
        // Not of the type `info`, which the older text format does not have.
        page.gauges(
            "blocksd_build_info",
            "Always 1; the label is the version of the program",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1_u64)],
        )
    }
}

/// Resident memory, in bytes.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Number of open file descriptors, without the one that is opened to count them.
fn open_fds() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(count).ok()?.checked_sub(1)
}

/// Limit on open file descriptors.
fn max_fds() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok()
}
