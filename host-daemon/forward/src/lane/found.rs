//! What the last message of a subject says: [`LastSeen`].

use super::{Done, Lane};
use crate::cursor::Newest;
use crate::place::Instance;
use crate::stream::Last;

/// What a look has found.
#[derive(Debug, Default)]
pub(crate) struct LastSeen {
    /// The last message of the subject, if there is one. If it says less than the stream had acknowledged, the stream removed the rest
    /// on purpose.
    pub last: Option<Last>,
    /// The last message that was known was removed on purpose: what it says is still true.
    pub was_removed: bool,
}

impl Lane {
    /// Takes the answer to a look.
    pub(crate) fn found(&mut self, shown: LastSeen, instance: Instance) -> Done {
        let LastSeen { last, was_removed } = shown;
        let found = last.as_ref().and_then(|last| last.own(instance));
        self.last = last.as_ref().map(Newest::of);
        self.tail = None;
        if self.place < found {
            (self.place, self.proof) = (found, self.last);
        }
        if !was_removed {
            self.said = self.last;
            self.learn(last, instance);
        }
        self.state = self.next_state();
        self.is_in_doubt = self.must_look;
        self.trim()
    }

    /// Takes what the last message of the subject says of others, and of sessions.
    pub(super) fn learn(&mut self, last: Option<Last>, instance: Instance) {
        let Some(Last { head, .. }) = last else {
            (self.seen, self.stored) = Default::default();
            return;
        };
        (self.seen, self.stored) = (head.seen, head.stored);
        if head.instance != instance {
            self.seen.note(head.instance, head.place);
        }
    }
}
