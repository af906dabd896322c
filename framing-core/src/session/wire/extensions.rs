//! Extensions of a HELLO or CONT: [`Extensions`].

use super::{FrameError, MUST_EXTENSION};

/// Extensions of a HELLO or CONT: types, lengths and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Extensions<'a>(pub(super) &'a [u8]);

impl<'a> Extensions<'a> {
    /// Types and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (&[kind, len], after) = rest.split_first_chunk::<2>()?;
            let (value, after) = after.split_at_checked(usize::from(len))?;
            rest = after;
            Some((kind, value))
        })
    }

    /// Refuses extensions that must be understood (this version knows none), and lengths that exceed the frame.
    pub(super) fn check(&self) -> Result<(), FrameError> {
        let mut used = 0;
        for (kind, value) in self.iter() {
            used += 2 + value.len();
            if MUST_EXTENSION <= kind {
                return Err(FrameError::Extension { kind });
            }
        }
        let left = self.0.len().saturating_sub(used);
        match u32::try_from(left) {
            Ok(0) => Ok(()),
            left => Err(FrameError::Length {
                len: left.unwrap_or(u32::MAX),
            }),
        }
    }
}
