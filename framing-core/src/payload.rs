//! The payload of a call that sends: in one piece of memory, or in several.

/// Payload to send: bytes, or parts that leave one after the other as one message.
///
/// ```
/// use framing_core::{Framing, Lines, encode};
///
/// let mut out = [0; 16];
/// let parts: [&[u8]; 2] = [b"level=", b"7"];
/// let len = encode(&mut Lines.encoder(), &parts, &mut out)?;
/// assert_eq!(&out[..len], b"level=7\n");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
pub trait Payload {
    /// Whether it may lie in several parts.
    const PARTS: bool = false;

    /// Its length, in bytes.
    fn len(&self) -> usize;

    /// Whether it is of no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is behind its first `used` bytes, or the front of that: none only where there is none.
    fn rest(&self, used: usize) -> &[u8];

    /// Calls `each` with its parts, until one fails.
    ///
    /// # Errors
    /// Those of `each`.
    fn try_each<X>(&self, each: impl FnMut(&[u8]) -> Result<(), X>) -> Result<(), X>;
}

impl Payload for [u8] {
    #[inline]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn rest(&self, used: usize) -> &[u8] {
        self.get(used..).unwrap_or_default()
    }

    #[inline]
    fn try_each<X>(&self, mut each: impl FnMut(&[u8]) -> Result<(), X>) -> Result<(), X> {
        each(self)
    }
}

impl<const N: usize> Payload for [u8; N] {
    #[inline]
    fn len(&self) -> usize {
        N
    }

    #[inline]
    fn rest(&self, used: usize) -> &[u8] {
        self.as_slice().rest(used)
    }

    #[inline]
    fn try_each<X>(&self, mut each: impl FnMut(&[u8]) -> Result<(), X>) -> Result<(), X> {
        each(self)
    }
}

impl Payload for [&[u8]] {
    const PARTS: bool = true;

    fn len(&self) -> usize {
        self.iter()
            .fold(0, |len: usize, part| len.saturating_add(part.len()))
    }

    fn rest(&self, used: usize) -> &[u8] {
        let mut skip = used;
        for &part in self {
            match part.get(skip..) {
                Some(rest) if !rest.is_empty() => return rest,
                _ => skip = skip.saturating_sub(part.len()),
            }
        }
        &[]
    }

    fn try_each<X>(&self, mut each: impl FnMut(&[u8]) -> Result<(), X>) -> Result<(), X> {
        self.iter().try_for_each(|part| each(part))
    }
}

impl<const N: usize> Payload for [&[u8]; N] {
    const PARTS: bool = true;

    fn len(&self) -> usize {
        Payload::len(self.as_slice())
    }

    fn rest(&self, used: usize) -> &[u8] {
        self.as_slice().rest(used)
    }

    fn try_each<X>(&self, each: impl FnMut(&[u8]) -> Result<(), X>) -> Result<(), X> {
        self.as_slice().try_each(each)
    }
}
