//! Batches for the tests of the view: [`messages`].

use blocksd_engine::batch::Batch;
use blocksd_engine::pool::Span;

/// A batch of these messages.
pub(super) fn messages(messages: &[&[u8]]) -> Batch {
    let mut end = 0;
    let spans = messages.iter().map(|message| {
        let start = end;
        end += message.len();
        Span::new(start, end)
    });
    Batch::of_messages(messages.concat(), spans.collect())
}
