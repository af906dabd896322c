//! A place in a recording that is followed: a [`TailPosition`].

use crate::format::nonce::FileNonce;

/// A place in the recording of a directory: after a number of messages of a file.
///
/// A [`Tail`](crate::Tail) reports its position to [`Visitor::reached`](crate::Visitor::reached), and
/// [`Tail::from_position`](crate::Tail::from_position) continues there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailPosition {
    /// Number of the file.
    pub number: u64,
    /// Nonce of the file.
    pub nonce: FileNonce,
    /// Number of its messages before this place, those that are not selected included.
    pub messages: u64,
}
