//! Operations on a batch of a session: removal of the item that ended it, and of messages that were received before.

use crate::batch::{Batch, Item};

impl Batch {
    /// Removes the last item, if it is not a complete message.
    pub(crate) fn take_mark(&mut self) -> Option<Item<'_>> {
        let mark = self.marks.pop()?;
        Some(self.mark(&mark))
    }

    /// Removes the first `count` complete messages.
    pub(crate) fn skip_messages(&mut self, count: u64) {
        let count = count.min(self.messages);
        let spans = self.buffer.parts_mut().1;
        let end = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(spans.len());
        let bytes: u64 = spans.drain(..end).map(|span| span.bytes()).sum();
        self.messages -= count;
        self.message_bytes -= bytes;
    }

    /// Returns the last complete message.
    pub(crate) fn last_message(&self) -> Option<&[u8]> {
        self.buffer.spans().last().map(|span| self.bytes(*span))
    }
}
