//! The processes that hold a lock on a file, from `/proc/locks`: [`may_be_writer`].
//!
//! Any process that can read a folder can lock it. Such a process must not keep the daemon from recording.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

/// Whether a process that holds an exclusive lock on a file may also write to the folder. True if that is not known: the process
/// is in another PID namespace, or a group or an access control list may grant the permission.
#[must_use]
pub(super) fn may_be_writer(locked: &Metadata, folder: &Metadata) -> bool {
    let Ok(locks) = fs::read_to_string("/proc/locks") else {
        return true;
    };
    let mut holders = holders(&locks, locked.ino()).peekable();
    holders.peek().is_none() || holders.any(|pid| may_write(pid, folder))
}

/// Whether `/proc/locks` lists an exclusive lock on a file.
#[must_use]
pub(super) fn is_locked(file: &Metadata) -> bool {
    fs::read_to_string("/proc/locks")
        .is_ok_and(|locks| holders(&locks, file.ino()).next().is_some())
}

/// The processes that hold an exclusive `flock` on a file with this inode. The device is not compared, because some file
/// systems report another one to `stat`.
fn holders(locks: &str, inode: u64) -> impl Iterator<Item = u32> {
    locks.lines().filter_map(move |line| {
        // 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
        let mut fields = line.split_whitespace().skip(1);
        let (kind, _, mode) = (fields.next()?, fields.next()?, fields.next()?);
        let (pid, file) = (fields.next()?.parse().ok()?, fields.next()?);
        let of_file = file.rsplit(':').next()?.parse() == Ok(inode);
        (of_file && kind == "FLOCK" && mode == "WRITE").then_some(pid)
    })
}

fn may_write(pid: u32, folder: &Metadata) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let uid = status.lines().find_map(|line| {
        let ids = line.strip_prefix("Uid:")?;
        // Real, effective, saved, of the file system.
        ids.split_whitespace().nth(1)?.parse::<u32>().ok()
    });
    let is_open = folder.mode() & 0o022 != 0;
    is_open || uid.is_none_or(|uid| uid == 0 || uid == folder.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusive_locks_on_the_inode_are_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:7 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 12 08:01:7 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 00:2a:7 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 00:2a:7 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 15 00:2a:77 0 EOF\n";
        assert!(holders(locks, 7).eq([13]));
        assert!(holders(locks, 77).eq([15]));
        assert_eq!(holders(locks, 8).next(), None);
    }

    #[test]
    fn root_and_the_owner_may_write() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = folder.path().metadata().unwrap();
        // This process created the folder.
        assert!(may_write(std::process::id(), &metadata));
        // No such process.
        assert!(may_write(u32::MAX, &metadata));
    }
}
