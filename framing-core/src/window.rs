//! The range of unread bytes in a receive buffer: [`Window`].

use core::fmt::Debug;
use core::ops::Range;

use crate::bytes::shift_down;

/// The range of unread bytes in a buffer.
pub trait Window: Clone + Debug {
    /// No byte is unread.
    const EMPTY: Self;

    /// Whether the unread bytes never include bytes of the next message.
    const EXACT: bool;

    /// Where the unread bytes lie in a buffer of `len` bytes.
    fn unread(&self, len: usize) -> Range<usize>;

    /// Drops the first `len` unread bytes.
    fn take(&mut self, len: usize);

    /// Adds `len` bytes that were read after the unread ones, in a buffer of `capacity` bytes.
    fn filled(&mut self, len: usize, capacity: usize);

    /// Moves the unread bytes to the front of the buffer.
    fn compact(&mut self, buffer: &mut [u8]);
}

/// The unread bytes are at the front of the buffer, and are dropped all at once.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ExactWindow {
    end: usize,
}

impl Window for ExactWindow {
    const EMPTY: Self = Self { end: 0 };

    const EXACT: bool = true;

    fn unread(&self, len: usize) -> Range<usize> {
        0..self.end.min(len)
    }

    fn take(&mut self, _len: usize) {
        self.end = 0;
    }

    fn filled(&mut self, len: usize, _capacity: usize) {
        // Exceeds the buffer only if a caller of `Receiver::filled` claims too much; `unread` limits it.
        self.end = self.end.wrapping_add(len);
    }

    fn compact(&mut self, _buffer: &mut [u8]) {}
}

/// The unread bytes lie anywhere in the buffer; those of the next message follow those of the current one.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SlidingWindow {
    start: usize,
    end: usize,
}

impl Window for SlidingWindow {
    const EMPTY: Self = Self { start: 0, end: 0 };

    const EXACT: bool = false;

    fn unread(&self, _len: usize) -> Range<usize> {
        self.start..self.end
    }

    fn take(&mut self, len: usize) {
        // A decoder never takes more than the window has.
        self.start = self.start.wrapping_add(len);
    }

    fn filled(&mut self, len: usize, capacity: usize) {
        // `end` never exceeds the capacity; a caller of `Receiver::filled` may claim too much.
        self.end += len.min(capacity.wrapping_sub(self.end));
    }

    fn compact(&mut self, buffer: &mut [u8]) {
        if self.start != 0 {
            let len = self.end.wrapping_sub(self.start);
            shift_down(buffer, self.start, 0, len);
            (self.start, self.end) = (0, len);
        }
    }
}
