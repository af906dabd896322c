//! The sending side of `cobs` for whole messages: [`CobsEncoder`].

use super::{CODE_FULL, CobsPiecesEncoder, GROUP, is_between_groups};
use crate::bytes::len_until_zero;
use crate::encode::escaped;
use crate::fault::Refusal;
use crate::framing::Encode;
use crate::payload::Payload;
use crate::sealed::Sealed;
use crate::size::size_u32;
use crate::stage::{Joined, Stage};

/// A group with more missing bytes than this is sent from the payload, once [`JOINED_MIN`] bytes leave with its code.
const LONG_MIN: u8 = 48;
const JOINED_MIN: usize = 16;

/// Encoder of [`Cobs`](super::Cobs). It looks ahead in the payload for the end of a group, and copies only the bytes that
/// leave with its code.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CobsEncoder {
    /// Payload bytes of the current group that are neither staged nor sent.
    left: u8,
    next: Next,
}

/// What follows the current group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Next {
    /// A group, as at the beginning of a message.
    Group,
    /// A zero of the payload, or the end of the message.
    Zero,
    /// A group, or the end of the message.
    AfterFull,
}

impl CobsEncoder {
    /// Between messages.
    pub(super) const fn new() -> Self {
        Self {
            left: 0,
            next: Next::Group,
        }
    }

    /// Begins the group whose payload begins after `done` bytes; returns its code.
    fn open_group<P: Payload + ?Sized>(&mut self, payload: &P, done: usize) -> u8 {
        loop {
            let rest = payload.rest(done + usize::from(self.left));
            let most = GROUP - usize::from(self.left);
            let len = len_until_zero(rest.get(..most).unwrap_or(rest));
            self.left += size_u32(len).to_le_bytes()[0];
            if len == 0 || !P::PARTS {
                break;
            }
        }
        let code = self.left + 1;
        self.next = if code == CODE_FULL {
            Next::AfterFull
        } else {
            Next::Zero
        };
        code
    }
}

impl Sealed for CobsEncoder {}

impl Encode for CobsEncoder {
    type Stage = Joined<64>;
    const PASSTHROUGH: bool = false;
    const GROUPS: bool = true;

    fn header(&self, _len: u32, _out: &mut [u8]) -> Result<usize, Refusal> {
        Ok(0)
    }

    fn begin(&mut self) {
        (self.left, self.next) = (0, Next::Group);
    }

    fn group<P: Payload + ?Sized>(
        &mut self,
        payload: &P,
        done: &mut usize,
        stage: &mut Self::Stage,
    ) -> bool {
        while stage.bytes().len() < Self::Stage::LEN {
            let next = payload.rest(*done).first().copied();
            let byte = if self.left != 0 {
                let Some(byte) = next else { break };
                if JOINED_MIN <= stage.bytes().len() && LONG_MIN < self.left {
                    break;
                }
                *done += 1;
                self.left -= 1;
                byte
            } else if self.next == Next::Group {
                self.open_group(payload, *done)
            } else if next.is_none() {
                Stage::push(stage, 0);
                return true;
            } else {
                *done += usize::from(self.next == Next::Zero);
                self.next = Next::Group;
                continue;
            };
            Stage::push(stage, byte);
        }
        false
    }

    fn group_left(&mut self) -> Option<&mut u8> {
        Some(&mut self.left)
    }

    fn encode_groups<P: Payload + ?Sized>(
        &self,
        payload: &P,
        out: &mut [u8],
    ) -> Result<usize, Refusal> {
        escaped(&mut CobsPiecesEncoder::new(), payload, out)
    }

    fn abandon_group(&self, staged: &[u8], sent: usize) -> &'static [u8] {
        let is_between = match staged.get(..sent) {
            // Everything that was staged was sent.
            _ if staged.is_empty() => self.left == 0,
            Some(sent) => is_between_groups(sent),
            None => false,
        };
        // Between two groups, a delimiter would end the message: begin a group of one byte first.
        if is_between { &[2, 0] } else { &[0] }
    }
}
