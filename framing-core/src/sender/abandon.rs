//! Giving up a message of which part is on the wire.

use super::{BEFORE, OWN_MAX, Phase, Sender};
use crate::fault::Refusal;
use crate::framing::{Encode, Framing};
use crate::stage::Stage;

impl<F: Framing<Encoder = E>, E: Encode> Sender<F> {
    /// Gives up a message, so that another one can be begun. If none of its bytes is on the wire, it is forgotten. If
    /// part of it is, [`chunk`](Self::chunk) with an empty payload gives bytes after which the receiver finds the next
    /// message: see [`Writer::abandon`](crate::blocking::Writer::abandon).
    ///
    /// # Errors
    /// [`Refusal::Unfinished`] if the framing cannot resynchronise; nothing is changed then.
    pub fn abandon(&mut self) -> Result<(), Refusal> {
        if !self.is_mid_block() {
            if self.at != Phase::Ended {
                self.stage.clear();
                (self.at, self.len, self.left) = (Phase::Idle, 0, 0);
            }
            return Ok(());
        }
        let is_all_written = usize::from(self.header) + self.len <= self.done && self.left == 0;
        if self.at == Phase::Last || self.is_passthrough() && is_all_written {
            // Only the end of the message is left to write, or of the bytes that abandon it.
            return Ok(());
        }
        let refusal = self.unfinished();
        if self.is_passthrough() {
            // The rest of the message is a last piece of no bytes.
            let own = &mut [0; OWN_MAX];
            self.encoder.abandon(0, own).ok_or(refusal)?;
            (self.at, self.header, self.done) = (Phase::Later, BEFORE, usize::from(BEFORE));
        } else {
            let sent = self.stage.sent_len();
            let staged = self.encoder.abandon(sent, self.stage.spare());
            self.stage.stage(staged.ok_or(refusal)?);
            (self.at, self.done) = (Phase::Last, 0);
        }
        (self.len, self.left) = (0, 0);
        Ok(())
    }
}
