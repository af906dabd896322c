//! Copies of folders: [`copy_folder`].

use std::fs;
use std::path::Path;

/// Copies a folder with all that is in it to a new one.
#[track_caller]
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for entry in from.read_dir().expect("a folder").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy_folder(&from, &to),
            false => {
                fs::copy(from, to).expect("a copy");
            }
        }
    }
}
