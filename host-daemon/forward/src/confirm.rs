//! Tells sessions what the stream has: the trait [`Confirm`].

use std::collections::HashSet;

/// Takes note of which messages of sessions are in the stream, to acknowledge them.
pub trait Confirm: Send + Sync {
    /// Of a session, everything that is recorded here with a number below `next` is in the stream. The session is written as 16
    /// hexadecimal digits.
    fn stored(&self, device: &str, session: &str, next: u64);

    /// Everything that was recorded before the forwarder began is read. It is in the stream, except for messages of these
    /// sessions, each a device and a session. Those are [confirmed](Self::stored) later.
    fn caught_up(&self, waiting: &HashSet<(&str, &str)>);
}
