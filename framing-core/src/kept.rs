//! What a receiver stores beside its decoder and its buffer: [`SkipMax`], and [`KeepTruncated`] if the bytes of a message that
//! was cut are kept.

use core::fmt::Debug;
use core::ops::Range;

use crate::framing::Limits;

/// The longest message that is skipped: see [`Limits::skip_max`].
pub trait SkipMax: Clone + Debug {
    /// Length in bytes.
    fn skip_max(&self) -> u32;

    /// Stores where in the buffer the bytes of a message lie that was cut. Does not call `cut` if they are not kept.
    #[inline]
    fn keep(&mut self, cut: impl FnOnce() -> Range<usize>) {
        let _ = cut;
    }
}

/// [`Limits::SKIP_MAX`], which takes no memory.
impl SkipMax for () {
    fn skip_max(&self) -> u32 {
        Limits::SKIP_MAX
    }
}

impl SkipMax for u32 {
    fn skip_max(&self) -> u32 {
        *self
    }
}

/// The same, and where in the buffer the bytes of a message lie that was cut.
///
/// ```
/// use framing_core::{Lines, Receiver};
///
/// let receiver = Receiver::new(Lines, [0; 80]).with_skip_max(1024).with_truncated();
/// assert!(receiver.truncated().is_empty());
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct KeepTruncated<S> {
    skip_max: S,
    start: usize,
    end: usize,
}

impl<S> KeepTruncated<S> {
    pub(crate) const fn new(skip_max: S) -> Self {
        Self {
            skip_max,
            start: 0,
            end: 0,
        }
    }

    /// Positions in the buffer.
    pub(crate) const fn kept(&self) -> Range<usize> {
        self.start..self.end
    }
}

impl<S: SkipMax> SkipMax for KeepTruncated<S> {
    fn skip_max(&self) -> u32 {
        self.skip_max.skip_max()
    }

    fn keep(&mut self, cut: impl FnOnce() -> Range<usize>) {
        let cut = cut();
        (self.start, self.end) = (cut.start, cut.end);
    }
}
