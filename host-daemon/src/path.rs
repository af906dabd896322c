//! Parts of paths that more than one room needs. Start with [`parent`].

use std::path::Path;

/// The folder that holds a file: `.` for a bare name. Unlike [`Path::parent`], the result can always be opened.
///
/// ```
/// use std::path::Path;
/// use blocksd::path::parent;
///
/// assert_eq!(parent(Path::new("a/b")), Path::new("a"));
/// assert_eq!(parent(Path::new("b")), Path::new("."));
/// assert_eq!(parent(Path::new("/")), Path::new("/"));
/// ```
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None if path.has_root() => path,
        None => Path::new("."),
    }
}
