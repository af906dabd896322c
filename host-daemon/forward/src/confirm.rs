//! Reports to sessions what the stream has: the trait [`Confirm`].

use std::collections::HashMap;

/// Takes note of which messages of sessions are in the stream, to acknowledge them.
pub trait Confirm: Send + Sync {
    /// Of a session, the messages with numbers from `from` to before `next` are in the stream, except for numbers of [gaps](Self::gap).
    /// The session is written as 16 hexadecimal digits.
    ///
    /// The messages that are recorded here are reported in their order, each with the gap right before it. So where numbers are missing
    /// between two reports, their messages are unreadable in the recording. Numbers can be reported again, and those that other daemons
    /// have forwarded can be among them.
    fn stored(&self, device: &str, session: &str, from: u64, next: u64);

    /// The stream has no messages of a session before those that are [reported](Self::stored) next.
    fn begins(&self, device: &str, session: &str);

    /// Everything that was recorded before the forwarder began is read. It is in the stream, except for messages of these
    /// sessions, each a device and a session, up to a number. Those are [confirmed](Self::stored) later. `is_damaged` says that a
    /// part could not be read: messages of any session may be missing.
    fn caught_up(&self, waiting: &HashMap<(&str, &str), u64>, is_damaged: bool);

    /// The numbers that an entry about sessions, as it is recorded, says to have no message. `None` if it says something else.
    fn gap(&self, entry: &[u8]) -> Option<NumberGap>;
}

/// Numbers of a session without a message: the device has given them up, or their messages were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberGap {
    /// The device.
    pub device: String,
    /// The session, as 16 hexadecimal digits.
    pub session: String,
    /// The first number.
    pub from: u64,
    /// The number after the last one.
    pub to: u64,
}
