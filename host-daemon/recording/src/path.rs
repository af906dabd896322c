//! Parts of paths that more than one room needs.

use std::path::Path;

/// The folder that holds a file: `.` for a bare name. Unlike [`Path::parent`], the result can always be opened.
#[must_use]
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None if path.has_root() => path,
        None => Path::new("."),
    }
}
