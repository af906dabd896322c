//! A full disk: [`SmallDisk`] is a file system of one MiB.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::skip::skipped;

/// A mounted file system of one MiB; dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts it. Reports that the test `name` is skipped if this user cannot mount.
    #[must_use]
    pub fn mount(name: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a folder for temporary files");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=1m", "none"])
            .arg(folder.path())
            .stderr(Stdio::null());
        if !mount.status().is_ok_and(|status| status.success()) {
            skipped(name, "this user cannot mount a file system");
            return None;
        }
        Some(Self(folder))
    }

    /// The folder that it is mounted on.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves less than 350 KiB free.
    pub fn fill(&self) {
        fs::write(self.path().join("ballast"), vec![1; 700 << 10]).expect("there is room");
    }

    /// Reverts [`Self::fill`].
    pub fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).expect("the disk was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a killed daemon may still hold files open.
        let mut unmount = Command::new("umount");
        unmount.arg("--lazy").arg(self.path()).status().ok();
    }
}
