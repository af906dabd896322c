//! The limits that apply to all connections together: [`Bounds`].

/// Limits that apply to all connections together.
///
/// # Examples
/// ```
/// use blocksd_engine::permit::Bounds;
///
/// // At most 500 connections, and 4 of each device.
/// let bounds = Bounds { connections: 500, per_device: Some(4), ..Bounds::default() };
/// assert_eq!(bounds.unfinished, 64 << 20);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Largest number of open connections. At the limit, a new connection evicts another one or is refused.
    pub connections: usize,
    /// Largest number of open connections of one device; `None` for no limit.
    pub per_device: Option<usize>,
    /// Limit on the memory of unfinished messages of all connections, in bytes.
    pub unfinished: u64,
    /// Length of the longest message that any policy accepts, in bytes. Set `unfinished` to four times this or more.
    pub longest: u64,
    /// Largest number of handshakes that run at once. Others wait, and origins take turns.
    pub handshakes: usize,
}

impl Default for Bounds {
    /// 10,000 connections, no limit for each device, 64 MiB of unfinished messages of up to 1 MiB each, and 256
    /// handshakes.
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_device: None,
            unfinished: 64 << 20,
            longest: 1 << 20,
            handshakes: 256,
        }
    }
}
