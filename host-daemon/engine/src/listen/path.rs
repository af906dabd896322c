//! Resolves paths whose files may not exist yet: start with [`made_for`].

use std::path::{Component, Path, PathBuf};

/// Returns the path of a file without symbolic links. The file need not exist.
pub(super) fn real(path: &Path) -> PathBuf {
    Resolved::of(path).path
}

/// Returns the folders that must be created in order to write to `folder`.
#[must_use]
pub fn made_for(folder: &Path) -> Vec<PathBuf> {
    let resolved = Resolved::of(folder);
    let mut made = resolved.missing;
    if resolved.path.symlink_metadata().is_err() {
        made.push(resolved.path);
    }
    made
}

/// Whether the missing folder of a path exists once the folders in `made` do.
#[must_use]
pub(super) fn will_have_folder(path: &Path, made: &[PathBuf]) -> bool {
    let missing = Resolved::of(path).missing;
    !missing.is_empty() && missing.iter().all(|folder| made.contains(folder))
}

/// A path without symbolic links, `.` and `..`.
struct Resolved {
    path: PathBuf,
    /// Parent folders that do not exist.
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
