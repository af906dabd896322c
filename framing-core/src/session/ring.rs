//! The ring of a sender: wire bytes of whole messages, one after the other, in memory of the caller.

/// A ring of bytes. Positions count from the oldest byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ring<B> {
    bytes: B,
    /// Index of the oldest byte.
    head: u32,
    len: u32,
}

impl<B> Ring<B> {
    pub(super) const fn new(bytes: B) -> Self {
        Self {
            bytes,
            head: 0,
            len: 0,
        }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Ring<B> {
    /// A ring with content, if the figures are possible.
    pub(super) fn with_content(bytes: B, head: u32, len: u32) -> Option<Self> {
        let ring = Self { bytes, head, len };
        let size = ring.size();
        (len <= size && (head < size || head == 0)).then_some(ring)
    }

    pub(super) fn into_bytes(self) -> B {
        self.bytes
    }

    /// Length of the memory; at most 4 GiB of it are used.
    pub(super) fn size(&self) -> u32 {
        u32::try_from(self.bytes.as_ref().len()).unwrap_or(u32::MAX)
    }

    pub(super) const fn head(&self) -> u32 {
        self.head
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn free(&self) -> u32 {
        self.size().saturating_sub(self.len)
    }

    /// Appends bytes. There must be room.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let at = self.index(self.len);
            if let Some(slot) = self.bytes.as_mut().get_mut(at) {
                *slot = *byte;
            }
            self.len = self.len.wrapping_add(1);
        }
    }

    /// Drops the oldest `len` bytes.
    pub(super) fn pop(&mut self, len: u32) {
        self.head = self.index(len) as u32;
        self.len = self.len.wrapping_sub(len);
    }

    /// Length of the message at a position, with its header. May exceed the ring if its content is damaged.
    pub(super) fn message_len(&self, at: u32) -> u32 {
        let mut len = 0_u32;
        for offset in 0..4 {
            len = len << 8 | u32::from(self.byte(at.wrapping_add(offset)));
        }
        len.saturating_add(4)
    }

    /// The byte at a position; 0 outside of the memory.
    pub(super) fn byte(&self, at: u32) -> u8 {
        self.bytes
            .as_ref()
            .get(self.index(at))
            .copied()
            .unwrap_or_default()
    }

    /// The longest slice from position `from` to `to`.
    pub(super) fn slice(&self, from: u32, to: u32) -> &[u8] {
        let at = self.index(from);
        let len = (to.wrapping_sub(from) as usize).min(self.bytes.as_ref().len().wrapping_sub(at));
        let end = at.wrapping_add(len);
        self.bytes.as_ref().get(at..end).unwrap_or_default()
    }

    fn index(&self, at: u32) -> usize {
        let at = (self.head as usize).wrapping_add(at as usize);
        at.checked_sub(self.bytes.as_ref().len()).unwrap_or(at)
    }
}
