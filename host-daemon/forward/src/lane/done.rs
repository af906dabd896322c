//! What of a lane is done: [`Done`].

use std::sync::Arc;

use crate::batch::Channel;
use crate::stored::Stored;

/// Batches that are done, by their order, and the sum of their lengths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// The orders of batches that need no place any more.
    pub orders: Vec<u64>,
    /// Messages that are in the stream by them.
    pub messages: u64,
    /// Bytes that they took.
    pub bytes: usize,
    /// Messages that do not wait any more.
    pub items: usize,
    /// How many of the bytes are not in the stream: they are read again.
    pub left: usize,
    /// Sessions, and numbers that are in the stream: the first one, and the one after the last.
    pub sessions: Vec<(Arc<Channel>, u64, u64)>,
}

impl Done {
    /// These bytes and messages do not wait any more.
    pub(super) const fn remove(&mut self, bytes: usize, items: usize) {
        self.bytes += bytes;
        self.items += items;
    }

    /// Numbers of a session before `to`, whose place says that they were published. Those before `first` have no message. A recording
    /// can have them there although they were not: files that were missing are there again.
    pub(super) fn add_published(
        &mut self,
        stored: &Stored,
        channel: &Arc<Channel>,
        (from, first, to): (u64, u64, u64),
    ) {
        let session = channel.session.as_deref();
        let is_known = session.is_some_and(|session| stored.has_all(session));
        let end = if is_known { first } else { to };
        self.add_runs(stored, channel, to, (from, end));
    }

    /// Numbers of a session from `from` to before `to` are in the stream or have no message, after those that the subject has before
    /// them.
    pub(super) fn add_numbers(
        &mut self,
        stored: &Stored,
        channel: &Arc<Channel>,
        from: u64,
        to: u64,
    ) {
        if from < to {
            self.add_runs(stored, channel, to, (from, to));
        }
    }

    /// The numbers of a session that the subject has before `to`, and those of a run.
    fn add_runs(&mut self, stored: &Stored, channel: &Arc<Channel>, to: u64, run: (u64, u64)) {
        let Some(session) = channel.session.as_deref() else {
            return;
        };
        let run = Some(run).filter(|(from, to)| from < to);
        let mut runs: Vec<_> = stored.before(session, to).chain(run).collect();
        runs.sort_unstable();
        // One that only seems to come after missing numbers would be taken for the end of a hole.
        runs.dedup_by(|(from, to), (_, end)| {
            let continues = from <= end;
            if continues {
                *end = *to.max(end);
            }
            continues
        });
        let numbers = |(from, to)| (Arc::clone(channel), from, to);
        self.sessions.extend(runs.into_iter().map(numbers));
    }
}
