//! Signals of child processes: [`spawn`] starts a child whose signals are as a login shell leaves them.

use std::process::{Child, Command};
use std::sync::{Arc, Once};

use nix::sys::signal::SigSet;
use signal_hook::consts::{FORBIDDEN, SIGPIPE};

/// Starts a process with the default disposition of each signal and an empty signal mask, even if the test run
/// inherited others (`nohup`, or `&` in a script).
#[track_caller]
pub fn spawn(command: &mut Command) -> Child {
    static CATCH: Once = Once::new();
    CATCH.call_once(catch_ignored);
    // A child inherits the mask of the thread that starts it.
    SigSet::empty()
        .thread_set_mask()
        .expect("an empty mask is valid");
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Installs a handler without effect for each ignored signal. It still does nothing here, and `execve` resets it to
/// the default in a child. The standard library does the same for SIGPIPE.
fn catch_ignored() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    for signal in 1..=64 {
        let is_ignored = mask >> (signal - 1) & 1 != 0;
        if is_ignored && signal != SIGPIPE && !FORBIDDEN.contains(&signal) {
            // Fails for the two signals that the C library reserves.
            signal_hook::flag::register(signal, Arc::default()).ok();
        }
    }
}
