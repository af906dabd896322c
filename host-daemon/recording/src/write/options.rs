//! How a log is written: [`LogOptions`].

use std::time::Duration;

use crate::write::compress::Compression;

/// How a log is written.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use blocksd_recording::{Compression, LogOptions};
///
/// let options = LogOptions {
///     compression: Compression::Zstd,
///     rotate_after: Duration::from_secs(600),
///     ..LogOptions::default()
/// };
/// assert_eq!(options.rotate_bytes, 1 << 30);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Compression of chunks.
    pub compression: Compression,
    /// Length of a file in bytes, after which a new file is begun.
    pub rotate_bytes: u64,
    /// Age of a file after which a new file is begun.
    pub rotate_after: Duration,
    /// Longest time until a commit of an appended message begins. The disk takes additional time.
    pub sync_after: Duration,
}

impl Default for LogOptions {
    /// [`Compression::Auto`], files of 1 GiB or an hour, commits every 100 ms.
    fn default() -> Self {
        Self {
            compression: Compression::Auto,
            rotate_bytes: 1 << 30,
            rotate_after: Duration::from_secs(3600),
            sync_after: Duration::from_millis(100),
        }
    }
}
