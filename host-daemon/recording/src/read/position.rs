//! A place in a recording that is followed: a [`TailPosition`].

use std::cmp::Ordering;

use crate::format::nonce::FileNonce;

/// A place in the recording of a directory: after a number of messages of a file.
///
/// A [`Tail`](crate::Tail) reports its position to [`Visitor::reached`](crate::Visitor::reached), and
/// [`Tail::from_position`](crate::Tail::from_position) continues there. [`Message::position`](crate::Message::position) is the
/// place after a message.
///
/// Positions of one recording are ordered: by the number of the file, then by the messages before them. Two positions with the
/// same number and different nonces are of different recordings, and have no order. If the numbers differ, nothing shows that the
/// recordings do.
///
/// In a sealed file, damage changes no position: its summary states how many messages the lost chunks had. In a file without a
/// summary, they do not count, so its positions after a lost chunk get larger when it is sealed.
///
/// # Examples
/// ```
/// use blocksd_recording::{FileNonce, TailPosition};
///
/// let nonce = FileNonce::new();
/// let early = TailPosition { number: 4, nonce, messages: 900 };
/// let later = TailPosition { number: 5, nonce: FileNonce::new(), messages: 1 };
/// assert!(early < later && later < TailPosition { messages: 2, ..later });
/// let of_other = TailPosition { nonce: FileNonce::new(), ..early };
/// assert_eq!(early.partial_cmp(&of_other), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailPosition {
    /// Number of the file.
    pub number: u64,
    /// Nonce of the file.
    pub nonce: FileNonce,
    /// Number of its messages before this place, those that are not selected included.
    pub messages: u64,
}

impl PartialOrd for TailPosition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.number.cmp(&other.number) {
            Ordering::Equal if self.nonce != other.nonce => None,
            Ordering::Equal => Some(self.messages.cmp(&other.messages)),
            order => Some(order),
        }
    }
}
