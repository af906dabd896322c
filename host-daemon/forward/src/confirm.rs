//! Reports to sessions what the stream has: the trait [`Confirm`].

use std::collections::HashMap;

/// Takes note of which messages of sessions are in the stream, to acknowledge them.
pub trait Confirm: Send + Sync {
    /// Of a session, the messages with numbers from `from` to before `next` are in the stream. The session is written as 16
    /// hexadecimal digits.
    ///
    /// The messages that are recorded here are reported in their order. So where numbers are missing between two reports, and the
    /// device has not given them up, their messages are unreadable in the recording. Numbers can be reported again, and those that
    /// other daemons have forwarded can be among them.
    fn stored(&self, device: &str, session: &str, from: u64, next: u64);

    /// Everything that was recorded before the forwarder began is read. It is in the stream, except for messages of these
    /// sessions, each a device and a session, up to a number. Those are [confirmed](Self::stored) later. `is_damaged` says that a
    /// part could not be read: messages of any session may be missing.
    fn caught_up(&self, waiting: &HashMap<(&str, &str), u64>, is_damaged: bool);
}
