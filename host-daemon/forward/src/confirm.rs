//! Reports to sessions what the stream has: the trait [`Confirm`].

use std::sync::Arc;

/// Takes note of which messages of sessions are in the stream, to acknowledge them. Sessions are written as 16 hexadecimal digits.
pub trait Confirm: Send + Sync {
    /// Of a session, the messages with numbers from `from` to before `next` are in the stream, except for numbers of [gaps](Self::gap).
    ///
    /// The messages that are recorded here are reported in their order, each with the gap right before it. So where numbers are missing
    /// between two reports, their messages are unreadable in the recording, or were stored before the forwarder began. Numbers can be
    /// reported again, and those that other daemons have forwarded can be among them.
    fn stored(&self, device: &str, session: &str, from: u64, next: u64);

    /// Returns sessions with messages that are durable and were not reported, although they were recorded a while ago or before the
    /// start. They are [settled](Self::settled) later. Each is returned once, and `all` returns those again that are not settled.
    fn unsettled(&self, all: bool) -> Vec<Unsettled>;

    /// Of an [unsettled](Self::unsettled) session, all messages are [reported](Self::stored) that can be read in the recording, and the
    /// stream has these runs of numbers besides, each the first one and the one after the last. Other messages are in neither.
    fn settled(&self, unsettled: &Unsettled, runs: &[(u64, u64)]);

    /// The numbers that an entry about sessions, as it is recorded, says to have no message. `None` if it says something else.
    fn gap(&self, entry: &[u8]) -> Option<NumberGap>;
}

/// A session with durable messages that were not reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// The device.
    pub device: Arc<str>,
    /// The session.
    pub session: String,
    /// The messages below this number are durable.
    pub to: u64,
}

/// Numbers of a session without a message: the device has given them up, or their messages were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberGap {
    /// The device.
    pub device: String,
    /// The session.
    pub session: String,
    /// The first number.
    pub from: u64,
    /// The number after the last one.
    pub to: u64,
}
