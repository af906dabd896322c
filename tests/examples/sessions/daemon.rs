//! The daemon that is measured: a [`Daemon`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use blocksd_tests::process::Server;
use blocksd_tests::scrape::sample;

/// Limit of each wait.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A clock tick of `/proc`, in seconds.
const TICK_S: f64 = 0.01;

/// A daemon that records.
pub(crate) struct Daemon {
    pub(crate) server: Server,
    pub(crate) folder: PathBuf,
}

impl Daemon {
    /// Starts it with the options that all measurements share, and these.
    pub(crate) fn start(folder: &Path, args: &[&str]) -> Self {
        let path = folder.to_str().expect("a path in UTF-8");
        let common = [
            "--record",
            path,
            "--output",
            "none",
            "--metrics",
            "127.0.0.1:0",
            "--max-connections",
            "100000",
        ];
        Self {
            server: Server::start(&[&common, args].concat()),
            folder: folder.to_owned(),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Resident memory in kB.
    pub(crate) fn resident_kb(&self) -> u64 {
        self.server.process.memory_kb("VmRSS")
    }

    /// Processor time so far, in seconds.
    pub(crate) fn processor_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.server.process.id()));
        let stat = stat.expect("the daemon runs");
        let (_, after) = stat.rsplit_once(')').expect("a name in brackets");
        let fields: Vec<_> = after.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a figure");
        (ticks(11) + ticks(12)) * TICK_S
    }

    /// Messages that are on the disk.
    pub(crate) fn synced(&self) -> f64 {
        sample(&self.server, "blocksd_record_messages_synced_total")
    }

    /// Stops it, and asserts that it has recorded everything.
    pub(crate) fn stop(self) -> PathBuf {
        let (ended, _) = self.server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        self.folder
    }
}

/// Waits until `is_so` returns true.
pub(crate) fn wait_long(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < until, "timed out waiting until {what}");
        sleep(Duration::from_millis(50));
    }
}
