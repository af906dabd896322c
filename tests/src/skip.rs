//! Reports how this machine runs the tests: those that it cannot run, and those with more than one way. `tests/run`
//! prints the reports at its end; `tests/run --all` fails on a skipped test.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// The environment variable with the name of a file that collects the reports: the output of a test that passes is
/// not shown.
pub const FILE: &str = "BLOCKSD_TEST_REPORTS";

/// Reports that `name` was not tested, and why. The caller returns after it.
///
/// # Panics
/// If the file of [`FILE`] cannot be written: a report must not be lost.
pub fn skipped(name: &str, reason: impl Display) {
    report(&format!("SKIPPED {name}: {reason}\n"));
}

/// Reports in which way `name` was tested.
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
