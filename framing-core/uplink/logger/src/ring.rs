//! A ring buffer of frames: [`Ring`]. A frame is written in parts, and is stored whole or dropped.

/// Length of the longest frame, in bytes.
pub const FRAME_MAX: usize = 128;

/// Length of the header before each frame, which holds the frame's length.
const HEADER_LEN: usize = 2;

/// Frames in a buffer of `N` bytes. Counts the frames that do not fit.
#[derive(Clone, Debug)]
pub struct Ring<const N: usize> {
    bytes: [u8; N],
    /// Offset of the oldest frame.
    start: usize,
    /// Total length of all complete frames.
    len: usize,
    /// Length of the frame that is being written.
    open: usize,
    /// Whether the frame that is being written does not fit.
    refused: bool,
    lost: u32,
}

impl<const N: usize> Ring<N> {
    /// An empty ring: all zeros, so that it takes no flash.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            start: 0,
            len: 0,
            open: 0,
            refused: false,
            lost: 0,
        }
    }

    /// Begins a frame. Drops the previous one if it was not ended.
    pub const fn begin(&mut self) {
        self.open = 0;
        self.refused = false;
    }

    /// Appends bytes to the frame.
    pub fn write(&mut self, bytes: &[u8]) {
        let frame_len = self.open.saturating_add(bytes.len());
        self.refused |= frame_len > FRAME_MAX || self.len + HEADER_LEN + frame_len > N;
        if !self.refused {
            self.put(self.len + HEADER_LEN + self.open, bytes);
            self.open = frame_len;
        }
    }

    /// Completes the frame. An empty frame is ignored.
    pub fn end(&mut self) {
        if self.refused {
            self.lost = self.lost.saturating_add(1);
        } else if self.open != 0 {
            // At most FRAME_MAX, so it fits.
            self.put(self.len, &(self.open as u16).to_le_bytes());
            self.len += HEADER_LEN + self.open;
        }
        self.begin();
    }

    /// Takes the oldest frame; returns its length. Of a frame that is longer than the buffer, nothing is left.
    pub fn take(&mut self, frame: &mut [u8]) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut header = [0; HEADER_LEN];
        self.get(0, &mut header);
        let frame_len = usize::from(u16::from_le_bytes(header)).min(FRAME_MAX);
        if let Some(frame) = frame.get_mut(..frame_len) {
            self.get(HEADER_LEN, frame);
        }
        let taken = HEADER_LEN + frame_len;
        self.start = (self.start + taken) % N;
        self.len -= taken;
        (frame_len <= frame.len()).then_some(frame_len)
    }

    /// Whether the ring has no complete frame.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of frames that were dropped because they did not fit.
    #[must_use]
    pub const fn lost(&self) -> u32 {
        self.lost
    }

    /// Copies bytes in, at this offset from the start.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let at = (self.start + at) % N;
        let (front, back) = bytes.split_at(bytes.len().min(N - at));
        self.bytes[at..at + front.len()].copy_from_slice(front);
        self.bytes[..back.len()].copy_from_slice(back);
    }

    /// Copies bytes out, from this offset from the start.
    fn get(&self, at: usize, bytes: &mut [u8]) {
        let at = (self.start + at) % N;
        let (front, back) = bytes.split_at_mut(bytes.len().min(N - at));
        front.copy_from_slice(&self.bytes[at..at + front.len()]);
        back.copy_from_slice(&self.bytes[..back.len()]);
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::VecDeque;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn frames_come_out_whole_and_in_order_or_are_counted() {
        let mut ring = Ring::<61>::new();
        let mut kept = VecDeque::new();
        let (mut room, mut lost) = (61, 0);
        for round in 0..10_000_u32 {
            let len = (round * 7 % 23) as usize;
            let frame: Vec<u8> = (0..len).map(|at| (round as usize + at) as u8).collect();
            ring.begin();
            for part in frame.chunks(1 + (round % 5) as usize) {
                ring.write(part);
            }
            ring.end();
            if len != 0 && len + 2 <= room {
                room -= len + 2;
                kept.push_back(frame);
            } else if len != 0 {
                lost += 1;
            }
            assert_eq!(ring.lost(), lost);
            if round % 3 != 0 {
                let mut out = [0; FRAME_MAX];
                let taken = ring.take(&mut out).map(|len| out[..len].to_vec());
                assert_eq!(taken, kept.pop_front());
                room += taken.map_or(0, |frame| frame.len() + 2);
            }
            assert_eq!(ring.is_empty(), kept.is_empty());
        }
        assert!(lost > 100 && lost < 9_000, "{lost}");
    }

    #[test]
    fn only_a_frame_that_is_too_long_is_dropped() {
        let mut ring = Ring::<1024>::new();
        for len in [FRAME_MAX, FRAME_MAX + 1, 1] {
            ring.begin();
            ring.write(&[7; FRAME_MAX + 1][..len]);
            ring.end();
        }
        // A frame that was never ended is dropped.
        ring.begin();
        ring.write(&[8]);
        ring.begin();
        ring.end();
        let mut out = [0; FRAME_MAX];
        assert_eq!(ring.take(&mut out), Some(FRAME_MAX));
        assert_eq!(ring.take(&mut out), Some(1));
        assert_eq!(ring.take(&mut out), None);
        assert_eq!(ring.lost(), 1);
    }
}
