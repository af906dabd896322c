//! Encoding of whole messages into memory.

use core::mem;

use crate::bytes::copy;
use crate::fault::Refusal;
use crate::framing::Encode;
use crate::payload::Payload;

/// Writes a whole message to the front of `out`; returns its length on the wire, in bytes.
///
/// `wire_len` of each framing is the length of `out` that is always enough.
///
/// ```
/// use framing_core::{Blocks, Framing, encode};
///
/// let mut out = [0; Blocks::wire_len(5)];
/// let len = encode(&mut Blocks.encoder(), b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"\0\0\0\x05hello");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
///
/// # Errors
/// Any [`Refusal`] except [`Refusal::Unfinished`] and [`Refusal::Overrun`]. The content of `out` is then unspecified.
#[inline]
pub fn encode<E: Encode>(
    encoder: &mut E,
    payload: &(impl Payload + ?Sized),
    out: &mut [u8],
) -> Result<usize, Refusal> {
    if encoder.is_passthrough() {
        copied(encoder, payload, out).ok_or_else(|| why_not(encoder, payload, out))
    } else if E::GROUPS {
        encoder.encode_groups(payload, out)
    } else {
        escaped(encoder, payload, out)
    }
}

/// [`encode`] for payload that is sent as it is. `None` for any refusal: telling refusals apart here would make every
/// successful call a fifth slower.
#[inline(always)]
fn copied(
    encoder: &mut impl Encode,
    payload: &(impl Payload + ?Sized),
    out: &mut [u8],
) -> Option<usize> {
    let header = prepare(encoder, payload, out).ok()?;
    let mut rest = out.get_mut(header..)?;
    payload
        .try_each(|part| {
            let (here, after) = mem::take(&mut rest)
                .split_at_mut_checked(part.len())
                .ok_or(())?;
            copy(part, here);
            rest = after;
            Ok::<(), ()>(())
        })
        .ok()?;
    let trailer = encoder.trailer(rest).ok()?;
    Some(header + payload.len() + trailer)
}

/// The refusal for which [`copied`] returned `None`.
#[cold]
fn why_not(
    encoder: &mut impl Encode,
    payload: &(impl Payload + ?Sized),
    out: &mut [u8],
) -> Refusal {
    let len = out.len();
    let no_room = Refusal::NoRoom { len };
    prepare(encoder, payload, out).err().unwrap_or(no_room)
}

/// [`encode`] for payload that is escaped.
pub(crate) fn escaped(
    encoder: &mut impl Encode,
    payload: &(impl Payload + ?Sized),
    out: &mut [u8],
) -> Result<usize, Refusal> {
    let no_room = Refusal::NoRoom { len: out.len() };
    prepare(encoder, payload, out)?;
    encoder.begin();
    payload.try_each(|part| {
        if encoder.escape(part, out) == (part.len(), 0) {
            Ok(())
        } else {
            Err(no_room)
        }
    })?;
    let checksum = encoder.checksum_len();
    if checksum != 0 && encoder.escape_checksum(0, out) != (checksum, 0) {
        return Err(no_room);
    }
    encoder.trailer(out)
}

/// Checks a message and writes its header; returns the length of the header in bytes.
#[inline(always)]
fn prepare(
    encoder: &mut impl Encode,
    payload: &(impl Payload + ?Sized),
    out: &mut [u8],
) -> Result<usize, Refusal> {
    let total = check_whole(encoder, payload)?;
    encoder.header(total, out)
}

/// Checks everything about a message except its length; returns its length in bytes.
#[inline]
pub(crate) fn check_whole<E: Encode>(
    encoder: &mut E,
    payload: &(impl Payload + ?Sized),
) -> Result<u32, Refusal> {
    encoder.check(&[], true, false)?;
    let mut offset = 0;
    payload.try_each(|part| {
        encoder
            .check(part, false, false)
            .map_err(|refusal| shifted(refusal, offset))?;
        offset += part.len();
        Ok(())
    })?;
    encoder
        .check(&[], false, true)
        .map_err(|refusal| shifted(refusal, offset))?;
    u32::try_from(payload.len()).map_err(|_| Refusal::TooLong {
        len: u32::MAX,
        max: u32::MAX,
    })
}

/// A refusal with its offset in the message, not in the part.
fn shifted(refusal: Refusal, by: usize) -> Refusal {
    match refusal {
        Refusal::Delimiter { offset } => Refusal::Delimiter {
            offset: offset + by,
        },
        other => other,
    }
}
