//! The memory that a connection reads into, and is charged for between reads: see [`Connection::try_buffer`].

use crate::connection::{Connection, PendingSend, Step};
use crate::permit::{GROWTH_MAX, SPARE};
use crate::pool::{BUFFER_LEN, Buffer};

/// Bytes per read while unfinished messages hold too much memory: at least, if the end of the message is known, and
/// otherwise.
const BEYOND: (usize, usize) = (256, 4 << 10);

impl Connection {
    /// Returns how many bytes may be read now, or `None` if the connection must wait.
    pub(super) fn allowance(&self) -> Option<usize> {
        if self.undecoded {
            // The remainder is decoded without a read.
            return Some(0);
        }
        self.permit.allowance(match self.want {
            u32::MAX => BEYOND.1,
            want => (want as usize).max(BEYOND.0),
        })
    }

    /// Charges the connection for its incomplete message, and for complete messages that wait and are not charged to
    /// the pool yet.
    pub(super) fn charge(&self, step: &Step) {
        let waiting = match step {
            Step::Held(held) => match &**held {
                PendingSend::Batch(batch, _) | PendingSend::Unstored(batch, _) => batch.uncharged(),
                PendingSend::Event(..) | PendingSend::Numbered(..) => 0,
            },
            _ => 0,
        };
        let held = self.transport.held_bytes();
        self.permit
            .charge(self.remainder.capacity() + waiting + held);
    }

    /// Returns a buffer to read into, or to decode the remainder in. `None` if the pool has none now.
    pub(super) fn try_buffer(&mut self) -> Option<Buffer> {
        if let Some(buffer) = self.own_buffer() {
            return Some(buffer);
        }
        let mut buffer = self.context.pool.try_take(&self.quota)?;
        buffer.parts_mut().0.append(&mut self.remainder);
        Some(buffer)
    }

    /// Returns the own buffer of a large message, or of one that grows by small reads. It grows by doubling, with the bytes received rather than the length
    /// declared.
    fn own_buffer(&mut self) -> Option<Buffer> {
        let most = if self.undecoded {
            BUFFER_LEN
        } else {
            BUFFER_LEN / 2
        };
        if self.trickles && !self.undecoded && self.remainder.len() <= most {
            // Copying the message into a buffer of the pool and back, for each small read, would cost more than the read.
            let mut bytes = std::mem::take(&mut self.remainder);
            if bytes.capacity() - bytes.len() < bytes.len() / 8 {
                bytes.reserve_exact(bytes.len());
            }
            return Some(Buffer::own(bytes));
        }
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
