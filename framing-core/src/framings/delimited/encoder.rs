//! The sending side of `lines` and `delimited:HEX`.

use super::Delimited;
use crate::fault::Refusal;
use crate::framing::Encode;
use crate::framings::counted::put_slice;
use crate::sealed::Sealed;
use crate::stage::Joined;

/// Encoder of [`Delimited`] and [`Lines`](super::Lines).
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DelimitedEncoder {
    delimiter: Delimited,
    lines: bool,
    /// How many bytes of the delimiter are at the end of the payload so far.
    matched: usize,
    /// The payload so far ends in `\r`.
    carriage_return: bool,
}

impl DelimitedEncoder {
    pub(super) const fn new(delimiter: Delimited, lines: bool) -> Self {
        Self {
            delimiter,
            lines,
            matched: 0,
            carriage_return: false,
        }
    }
}

impl Sealed for DelimitedEncoder {}

impl Encode for DelimitedEncoder {
    type Stage = Joined<64>;
    const PASSTHROUGH: bool = true;
    const TRAILER_MAX: usize = Delimited::LEN_MAX;

    fn check(&mut self, piece: &[u8], first: bool, last: bool) -> Result<(), Refusal> {
        let delimiter = self.delimiter;
        let delimiter = delimiter.delimiter();
        if first {
            *self = Self::new(self.delimiter, self.lines);
        }
        let mut matched = self.matched;
        let begin = delimiter.first().copied().unwrap_or_default();
        let mut offset = 0;
        // If nothing is matched, skip to a byte that begins a delimiter.
        while let Some(rest) = piece.get(offset..)
            && let Some(next) = match matched {
                0 => memchr::memchr(begin, rest),
                _ => Some(0),
            }
            && let Some(&byte) = rest.get(next)
        {
            offset += next;
            matched = advance(delimiter, matched, byte);
            if matched == delimiter.len() {
                return Err(Refusal::Delimiter { offset });
            }
            offset += 1;
        }
        let carriage_return = piece
            .last()
            .map_or(self.carriage_return, |&byte| byte == b'\r');
        if !last {
            // Stored only for a piece that is not refused.
            (self.matched, self.carriage_return) = (matched, carriage_return);
            return Ok(());
        }
        // The delimiter that will follow must not be found before its own last byte.
        let front = delimiter
            .split_last()
            .map(|(_, front)| front)
            .unwrap_or_default();
        for &byte in front {
            matched = advance(delimiter, matched, byte);
            if matched == delimiter.len() {
                return Err(Refusal::Delimiter {
                    offset: piece.len(),
                });
            }
        }
        if self.lines && carriage_return {
            return Err(Refusal::Delimiter {
                offset: piece.len(),
            });
        }
        Ok(())
    }

    fn header(&self, _len: u32, _out: &mut [u8]) -> Result<usize, Refusal> {
        Ok(0)
    }

    fn trailer(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
        put_slice(self.delimiter.delimiter(), stage)
    }

    /// Writes a delimiter, which ends the message. `None` for a delimiter that begins as it ends (`aa`): after a part of
    /// it, it would be found too early.
    fn abandon(&self, _sent: usize, stage: &mut [u8]) -> Option<usize> {
        let delimiter = self.delimiter.delimiter();
        let overlaps = (1..delimiter.len()).any(|len| {
            delimiter
                .get(..len)
                .is_some_and(|front| delimiter.ends_with(front))
        });
        if overlaps {
            return None;
        }
        put_slice(delimiter, stage).ok()
    }
}

/// How many bytes of the delimiter are matched by `byte` after a payload that ends in `matched` of them.
fn advance(delimiter: &[u8], matched: usize, byte: u8) -> usize {
    // The longest front of the delimiter that is also the end of the matched bytes and `byte`.
    let mut len = matched + 1;
    while len != 0 {
        let begins = delimiter.get(..len - 1).unwrap_or_default();
        let ends = delimiter
            .get(matched + 1 - len..matched)
            .unwrap_or_default();
        if delimiter.get(len - 1) == Some(&byte) && begins == ends {
            break;
        }
        len -= 1;
    }
    len
}
