//! Reports how this machine runs the tests: those that are skipped ([`skipped`]), and those that can run in several ways
//! ([`ran`]). `tests/run` prints the reports at its end; `tests/run --all` fails on a skipped test.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// The environment variable that names a file for the reports. The output of a passing test is not shown, so the reports
/// go to a file.
pub const FILE: &str = "BLOCKSD_TEST_REPORTS";

/// Reports that `name` is skipped, and why. The caller must return after it.
///
/// # Panics
/// If the file of [`FILE`] cannot be written: a report must not be lost.
pub fn skipped(name: &str, reason: impl Display) {
    report(&format!("SKIPPED {name}: {reason}\n"));
}

/// Reports in which way `name` was run.
///
/// # Panics
/// As [`skipped`].
pub fn ran(name: &str, way: impl Display) {
    report(&format!("RAN {name}: {way}\n"));
}

fn report(line: &str) {
    eprint!("{line}");
    if let Some(path) = std::env::var_os(FILE) {
        // One write in append mode: lines of other processes are not mixed with it.
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
