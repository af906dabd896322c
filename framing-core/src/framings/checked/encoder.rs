//! The sending side of the checked framings.
//!
//! A message is checked before its payload is sent, so [`check`](Encode::check) computes the checksum, piece by piece.

use super::crc::Checksum;
use crate::encode::escaped;
use crate::fault::Refusal;
use crate::framing::{Encode, UnitFraming};
use crate::framings::{Cobs, CobsEncoder, CobsPieces, CobsPiecesEncoder};
use crate::payload::Payload;
use crate::sealed::Sealed;
use crate::size::size_u32;

/// Encoder of [`CobsCrc16`](super::CobsCrc16) and [`CobsCrc32`](super::CobsCrc32).
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CheckedEncoder<C> {
    cobs: CobsEncoder,
    /// Of the payload that was checked.
    crc: C,
}

/// Encoder of [`CobsCrc16Pieces`](super::CobsCrc16Pieces) and [`CobsCrc32Pieces`](super::CobsCrc32Pieces).
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CheckedPiecesEncoder<C> {
    cobs: CobsPiecesEncoder,
    /// Of the payload that was checked.
    crc: C,
}

/// A payload with the checksum after it.
struct WithChecksum<'a, P: ?Sized> {
    payload: &'a P,
    checksum: &'a [u8],
}

impl<C: Checksum> CheckedEncoder<C> {
    /// Between messages.
    pub(super) const NEW: Self = Self {
        cobs: Cobs::ENCODER,
        crc: C::NEW,
    };
}

impl<C: Checksum> CheckedPiecesEncoder<C> {
    /// Between messages.
    pub(super) const NEW: Self = Self {
        cobs: CobsPieces::ENCODER,
        crc: C::NEW,
    };
}

impl<C: Checksum> Sealed for CheckedEncoder<C> {}

impl<C: Checksum> Encode for CheckedEncoder<C> {
    type Stage = <CobsEncoder as Encode>::Stage;
    const PASSTHROUGH: bool = false;
    const GROUPS: bool = true;

    fn check(&mut self, piece: &[u8], first: bool, _last: bool) -> Result<(), Refusal> {
        checked(&mut self.crc, piece, first);
        Ok(())
    }

    fn header(&self, len: u32, _out: &mut [u8]) -> Result<usize, Refusal> {
        header::<C>(len)
    }

    fn begin(&mut self) {
        self.cobs.begin();
    }

    fn group<P: Payload + ?Sized>(
        &mut self,
        payload: &P,
        done: &mut usize,
        stage: &mut Self::Stage,
    ) -> bool {
        let wire = self.crc.wire();
        let checksum = wire.get(wire.len() - C::LEN..).unwrap_or_default();
        self.cobs
            .group(&WithChecksum { payload, checksum }, done, stage)
    }

    fn group_left(&mut self) -> Option<&mut u8> {
        self.cobs.group_left()
    }

    fn encode_groups<P: Payload + ?Sized>(
        &self,
        payload: &P,
        out: &mut [u8],
    ) -> Result<usize, Refusal> {
        let mut encoder = CheckedPiecesEncoder::<C>::NEW;
        escaped(&mut encoder, payload, out)
    }

    fn abandon_group(&self, staged: &[u8], sent: usize) -> &'static [u8] {
        self.cobs.abandon_group(staged, sent)
    }
}

impl<C: Checksum> Sealed for CheckedPiecesEncoder<C> {}

impl<C: Checksum> Encode for CheckedPiecesEncoder<C> {
    type Stage = <CobsPiecesEncoder as Encode>::Stage;
    const PASSTHROUGH: bool = false;

    fn check(&mut self, piece: &[u8], first: bool, _last: bool) -> Result<(), Refusal> {
        checked(&mut self.crc, piece, first);
        Ok(())
    }

    fn header(&self, len: u32, _out: &mut [u8]) -> Result<usize, Refusal> {
        header::<C>(len)
    }

    fn begin(&mut self) {
        self.cobs.begin();
    }

    fn escape(&mut self, piece: &[u8], stage: &mut [u8]) -> (usize, usize) {
        self.cobs.escape(piece, stage)
    }

    fn checksum_len(&self) -> usize {
        C::LEN
    }

    fn escape_checksum(&mut self, done: usize, stage: &mut [u8]) -> (usize, usize) {
        let wire = self.crc.wire();
        let rest = wire.get(wire.len() - C::LEN + done..);
        self.cobs.escape(rest.unwrap_or_default(), stage)
    }

    fn trailer(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
        self.cobs.trailer(stage)
    }

    fn abandon(&self, sent: usize, stage: &mut [u8]) -> Option<usize> {
        self.cobs.abandon(sent, stage)
    }
}

impl<P: ?Sized> Sealed for WithChecksum<'_, P> {}

impl<P: Payload + ?Sized> Payload for WithChecksum<'_, P> {
    const PARTS: bool = true;

    fn len(&self) -> usize {
        self.payload.len() + self.checksum.len()
    }

    fn rest(&self, used: usize) -> &[u8] {
        let rest = self.payload.rest(used);
        if !rest.is_empty() {
            return rest;
        }
        let used = used.saturating_sub(self.payload.len());
        self.checksum.get(used..).unwrap_or_default()
    }

    fn try_each<X>(&self, mut each: impl FnMut(&[u8]) -> Result<(), X>) -> Result<(), X> {
        self.payload.try_each(&mut each)?;
        each(self.checksum)
    }
}

/// Adds a piece to the checksum of its message.
fn checked<C: Checksum>(crc: &mut C, piece: &[u8], first: bool) {
    if first {
        *crc = C::NEW;
    }
    crc.update(piece);
}

/// The empty header of a message of `len` bytes, whose checksum must not make it longer than 2³²−1.
fn header<C: Checksum>(len: u32) -> Result<usize, Refusal> {
    let max = u32::MAX - size_u32(C::LEN);
    if max < len {
        return Err(Refusal::TooLong { len, max });
    }
    Ok(0)
}
