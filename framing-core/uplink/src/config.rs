//! The limits of an uplink: [`Config`].

use crate::backoff::BackoffBounds;

/// Limits of an uplink, in milliseconds.
///
/// ```
/// use framing_uplink::Config;
///
/// let config = Config { stop_ms: 30_000, ..Config::new() };
/// assert_eq!(config.welcome_ms, 10_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Delays before connections.
    pub backoff: BackoffBounds,
    /// Time that a connection must last, besides an acknowledgement, for the back-off to begin anew: 5 s. A server that accepts
    /// connections only to close them would otherwise be tried, and sent data, at full speed.
    pub held_ms: u32,
    /// Time from a [request to stop](crate::Stop) to the end, for the messages that are left: 10 s. Those that no connection
    /// took by then are lost, or stay in the memory of a session.
    pub stop_ms: u32,
    /// Time limit for the reply to a plain series: 2 s.
    pub answer_ms: u32,
    /// Time limit for the WELCOME of a session: 10 s.
    pub welcome_ms: u32,
}

impl Config {
    /// The limits that are said at each field.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            backoff: BackoffBounds::new(),
            held_ms: 5_000,
            stop_ms: 10_000,
            answer_ms: 2_000,
            welcome_ms: 10_000,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
