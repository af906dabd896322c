//! The sizes of a framing that is known only at run time.

use framing_core::*;

use crate::concrete;

/// The `wire_len` of a framing.
#[must_use]
pub fn wire_len(framing: AnyFraming, len: usize) -> usize {
    concrete!(framing, framing => framing.wire_len_of(len))
}

/// The `buffer_len` of a framing.
#[must_use]
pub fn buffer_len(framing: AnyFraming, len: usize) -> usize {
    concrete!(framing, framing => framing.buffer_len_of(len))
}

/// Length of the smallest buffer with which a reader of pieces can work.
#[must_use]
pub fn buffer_min(framing: AnyFraming) -> usize {
    match framing {
        AnyFraming::Delimited(framing) => framing.delimiter().len(),
        framing => buffer_len(framing, 0).max(1),
    }
}

trait Sizes {
    fn wire_len_of(&self, len: usize) -> usize;
    fn buffer_len_of(&self, len: usize) -> usize;
}

macro_rules! sizes {
    ($($name:ident: $framing:ty,)*) => { $(
        impl Sizes for $framing {
            fn wire_len_of(&self, len: usize) -> usize {
                Self::wire_len(len)
            }

            fn buffer_len_of(&self, len: usize) -> usize {
                Self::buffer_len(len)
            }
        }
    )* };
}

framing_core::with_framings!(sizes! {});
