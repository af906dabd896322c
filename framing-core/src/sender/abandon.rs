//! Abandons a message that was sent in part. Start with [`Sender::abandon`].

use super::{BEFORE, OWN_MAX, Phase, Sender};
use crate::fault::Refusal;
use crate::framing::{Encode, Framing};
use crate::stage::Stage;

impl<F: Framing<Encoder = E>, E: Encode> Sender<F> {
    /// Abandons the current message, so another one can be begun.
    ///
    /// If no byte of it was sent, the message is dropped. If part of it was sent, [`chunk`](Self::chunk) with an empty
    /// payload returns bytes after which the receiver finds the next message: write them. See
    /// [`Writer::abandon`](crate::blocking::Writer::abandon).
    ///
    /// ```
    /// use framing_core::{Lines, Refusal, Sender};
    ///
    /// let mut sender = Sender::new(Lines);
    /// sender.begin_whole(b"hello")?;
    /// assert_eq!(sender.chunk(b"hello"), b"hello\n");
    /// // The transport fails after two bytes.
    /// sender.advance(2);
    /// sender.abandon()?;
    /// assert_eq!(sender.chunk(b""), b"\n");
    /// sender.advance(1);
    /// sender.begin_whole(b"world")?;
    /// # Ok::<(), Refusal>(())
    /// ```
    ///
    /// # Errors
    /// [`Refusal::Unfinished`] if the framing cannot resynchronise. The sender is then unchanged.
    pub fn abandon(&mut self) -> Result<(), Refusal> {
        if !self.is_mid_block() {
            if self.at != Phase::Ended {
                self.stage.clear();
                (self.at, self.len, self.left) = (Phase::Idle, 0, 0);
            }
            return Ok(());
        }
        if self.at == Phase::Last {
            // Only the end of the message is left to write, or of the bytes that abandon it.
            return Ok(());
        }
        let before_end = usize::from(self.header) + self.len;
        if self.is_passthrough() && before_end <= self.done && self.left == 0 {
            // The same. What follows no longer has the payload, so its bytes count as written before the call.
            if self.at != Phase::End {
                self.done = self.done - before_end + usize::from(BEFORE);
                (self.at, self.header, self.len) = (Phase::Later, BEFORE, 0);
            }
            return Ok(());
        }
        let refusal = self.unfinished();
        if self.is_passthrough() {
            // Send an empty last piece instead of the rest of the message.
            let own = &mut [0; OWN_MAX];
            self.encoder.abandon(0, own).ok_or(refusal)?;
            (self.at, self.header, self.done) = (Phase::Later, BEFORE, usize::from(BEFORE));
        } else if E::GROUPS {
            let sent = usize::from(self.header);
            let end = self.encoder.abandon_group(self.stage.bytes(), sent);
            self.stage.clear();
            self.stage.extend(end);
            (self.at, self.header, self.done) = (Phase::Last, 0, 0);
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
