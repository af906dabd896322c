//! The bytes of a file that were not written to the operating system yet: [`Buffer`].

/// A buffer whose spare memory is initialised, so that a message is copied straight into it.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// The bytes, then spare memory.
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The bytes from an offset.
    pub(super) fn tail(&self, from: usize) -> &[u8] {
        self.bytes().get(from..).unwrap_or_default()
    }

    /// The bytes from an offset, mutable.
    pub(super) fn tail_mut(&mut self, from: usize) -> &mut [u8] {
        self.bytes.get_mut(from..self.len).unwrap_or_default()
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        if let Some(to) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            to.copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    /// Appends a header of fixed length and its payload, copied by [`copy`].
    #[inline(always)]
    pub(super) fn put_pair<const N: usize>(&mut self, head: &[u8; N], bytes: &[u8]) {
        let end = self.len + N + bytes.len();
        if self.bytes.len() < end {
            self.grow(end);
        }
        let spare = self.bytes.get_mut(self.len..end);
        if let Some((to, rest)) = spare.and_then(|spare| spare.split_first_chunk_mut()) {
            *to = *head;
            copy(rest, bytes);
        }
        self.len = end;
    }

    /// Keeps only the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Removes the first `len` bytes.
    pub(super) fn remove(&mut self, len: usize) {
        self.bytes.copy_within(len.min(self.len)..self.len, 0);
        self.len -= len.min(self.len);
    }

    /// Frees spare memory beyond a capacity of `max` bytes.
    pub(super) fn shrink_to(&mut self, max: usize) {
        let max = max.max(self.len);
        if max < self.bytes.len() {
            self.bytes.truncate(max);
            self.bytes.shrink_to_fit();
        }
    }

    fn reserve(&mut self, more: usize) {
        let end = self.len + more;
        if self.bytes.len() < end {
            self.grow(end);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, least: usize) {
        let len = least.max(self.bytes.len() + self.bytes.len() / 2);
        self.bytes.resize(len, 0);
    }
}

/// Copies between slices of equal length. Copies up to 256 bytes as two overlapping arrays, because a call of `memcpy` would
/// take longer than the copy itself, with musl ten times as long.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        0..4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        4..8 => copy_ends::<4>(to, from),
        8..16 => copy_ends::<8>(to, from),
        16..=32 => copy_ends::<16>(to, from),
        33..=64 => copy_ends::<32>(to, from),
        65..=128 => copy_ends::<64>(to, from),
        129..=256 => copy_ends::<128>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` bytes.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
        if let Some(to) = to.first_chunk_mut() {
            *to = *first;
        }
        if let Some(to) = to.last_chunk_mut() {
            *to = *last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_completely() {
        let from: Vec<u8> = (0..1000_u32).map(|n| (n * 7 % 251) as u8 + 1).collect();
        let mut buffer = Buffer::default();
        let mut expected = Vec::new();
        for len in (0..300).chain([1000]) {
            let bytes = from.get(..len).expect("1000 bytes");
            buffer.put_pair(b"head", bytes);
            buffer.put(bytes);
            expected.extend_from_slice(b"head");
            expected.extend_from_slice(bytes);
            expected.extend_from_slice(bytes);
        }
        assert_eq!(buffer.bytes(), expected);
        buffer.remove(5);
        assert_eq!(buffer.bytes(), expected.get(5..).expect("more"));
        buffer.truncate(3);
        buffer.shrink_to(0);
        assert_eq!(buffer.bytes(), expected.get(5..8).expect("more"));
        assert_eq!(buffer.bytes.len(), 3);
    }
}
