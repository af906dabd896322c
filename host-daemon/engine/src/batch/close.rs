//! Which items of a batch close their connection, or end with it: [`ClosePolicy`], [`CloseCause`].

use framing_core::Fault;

use crate::batch::{Batch, Item};

/// Which items close the connection, and how messages over the limit are handled.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClosePolicy {
    /// Whether the end mark of a series closes the connection.
    pub at_end: bool,
    /// How messages over the limit are handled.
    pub oversize: OversizePolicy,
}

/// How a message over the limit is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OversizePolicy {
    /// Skip it and continue with the next one.
    #[default]
    Skip,
    /// Close the connection.
    Close,
    /// Emit it in pieces.
    Stream,
}

/// An item that closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The end mark of a series.
    End,
    /// A message exceeds the limit, or cannot be skipped.
    TooLong,
    /// The decoder lost the framing.
    Lost,
}

impl Batch {
    /// Returns whether the end of the connection has made the batch: it contains what was cut, which had arrived before.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.marks().any(|(_, item)| {
            matches!(
                item,
                Item::Piece {
                    truncated: true,
                    ..
                } | Item::Reset
                    | Item::Fault(Fault::Truncated { .. })
            )
        })
    }
}
