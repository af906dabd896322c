//! A full disk: [`SmallDisk`] is a file system of one MiB, or of another size.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::skip::skipped;

/// A mounted file system; dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one of one MiB. Reports that the test `name` is skipped if this user cannot mount.
    #[must_use]
    pub fn mount(name: &str) -> Option<Self> {
        let disk = Self::of(1);
        if disk.is_none() {
            skipped(name, "this user cannot mount a file system");
        }
        disk
    }

    /// Mounts one of this size. `None` if this user cannot mount.
    #[must_use]
    pub fn of(mebibytes: usize) -> Option<Self> {
        let folder = TempDir::new().expect("a folder for temporary files");
        let mut mount = Command::new("mount");
        let size = format!("size={mebibytes}m");
        mount
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(folder.path())
            .stderr(Stdio::null());
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        is_mounted.then_some(Self(folder))
    }

    /// The folder that it is mounted on.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves less than 350 KiB of one MiB free.
    pub fn fill(&self) {
        fs::write(self.path().join("ballast"), vec![1; 700 << 10]).expect("there is room");
    }

    /// Leaves nothing free.
    pub fn fill_whole(&self) {
        let ballast = fs::File::create(self.path().join("ballast"));
        let mut ballast = ballast.expect("there is room for a name");
        let piece = [1; 4096];
        while ballast.write_all(&piece).is_ok() {}
    }

    /// Reverts [`Self::fill`] and [`Self::fill_whole`].
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
