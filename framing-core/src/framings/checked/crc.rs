//! The checksums of messages, updated piece by piece: [`Crc16`] and [`Crc32`].

use core::fmt::Debug;

use crate::sealed::Sealed;

/// A checksum that follows a payload, big-endian.
pub trait Checksum: Sealed + Copy + Debug {
    /// Its length on the wire, in bytes: at most 4.
    const LEN: usize;

    /// The checksum of no bytes.
    const NEW: Self;

    /// Adds bytes.
    fn update(&mut self, bytes: &[u8]);

    /// The checksum of all bytes added.
    fn value(self) -> u32;

    /// The checksum as on the wire: the last [`LEN`](Self::LEN) of these bytes.
    fn wire(self) -> [u8; 4] {
        self.value().to_be_bytes()
    }
}

/// CRC-16/XMODEM. Computed without a table, and kept inverted: a state that is all zeros would be cleared by `memset`, which
/// takes more flash than the framing saves.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Crc16(u16);

impl Sealed for Crc16 {}

impl Checksum for Crc16 {
    const LEN: usize = 2;

    const NEW: Self = Self(!0);

    fn update(&mut self, bytes: &[u8]) {
        let mut crc = !self.0;
        for &byte in bytes {
            // The polynomial 0x1021 has three terms, so eight steps of it are three shifts.
            crc = crc.swap_bytes() ^ u16::from(byte);
            crc ^= (crc & 0xff) >> 4;
            crc ^= crc << 12;
            crc ^= (crc & 0xff) << 5;
        }
        self.0 = !crc;
    }

    fn value(self) -> u32 {
        u32::from(!self.0)
    }
}

/// CRC-32/ISO-HDLC. Computed with a table: of 16 entries, on 64-bit machines of 256.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Crc32(u32);

/// How many bits one look-up in the table of [`Crc32`] takes.
const BITS: u32 = if cfg!(target_pointer_width = "64") {
    8
} else {
    4
};

impl Sealed for Crc32 {}

impl Checksum for Crc32 {
    const LEN: usize = 4;

    const NEW: Self = Self(u32::MAX);

    fn update(&mut self, bytes: &[u8]) {
        self.0 = reflected::<BITS, { 1 << BITS }>(&const { table() }, self.0, bytes);
    }

    fn value(self) -> u32 {
        !self.0
    }
}

/// What `entries` bits add to a checksum with the reflected polynomial `0x04c11db7`.
const fn table<const ENTRIES: usize>() -> [u32; ENTRIES] {
    let mut table = [0; ENTRIES];
    let mut rest: &mut [u32] = &mut table;
    let mut index = 0;
    while let Some((slot, after)) = rest.split_first_mut() {
        let mut value = index;
        let mut bit = 1;
        while bit < ENTRIES {
            value = if value & 1 == 0 {
                value >> 1
            } else {
                value >> 1 ^ 0xedb8_8320
            };
            bit <<= 1;
        }
        *slot = value;
        index += 1;
        rest = after;
    }
    table
}

/// Adds bytes to a checksum, `BITS` at a time.
fn reflected<const BITS: u32, const ENTRIES: usize>(
    table: &[u32; ENTRIES],
    mut crc: u32,
    bytes: &[u8],
) -> u32 {
    for &byte in bytes {
        crc ^= u32::from(byte);
        let mut done = 0;
        while done < 8 {
            let index = crc.to_le_bytes()[0] & u8::MAX >> (8 - BITS);
            let entry = table.get(usize::from(index)).copied();
            crc = crc >> BITS ^ entry.unwrap_or_default();
            done += BITS;
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as the catalogue of CRC algorithms defines it.
    fn slow(width: u32, poly: u32, reflect: bool, init: u32, xor: u32, bytes: &[u8]) -> u32 {
        let top = 1 << (width - 1);
        let mut crc = init;
        for &byte in bytes {
            let byte = if reflect { byte.reverse_bits() } else { byte };
            for bit in (0..8).rev() {
                let feedback = (crc & top != 0) != (byte >> bit & 1 != 0);
                crc = crc << 1 & (top | (top - 1)) ^ if feedback { poly } else { 0 };
            }
        }
        let crc = if reflect {
            crc.reverse_bits() >> (32 - width)
        } else {
            crc
        };
        crc ^ xor
    }

    fn of<C: Checksum>(pieces: [&[u8]; 2]) -> u32 {
        let mut crc = C::NEW;
        for piece in pieces {
            crc.update(piece);
        }
        crc.value()
    }

    fn nibbles(bytes: &[u8]) -> u32 {
        !reflected::<4, 16>(&table(), u32::MAX, bytes)
    }

    #[test]
    fn check_values_are_those_of_the_catalogue() {
        let check = b"123456789";
        for at in 0..=check.len() {
            let (front, rest) = check.split_at(at);
            assert_eq!(of::<Crc16>([front, rest]), 0x31c3);
            assert_eq!(of::<Crc32>([front, rest]), 0xcbf4_3926);
        }
        assert_eq!(nibbles(check), 0xcbf4_3926);
    }

    #[test]
    fn any_bytes_have_the_checksum_of_the_definition() {
        let mut bytes = [0; 300];
        let mut seed = 1_u32;
        for len in 0..bytes.len() {
            let message = bytes.get(..len).unwrap_or_default();
            let wide = slow(32, 0x04c1_1db7, true, u32::MAX, u32::MAX, message);
            assert_eq!(of::<Crc32>([message, &[]]), wide);
            assert_eq!(nibbles(message), wide);
            let narrow = slow(16, 0x1021, false, 0, 0, message);
            assert_eq!(of::<Crc16>([message, &[]]), narrow);
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if let Some(byte) = bytes.get_mut(len) {
                *byte = seed.to_be_bytes()[0];
            }
        }
    }
}
