//! A disk that fails, for programs: [`BadDisk`] makes reads, opens, syncs and locks of a process fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::skip::skipped;

/// The source of the library.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bad_disk.c");

/// A library that is loaded into a process.
#[derive(Debug)]
pub struct BadDisk(TempDir);

impl BadDisk {
    /// Compiles the library. Reports that the test `name` is skipped if this is not possible, or if programs do not load it.
    ///
    /// # Panics
    /// If the compiler refuses the source.
    #[must_use]
    pub fn build(name: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a folder for temporary files");
        let disk = Self(folder);
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]);
        cc.arg(disk.library()).args([SOURCE, "-ldl"]);
        let Ok(output) = cc.output() else {
            skipped(name, "there is no C compiler `cc`");
            return None;
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        // A static program ignores the library.
        let probe = disk.under(crate::process::blocksd(&["verify", SOURCE]));
        let mut probe = disk.failing("BAD_OPENS", "bad_disk.c", probe);
        let ended = probe.output().expect("a program");
        if !String::from_utf8_lossy(&ended.stderr).contains("Permission denied") {
            skipped(name, "`blocksd` does not load a library of LD_PRELOAD");
            return None;
        }
        Some(disk)
    }

    /// The command, on this disk.
    #[must_use]
    pub fn under(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", self.library());
        command
    }

    /// The command, on this disk with this failure. The source of the library describes the failures.
    #[must_use]
    pub fn failing(
        &self,
        what: &str,
        how: impl AsRef<std::ffi::OsStr>,
        command: Command,
    ) -> Command {
        let mut command = self.under(command);
        command.env(what, how);
        command
    }

    fn library(&self) -> PathBuf {
        Path::new(self.0.path()).join("bad_disk.so")
    }
}
