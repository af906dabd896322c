//! Which bytes of a receive buffer are unread. Start with [`Window`].

use core::fmt::Debug;
use core::ops::Range;

use crate::bytes::shift_down;

/// Which bytes of a buffer are unread.
pub trait Window: Clone + Debug + Default {
    /// Whether bytes of the next message may be among them.
    const EXACT: bool;

    /// Where the unread bytes lie in a buffer of `len` bytes.
    fn unread(&self, len: usize) -> Range<usize>;

    /// So many of the unread bytes were dealt with, from the first.
    fn take(&mut self, len: usize);

    /// So many bytes were read behind the unread ones, of a buffer of `capacity` bytes.
    fn filled(&mut self, len: usize, capacity: usize);

    /// Makes the unread bytes the first of the buffer.
    fn compact(&mut self, buffer: &mut [u8]);
}

/// The unread bytes are the first of the buffer, and are dealt with all at once.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ExactWindow {
    end: usize,
}

impl Window for ExactWindow {
    const EXACT: bool = true;

    fn unread(&self, len: usize) -> Range<usize> {
        0..self.end.min(len)
    }

    fn take(&mut self, _len: usize) {
        self.end = 0;
    }

    fn filled(&mut self, len: usize, _capacity: usize) {
        // Over the buffer's length only if that was said by hand: `unread` does not believe it.
        self.end = self.end.wrapping_add(len);
    }

    fn compact(&mut self, _buffer: &mut [u8]) {}
}

/// The unread bytes lie anywhere in the buffer, those of the next message behind those of the present one.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SlidingWindow {
    start: usize,
    end: usize,
}

impl Window for SlidingWindow {
    const EXACT: bool = false;

    fn unread(&self, _len: usize) -> Range<usize> {
        self.start..self.end
    }

    fn take(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
    }

    fn filled(&mut self, len: usize, capacity: usize) {
        self.end = self.end.saturating_add(len).min(capacity);
    }

    fn compact(&mut self, buffer: &mut [u8]) {
        if self.start != 0 {
            let len = self.end - self.start;
            shift_down(buffer, self.start, 0, len);
            (self.start, self.end) = (0, len);
        }
    }
}
