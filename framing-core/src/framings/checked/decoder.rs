//! The receiving side of the checked framings.

use core::ops::Range;

use super::crc::Checksum;
use crate::bytes::copy;
use crate::fault::Fault;
use crate::framing::{Decode, Limits, Step, UnitFraming};
use crate::framings::{Cobs, CobsDecoder};
use crate::sealed::Sealed;
use crate::size::size_u32;

/// Decoder of [`CobsCrc16`](super::CobsCrc16) and [`CobsCrc32`](super::CobsCrc32).
///
/// To hand out pieces, it holds the last bytes back, because they may be the checksum: those of a message that is no
/// longer than a checksum in the window, those of a longer one here.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CheckedDecoder<C> {
    cobs: CobsDecoder,
    /// The message is longer than a checksum: it was refused as too long, or pieces of it were handed out.
    long: bool,
    /// Of the payload that was handed out.
    crc: C,
    /// The last bytes so far of a message that is handed out in pieces: the last [`Checksum::LEN`] of these.
    held: [u8; 4],
}

impl<C: Checksum> CheckedDecoder<C> {
    /// At the beginning of a stream. Not a constant, which would be copied by `memcpy`.
    #[inline]
    pub(super) const fn new() -> Self {
        Self {
            cobs: Cobs::DECODER,
            long: false,
            crc: C::NEW,
            held: [0; 4],
        }
    }

    /// The limits of a message with its checksum.
    fn with_checksum(limits: &Limits, block_max: u32) -> Limits {
        Limits {
            block_max: block_max.saturating_add(size_u32(C::LEN)),
            skip_max: limits.skip_max,
        }
    }

    /// A step of [`Cobs`], without the checksum.
    fn checked<const STREAMING: bool>(
        &mut self,
        window: &mut [u8],
        limits: &Limits,
        step: Step,
    ) -> Step {
        match step {
            Step::Payload {
                start,
                end,
                take,
                first,
                last,
            } => {
                let bytes = window.get_mut(start..end).unwrap_or_default();
                let end = if !STREAMING || first && last {
                    whole::<C>(bytes)
                } else {
                    self.piece(bytes, first, last)
                };
                match end {
                    Ok(len) => Step::Payload {
                        start,
                        end: start + len,
                        take,
                        first,
                        last,
                    },
                    Err(fault) => Step::Fault { take, fault },
                }
            }
            Step::Fault {
                take,
                fault: Fault::TooLong { declared, lost, .. },
            } => {
                self.long = true;
                let limit = limits.block_max;
                let fault = Fault::TooLong {
                    declared,
                    limit,
                    lost,
                };
                Step::Fault { take, fault }
            }
            step => step,
        }
    }

    /// Replaces a piece of a message by the bytes to hand out, and returns their number. The first piece is longer than a
    /// checksum.
    fn piece(&mut self, bytes: &mut [u8], first: bool, last: bool) -> Result<usize, Fault> {
        let held = self.held.get_mut(4 - C::LEN..).unwrap_or_default();
        let mut len = bytes.len();
        if first {
            self.crc = C::NEW;
            len = len.saturating_sub(C::LEN);
            copy(bytes.get(len..).unwrap_or_default(), held);
        } else {
            // As many bytes leave as arrive, later by the length of a checksum.
            for byte in &mut *bytes {
                if let Some(slot) = held.first_mut() {
                    core::mem::swap(slot, byte);
                }
                held.rotate_left(1);
            }
        }
        self.crc.update(bytes.get(..len).unwrap_or_default());
        if last {
            verified(self.crc, Some(held))?;
        }
        Ok(len)
    }
}

/// The length of the payload in a message with its checksum.
fn whole<C: Checksum>(bytes: &[u8]) -> Result<usize, Fault> {
    let mut crc = C::NEW;
    let len = bytes.len().wrapping_sub(C::LEN);
    let payload = bytes.get(..len);
    crc.update(payload.unwrap_or_default());
    verified(crc, bytes.get(len..))?;
    Ok(len)
}

/// Compares the checksum of a payload with the one that was received; `None` if the message was too short for one.
fn verified<C: Checksum>(crc: C, received: Option<&[u8]>) -> Result<(), Fault> {
    let want = crc.value();
    let number = |bytes: &[u8]| {
        let mut number = 0;
        for &byte in bytes {
            number = number << 8 | u32::from(byte);
        }
        number
    };
    let found = received.map(number);
    if found == Some(want) {
        Ok(())
    } else {
        Err(Fault::BadChecksum { want, found })
    }
}

impl<C: Checksum> Sealed for CheckedDecoder<C> {}

impl<C: Checksum> Decode for CheckedDecoder<C> {
    type Window = <CobsDecoder as Decode>::Window;

    fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step {
        if !STREAMING || !self.cobs.is_mid_block() {
            self.long = false;
        } else if C::LEN < self.cobs.unfinished(window.len()).len() {
            // Whole messages were requested before, and the message is longer than a checksum.
            self.long = true;
        }
        let with_checksum = |block_max| Self::with_checksum(limits, block_max);
        let step = if STREAMING && !self.long {
            // Asks whether the message is longer than a checksum. Until that is known, its bytes stay in the window.
            match self.cobs.scan::<false>(window, &with_checksum(0)) {
                Step::Fault {
                    take: 0,
                    fault: Fault::TooLong { lost: false, .. },
                } => {
                    self.long = true;
                    self.cobs.scan::<true>(window, limits)
                }
                step => step,
            }
        } else {
            let limits = with_checksum(limits.block_max);
            self.cobs.scan::<STREAMING>(window, &limits)
        };
        self.checked::<STREAMING>(window, limits, step)
    }

    /// The fast way of [`Cobs`], one message at a time: the caller gets a message after its checksum.
    #[inline]
    fn scan_run<const STREAMING: bool>(
        &mut self,
        window: &mut [u8],
        limits: &Limits,
        mut each: impl FnMut(usize, Step) -> bool,
    ) -> (usize, bool) {
        let mut used = 0;
        while !STREAMING && let Some(rest) = window.get_mut(used..) {
            let mut found = None;
            let with_checksum = Self::with_checksum(limits, limits.block_max);
            let (run, _) = self
                .cobs
                .scan_run::<false>(rest, &with_checksum, |at, step| {
                    found = Some((at, step));
                    false
                });
            let at = used;
            used += run;
            let Some((skipped, step)) = found else {
                break;
            };
            let message = rest.get_mut(skipped..).unwrap_or_default();
            let step = self.checked::<false>(message, limits, step);
            if !each(at + skipped, step) {
                return (used, false);
            }
        }
        (used, true)
    }

    fn close(&mut self, unread: usize) -> Option<Fault> {
        let fault = self.cobs.close(unread);
        self.long = false;
        match fault {
            // The last bytes may be the checksum, so they do not count.
            Some(Fault::Truncated { part, have, want }) => {
                let payload = have.saturating_sub(size_u32(C::LEN));
                let want = if want == u32::MAX {
                    want
                } else {
                    want - (have - payload)
                };
                let have = payload;
                Some(Fault::Truncated { part, have, want })
            }
            fault => fault,
        }
    }

    fn unfinished(&self, unread: usize) -> Range<usize> {
        let Range { start, end } = self.cobs.unfinished(unread);
        start..end.saturating_sub(C::LEN).max(start)
    }

    fn is_lost(&self) -> bool {
        self.cobs.is_lost()
    }

    fn is_mid_block(&self) -> bool {
        self.cobs.is_mid_block()
    }

    fn block_max(&self, len: usize) -> u32 {
        self.cobs.block_max(len).saturating_sub(size_u32(C::LEN))
    }
}
