//! A recorded message as the reading thread passes it on.

use super::{ReadMessage, Recorded};

impl Recorded {
    /// As it is read, in this order.
    pub(super) fn read(&self, order: u64) -> ReadMessage<'_> {
        ReadMessage {
            subject: &self.subject,
            channel: &self.channel,
            connection: self.connection,
            seq: self.seq,
            file: self.file,
            before: self.before,
            order,
            time: self.time,
            data: &self.data,
        }
    }
}
