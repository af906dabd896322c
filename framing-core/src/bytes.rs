//! Copies, moves and compares bytes without a path to a panic. The methods of slices have one at the levels of
//! optimisation that small firmware is built with.

/// Copies bytes until either slice ends.
pub(crate) fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Moves `len` bytes from the position `from` down to `to`; stops at the end of `bytes`.
pub(crate) fn shift_down(bytes: &mut [u8], from: usize, to: usize, len: usize) {
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
                shift_down(&mut bytes, 5 + distance, 5, len);
                assert_eq!(bytes, want, "{len} bytes by {distance}");
            }
        }
    }
}
