//! Memory for what a sender writes that is not the caller's.

/// Memory for what a sender writes that is not the caller's.
pub trait Stage {
    /// Its length, in bytes.
    const LEN: usize;

    /// An empty stage.
    fn new() -> Self;

    /// Empties it.
    fn clear(&mut self);

    /// Puts the first `len` of four bytes there, and nothing else.
    #[inline]
    fn set(&mut self, bytes: [u8; 4], len: usize) {
        self.clear();
        self.extend(bytes.get(..len).unwrap_or_default());
    }

    /// Puts a byte behind the others, if it fits.
    fn push(&mut self, byte: u8);

    /// What was put there.
    fn bytes(&self) -> &[u8];

    /// Puts bytes behind the others.
    #[inline]
    fn extend(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            self.push(byte);
            rest = behind;
        }
    }

    /// All of the memory, where payload is escaped in it.
    fn spare(&mut self) -> &mut [u8] {
        &mut []
    }

    /// So many bytes of [`spare`](Self::spare), from the first, are to be written.
    fn stage(&mut self, len: usize) {
        let _ = len;
    }

    /// Those of them that are not.
    fn staged(&self) -> &[u8] {
        &[]
    }

    /// So many more of them are.
    fn sent(&mut self, len: usize) {
        let _ = len;
    }

    /// How many bytes at the front were written.
    fn sent_len(&self) -> usize {
        0
    }
}

/// The stage for payload that is sent as it is. `heapless::Vec` leaves its memory uninitialised, which saves the code
/// that clears it.
#[cfg(feature = "heapless")]
pub(crate) type Joined<const N: usize> = heapless::Vec<u8, N, u8>;
/// The stage for payload that is sent as it is.
#[cfg(not(feature = "heapless"))]
pub(crate) type Joined<const N: usize> = Escaped<N>;

#[cfg(feature = "heapless")]
impl<const N: usize> Stage for heapless::Vec<u8, N, u8> {
    const LEN: usize = N;

    #[inline]
    fn new() -> Self {
        Self::new()
    }

    #[inline]
    fn clear(&mut self) {
        self.clear();
    }

    #[inline]
    fn set(&mut self, bytes: [u8; 4], len: usize) {
        self.clear();
        // One by one, and not in a loop: they become one store.
        let [a, b, c, d] = bytes;
        let _ = self.push(a);
        let _ = self.push(b);
        let _ = self.push(c);
        let _ = self.push(d);
        self.truncate(len);
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        let _ = self.push(byte);
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A stage in which payload is escaped.
#[derive(Debug)]
pub struct Escaped<const N: usize> {
    bytes: [u8; N],
    staged: usize,
    sent: usize,
}

impl<const N: usize> Stage for Escaped<N> {
    const LEN: usize = N;

    fn new() -> Self {
        Self {
            bytes: [0; N],
            staged: 0,
            sent: 0,
        }
    }

    fn clear(&mut self) {
        (self.staged, self.sent) = (0, 0);
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.staged) {
            *slot = byte;
            self.staged += 1;
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.staged).unwrap_or_default()
    }

    fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn stage(&mut self, len: usize) {
        (self.staged, self.sent) = (len, 0);
    }

    fn staged(&self) -> &[u8] {
        self.bytes.get(self.sent..self.staged).unwrap_or_default()
    }

    fn sent(&mut self, len: usize) {
        self.sent = self.sent.saturating_add(len).min(self.staged);
    }

    fn sent_len(&self) -> usize {
        self.sent
    }
}
