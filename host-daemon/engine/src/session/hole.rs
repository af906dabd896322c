//! Takes messages from the device again that were recorded, cannot be read any more, and are not confirmed.

use framing_core::session::wire::Hello;

use crate::session::Session;
use crate::session::confirmation::{Confirmation, Hole};

impl Session {
    /// Changes what is confirmed, and wakes the connection. After a hole, the connection must begin again.
    pub(super) fn confirm(&self, change: impl FnOnce(&mut Confirmation)) {
        let mut state = self.state();
        if let Some(confirmation) = &mut state.confirmation {
            let before = confirmation.hole();
            change(confirmation);
            if let Some(hole) = confirmation.hole() {
                if before.is_none() {
                    self.report(hole);
                }
                if let Some(owner) = state.receiver.owner() {
                    state.receiver.closed(owner);
                }
            }
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The number below which messages must be settled, if the device has connected and could send them again. `again` returns one
    /// that was returned before, too.
    pub(super) fn unsettled(&self, is_regular: bool, again: bool) -> Option<u64> {
        let mut state = self.state();
        let durable = state.receiver.durable();
        let confirmation = state.confirmation.as_mut()?;
        if !confirmation.has_begun() {
            return None;
        }
        if again {
            confirmation.ask_again();
        }
        confirmation.unsettled(durable, is_regular)
    }

    /// The confirmation of the messages from a HELLO on, if the device must send messages again that cannot be read here: those of
    /// a hole, and all after it.
    pub(super) fn again(&self, conn: u64, hello: &Hello<'_>) -> Option<Confirmation> {
        let Hello {
            first, held, lost, ..
        } = *hello;
        let state = self.state();
        let mut confirmation = state.confirmation.clone()?;
        let is_reported = confirmation.hole().is_some();
        let mut receiver = state.receiver;
        receiver.hello(conn, first, held, lost).ok()?;
        let acked = first.saturating_sub(lost.into());
        confirmation.begin(acked, first);
        let hole = confirmation.hole();
        let hole = hole.filter(|(from, _)| *from < first.saturating_add(held.into()))?;
        if !is_reported {
            self.report(hole);
        }
        Some(confirmation.again(acked))
    }

    /// Another [`Session`] takes the place of this one, for a connection. Messages of this one that are on their way to the writer
    /// are dropped: the device sends them again.
    pub(super) fn replace(&self, conn: u64) {
        let mut state = self.state();
        if let Some(owner) = state.receiver.owner() {
            state.receiver.closed(owner);
            state.supersede();
        }
        state.newest = conn;
        state.is_replaced = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn report(&self, (from, to): Hole) {
        tracing::error!(
            device = %self.device,
            "session {:016x}: the recorded messages {from} to {} cannot be read, and are not confirmed; the device sends them again",
            self.number,
            to - 1
        );
    }
}
