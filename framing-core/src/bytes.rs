//! Copies, moves and compares bytes without a path to a panic. The methods of slices have one at the levels of
//! optimisation that small firmware is built with.

use core::cell::Cell;

/// Copies bytes until either slice ends.
pub(crate) fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Moves `len` bytes from the position `from` down to `to`; stops at the end of `bytes`.
pub(crate) fn shift_down(bytes: &mut [u8], from: usize, to: usize, len: usize) {
    if cfg!(target_pointer_width = "64") {
        shift_wide(bytes, from, to, len);
    } else {
        // No byte is 256. One function with a stop byte that is known only at run time is shorter than the `memmove` that the
        // compiler would make of a plain loop.
        shift_until(bytes, from, to, len, 256);
    }
}

/// [`shift_down`] for processors that move many bytes at once.
fn shift_wide(bytes: &mut [u8], from: usize, to: usize, len: usize) {
    const STEP: usize = 32;
    let mut done = 0;
    while len - done >= STEP
        && let Some(&chunk) = bytes
            .get(from + done..)
            .and_then(<[u8]>::first_chunk::<STEP>)
        && let Some(slot) = bytes.get_mut(to + done..).and_then(<[u8]>::first_chunk_mut)
    {
        *slot = chunk;
        done += STEP;
    }
    while done < len
        && let Some(&byte) = bytes.get(from + done)
        && let Some(slot) = bytes.get_mut(to + done)
    {
        *slot = byte;
        done += 1;
    }
}

/// Moves up to `most` bytes from the position `from` down to `to`, up to the first that is `stop`, or the end of `bytes`.
/// Returns how many bytes were moved. With `from == to`, it finds `stop`.
#[inline(never)]
pub(crate) fn shift_until(
    bytes: &mut [u8],
    from: usize,
    to: usize,
    most: usize,
    stop: u32,
) -> usize {
    // Cells, because the two ranges overlap.
    let cells = Cell::from_mut(bytes).as_slice_of_cells();
    let from = cells.get(from..).unwrap_or_default();
    let from = from.get(..most).unwrap_or(from);
    let to = cells.get(to..).unwrap_or_default();
    let mut done = 0;
    for (from, to) in from.iter().zip(to) {
        let byte = from.get();
        if u32::from(byte) == stop {
            break;
        }
        to.set(byte);
        done += 1;
    }
    done
}

/// How many bytes come before the first zero.
pub(crate) fn len_until_zero(bytes: &[u8]) -> usize {
    if cfg!(target_pointer_width = "64") {
        memchr::memchr(0, bytes).unwrap_or(bytes.len())
    } else {
        bytes.iter().take_while(|&&byte| byte != 0).count()
    }
}

/// Whether `bytes` begin with `front`. One byte is compared without a function call.
#[inline]
pub(crate) fn starts_with(bytes: &[u8], front: &[u8]) -> bool {
    match front {
        [byte] => bytes.first() == Some(byte),
        _ => bytes.starts_with(front),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_of_every_length_and_distance_move_the_bytes() {
        for len in 0..100 {
            for distance in 1..70 {
                let mut bytes = core::array::from_fn::<u8, 180, _>(|at| at.to_le_bytes()[0]);
                let mut want = bytes;
                want.copy_within(5 + distance..5 + distance + len, 5);
                let before = bytes;
                shift_down(&mut bytes, 5 + distance, 5, len);
                assert_eq!(bytes, want, "{len} bytes by {distance}");
                bytes = before;
                assert_eq!(shift_until(&mut bytes, 5 + distance, 5, len, 256), len);
                assert_eq!(bytes, want, "{len} bytes by {distance}, one by one");
            }
        }
    }

    #[test]
    fn a_shift_ends_at_the_stop_byte_and_at_the_end() {
        let mut bytes = *b"....abc\0d";
        assert_eq!(shift_until(&mut bytes, 4, 1, 5, 0), 3);
        assert_eq!(bytes, *b".abcabc\0d");
        assert_eq!(shift_until(&mut bytes, 4, 4, usize::MAX, 0), 3);
        assert_eq!(shift_until(&mut bytes, 8, 8, usize::MAX, 0), 1);
        assert_eq!(shift_until(&mut bytes, 9, 9, usize::MAX, 0), 0);
        assert_eq!(shift_until(&mut bytes, 10, 10, usize::MAX, 0), 0);
    }
}
