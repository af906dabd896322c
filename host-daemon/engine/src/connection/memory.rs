//! The memory that a connection reads into, and what it is charged for between reads.

use crate::connection::{Connection, PendingSend, Step};
use crate::permit::{GROWTH_MAX, SPARE};
use crate::pool::{BUFFER_LEN, Buffer};

/// Bytes that are read at once while unfinished messages hold too much: where the end of the message is known and
/// near, and where it is not known.
const BEYOND: (usize, usize) = (256, 4 << 10);

impl Connection {
    /// How many bytes may be read now; `None` if none.
    pub(super) fn allowance(&self) -> Option<usize> {
        if self.undecoded {
            // Nothing is read: what is there is decoded.
            return Some(0);
        }
        self.permit.allowance(match self.want {
            u32::MAX => BEYOND.1,
            want => (want as usize).max(BEYOND.0),
        })
    }

    /// Charges this connection for what it keeps of an unfinished message, and of a whole one that has to wait and is
    /// not charged yet.
    pub(super) fn charge(&self, step: &Step) {
        let waiting = match step {
            Step::Held(held) => match &**held {
                PendingSend::Batch(batch, _) => batch.uncharged(),
                PendingSend::Event(..) => 0,
            },
            _ => 0,
        };
        self.permit.charge(self.remainder.capacity() + waiting);
    }

    /// Memory to read into, or to decode what is there, if there is any now.
    pub(super) fn try_buffer(&mut self) -> Option<Buffer> {
        if let Some(buffer) = self.own_buffer() {
            return Some(buffer);
        }
        let mut buffer = self.context.pool.try_take(&self.quota)?;
        buffer.parts_mut().0.append(&mut self.remainder);
        Some(buffer)
    }

    /// Of a large message: its own memory, which doubles until it is large; by what has come, not by what was declared.
    fn own_buffer(&mut self) -> Option<Buffer> {
        let most = if self.undecoded {
            BUFFER_LEN
        } else {
            BUFFER_LEN / 2
        };
        if self.remainder.len() <= most {
            return None;
        }
        let mut bytes = std::mem::take(&mut self.remainder);
        if !self.undecoded && bytes.capacity() - bytes.len() < SPARE / 2 {
            let longest = self.policy.limits.block_max as usize + SPARE;
            let left = longest.saturating_sub(bytes.len()).max(SPARE);
            bytes.reserve_exact(bytes.len().clamp(BUFFER_LEN, GROWTH_MAX).min(left));
        }
        Some(Buffer::own(bytes))
    }
}
