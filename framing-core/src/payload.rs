//! The payload of a send: one slice, or several that form one message.

use crate::sealed::Sealed;

/// Payload to send: bytes, or parts that are sent one after the other as one message.
///
/// Implemented for `[u8]`, `[u8; N]`, `[&[u8]]` and `[&[u8]; N]`; only this crate implements it.
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
pub trait Payload: Sealed {
    /// Whether it can consist of several parts.
    const PARTS: bool = false;

    /// Length in bytes.
    fn len(&self) -> usize;

    /// Whether its length is 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes after the first `used`: all of them, or those that lie in one part. Empty only if none are left.
    fn rest(&self, used: usize) -> &[u8];

    /// Calls `each` with every part, until a call fails.
    ///
    /// # Errors
    /// The error of that call.
    fn try_each<X>(&self, each: impl FnMut(&[u8]) -> Result<(), X>) -> Result<(), X>;
}

impl Sealed for [u8] {}

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

impl<const N: usize> Sealed for [u8; N] {}

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

impl Sealed for [&[u8]] {}

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

impl<const N: usize> Sealed for [&[u8]; N] {}

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
