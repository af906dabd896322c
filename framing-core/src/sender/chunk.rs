//! The next bytes to write. Start with [`Sender::chunk_passthrough`] and [`Sender::chunk_escaped`].

use super::{Call, OWN_MAX, Phase, Sender};
use crate::framing::{Encode, Framing};
use crate::payload::Payload;
use crate::size::size_u32;
use crate::stage::Stage;

/// How many bytes leave together with the header, including it, if the message does not fit into the stage.
const LONG_JOINED: usize = 16;

impl<F: Framing<Encoder = E>, E: Encode> Sender<F> {
    #[inline]
    pub(super) fn chunk_passthrough<'a, const WHOLE: bool, P: Payload + ?Sized>(
        &'a mut self,
        payload: &'a P,
    ) -> &'a [u8] {
        let whole = WHOLE.then(|| self.whole(payload.len()));
        let call = whole.unwrap_or_else(|| self.call());
        if matches!(call.at, Phase::Idle | Phase::Begun | Phase::Ended) {
            // Nothing was begun, or no piece of it.
            return &[];
        }
        // A small message leaves in one write: header, all parts, and trailer.
        let is_small = (E::TRAILER_MAX != 0 || E::HEADER_MAX == 0 && P::PARTS)
            && call.at == Phase::First
            && call.left == 0
            && call.header + call.len <= E::Stage::LEN - E::TRAILER_MAX;
        if (E::HEADER_MAX != 0 && self.done < call.header) || is_small {
            self.join(call, payload, is_small);
            if self.done < self.stage.bytes().len() {
                return self.stage.bytes().get(self.done..).unwrap_or_default();
            }
        }
        let used = self.done - call.header;
        if !payload.rest(used).is_empty() {
            return payload.rest(used);
        }
        if used < call.len {
            // The payload is shorter than the one that was begun.
            return &[];
        }
        if E::TRAILER_MAX != 0 && call.is_last() {
            self.stage.clear();
            let trailer = self.put_trailer();
            let used = used - call.len;
            if used < trailer {
                return self.stage.bytes().get(used..).unwrap_or_default();
            }
        }
        self.complete(call);
        &[]
    }

    /// Stages the header and the first bytes of the payload, so they leave in one write; of a small message, everything.
    #[inline]
    fn join(&mut self, call: Call, payload: &(impl Payload + ?Sized), with_trailer: bool) {
        match E::HEADER_MAX {
            0 => self.stage.clear(),
            // Copied as a word for any length, which takes half the code.
            1..=4 => {
                let mut own = [0; 4];
                self.write_header(call, &mut own);
                self.stage.set(own, call.header);
            }
            _ => {
                let mut own = [0; OWN_MAX];
                self.write_header(call, &mut own);
                self.stage.clear();
                self.stage
                    .extend(own.get(..call.header).unwrap_or_default());
            }
        }
        let mut spare = E::Stage::LEN - E::TRAILER_MAX;
        if spare < call.header + call.len {
            spare = spare.min(LONG_JOINED);
        }
        let _ = payload.try_each(|part| {
            let left = spare.saturating_sub(self.stage.bytes().len());
            self.stage.extend(part.get(..left).unwrap_or(part));
            Ok::<(), ()>(())
        });
        if with_trailer {
            self.put_trailer();
        }
    }

    /// Writes the header of the message, or the end mark.
    #[inline]
    fn write_header(&self, call: Call, out: &mut [u8]) {
        // Cannot fail: the encoder accepted it when it was begun.
        let _ = match call.at {
            Phase::End => self.encoder.end(out),
            _ => self.encoder.header(call.left + size_u32(call.len), out),
        };
    }

    /// Stages the trailer of a message; returns its length.
    #[inline]
    fn put_trailer(&mut self) -> usize {
        let mut own = [0; OWN_MAX];
        let len = self.encoder.trailer(&mut own).unwrap_or_default();
        self.stage.extend(own.get(..len).unwrap_or_default());
        len
    }

    pub(super) fn chunk_escaped<'a>(
        &'a mut self,
        payload: &'a (impl Payload + ?Sized),
    ) -> &'a [u8] {
        while self.stage.staged().is_empty() {
            match self.at {
                Phase::First | Phase::Later => {}
                Phase::Idle | Phase::Begun | Phase::Ended => break,
                Phase::Last | Phase::End => {
                    self.complete(self.call());
                    break;
                }
            }
            let piece = payload.rest(self.done);
            if !piece.is_empty() {
                let (used, staged) = self.encoder.escape(piece, self.stage.spare());
                self.stage.stage(staged);
                self.done += used;
            } else if self.done < self.len {
                // The payload is shorter than the one that was begun.
                break;
            } else if self.left == 0 && self.done - self.len < self.encoder.checksum_len() {
                let done = self.done - self.len;
                let (used, staged) = self.encoder.escape_checksum(done, self.stage.spare());
                self.stage.stage(staged);
                self.done += used;
            } else if self.left == 0 {
                let staged = self.encoder.trailer(self.stage.spare()).unwrap_or_default();
                self.stage.stage(staged);
                self.at = Phase::Last;
            } else {
                self.complete(self.call());
                break;
            }
        }
        self.stage.staged()
    }
}
