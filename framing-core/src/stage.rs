//! Memory for the bytes that a sender writes and that are not the caller's. Start with [`Stage`].

/// Memory for the bytes that a sender writes and that are not the caller's.
pub trait Stage {
    /// An empty stage, for constants. At run time it would be copied, which takes more code than [`new`](Self::new).
    const EMPTY: Self;

    /// Length in bytes.
    const LEN: usize;

    /// An empty stage.
    fn new() -> Self;

    /// Empties it.
    fn clear(&mut self);

    /// Replaces its content by the first `len` of four bytes.
    #[inline]
    fn set(&mut self, bytes: [u8; 4], len: usize) {
        self.clear();
        self.extend(bytes.get(..len).unwrap_or_default());
    }

    /// Appends a byte, if it fits.
    fn push(&mut self, byte: u8);

    /// Its content.
    fn bytes(&self) -> &[u8];

    /// Appends bytes, as far as they fit.
    #[inline]
    fn extend(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            self.push(byte);
            rest = after;
        }
    }

    /// All of the memory, for payload that is escaped in it.
    fn spare(&mut self) -> &mut [u8] {
        &mut []
    }

    /// Marks the first `len` bytes of [`spare`](Self::spare) as to be written.
    fn stage(&mut self, len: usize) {
        let _ = len;
    }

    /// The staged bytes that are not written yet.
    fn staged(&self) -> &[u8] {
        &[]
    }

    /// Marks the next `len` staged bytes as written.
    fn sent(&mut self, len: usize) {
        let _ = len;
    }

    /// How many bytes at the front were written.
    fn sent_len(&self) -> usize {
        0
    }
}

/// The stage for payload that is sent unchanged. `heapless::Vec` leaves its memory uninitialised, which saves the code
/// that clears it.
#[cfg(feature = "heapless")]
pub(crate) type Joined<const N: usize> = heapless::Vec<u8, N, u8>;
/// The stage for payload that is sent unchanged.
#[cfg(not(feature = "heapless"))]
pub(crate) type Joined<const N: usize> = Escaped<N>;

#[cfg(feature = "heapless")]
impl<const N: usize> Stage for heapless::Vec<u8, N, u8> {
    const EMPTY: Self = Self::new();

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
        // One by one, not in a loop: the compiler merges them into one store.
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
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Escaped<const N: usize> {
    bytes: [u8; N],
    staged: usize,
    sent: usize,
}

impl<const N: usize> Escaped<N> {
    const fn new() -> Self {
        Self {
            bytes: [0; N],
            staged: 0,
            sent: 0,
        }
    }
}

impl<const N: usize> Stage for Escaped<N> {
    const EMPTY: Self = Self::new();

    const LEN: usize = N;

    fn new() -> Self {
        Self::new()
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
