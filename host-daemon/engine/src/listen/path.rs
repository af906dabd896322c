//! Paths of files that may not be there yet, without links and dots. Start with [`made_for`].

use std::path::{Component, Path, PathBuf};

/// The path without links, of a file that may not be there.
pub(super) fn real(path: &Path) -> PathBuf {
    Resolved::of(path).path
}

/// The folders that recording to `folder` makes.
#[must_use]
pub fn made_for(folder: &Path) -> Vec<PathBuf> {
    let resolved = Resolved::of(folder);
    let mut made = resolved.missing;
    if resolved.path.symlink_metadata().is_err() {
        made.push(resolved.path);
    }
    made
}

/// Whether the folder of a path, which is not there, is there once the folders in `made` are.
#[must_use]
pub(super) fn will_have_folder(path: &Path, made: &[PathBuf]) -> bool {
    let missing = Resolved::of(path).missing;
    !missing.is_empty() && missing.iter().all(|folder| made.contains(folder))
}

/// A path without links and dots.
struct Resolved {
    path: PathBuf,
    /// The folders on its way that are not there.
    missing: Vec<PathBuf>,
}

impl Resolved {
    fn of(path: &Path) -> Self {
        let mut resolved = Self {
            path: Path::new(".").canonicalize().unwrap_or_default(),
            missing: Vec::new(),
        };
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            match component {
                Component::CurDir | Component::Prefix(_) => {}
                Component::RootDir => resolved.path = PathBuf::from("/"),
                Component::ParentDir => drop(resolved.path.pop()),
                Component::Normal(name) => {
                    let path = resolved.path.join(name);
                    let there = path.canonicalize();
                    if there.is_err() && components.peek().is_some() {
                        resolved.missing.push(path.clone());
                    }
                    resolved.path = there.unwrap_or(path);
                }
            }
        }
        resolved
    }
}
