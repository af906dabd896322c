//! The next bytes to write of payload that is sent in groups. Start with [`Sender::chunk_groups`].

use super::{Phase, Sender};
use crate::framing::{Encode, Framing};
use crate::payload::Payload;
use crate::size::size_u32;
use crate::stage::Stage;

impl<F: Framing<Encoder = E>, E: Encode> Sender<F> {
    pub(super) fn chunk_groups<'a, const WHOLE: bool, P: Payload + ?Sized>(
        &'a mut self,
        payload: &'a P,
    ) -> &'a [u8] {
        let written = usize::from(self.header);
        if written < self.stage.bytes().len() {
            return self.stage.bytes().get(written..).unwrap_or_default();
        }
        self.stage.clear();
        self.header = 0;
        if self.at != Phase::First {
            self.at = Phase::Idle;
            self.torn = false;
            return &[];
        }
        if !WHOLE && payload.len() != self.len {
            // Not the payload that was begun. The end of a shorter one would be taken for the end of a group.
            return &[];
        }
        let rest = payload.rest(self.done);
        // After the payload, the encoder stages the rest of the group: a checksum.
        if !rest.is_empty()
            && let Some(&mut left @ 1..) = self.encoder.group_left()
        {
            return rest.get(..usize::from(left)).unwrap_or(rest);
        }
        if self.encoder.group(payload, &mut self.done, &mut self.stage) {
            self.at = Phase::Last;
        }
        self.stage.bytes()
    }

    pub(super) fn wrote_groups(&mut self, len: usize) {
        self.torn = true;
        // A chunk is in the stage, or part of a group.
        let len_u8 = size_u32(len).to_le_bytes()[0];
        if !self.stage.bytes().is_empty() {
            self.header += len_u8;
        } else if let Some(left) = self.encoder.group_left() {
            *left -= len_u8;
            self.done += len;
        }
    }

    pub(super) fn is_written_in_groups(&self) -> bool {
        self.at == Phase::Last && usize::from(self.header) == self.stage.bytes().len()
    }
}
