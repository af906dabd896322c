//! Confirms messages of sessions, and finds out which of them are not: an [`Unsettled`] session has some.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Sessions;
use crate::moment::Moment;

/// How often all sessions are looked at for messages that are not confirmed.
const LOOK: Duration = Duration::from_secs(1);

/// A session with messages that are durable and not [confirmed](Sessions::confirm).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// The device.
    pub device: Arc<str>,
    /// Number of the session.
    pub session: u64,
    /// The messages below this number are durable.
    pub to: u64,
}

impl Sessions {
    /// Of a session, confirms the messages with numbers from `from` to before `next`. Confirm messages in the order in which they
    /// were recorded, together with the gap right before them: if numbers are missing between them, the device sends those again.
    pub fn confirm(&self, device: &str, session: u64, from: u64, next: u64) {
        let found = self.all().find(device, session);
        if let Some(session) = found {
            session.confirm(|it| it.confirm(from, next));
        }
    }

    /// Returns the connected sessions with durable messages of which none was [confirmed](Self::confirm) for a second, and those of the
    /// recording of which none was since their HELLO. Each is returned once, and again if more messages become durable; `all` returns
    /// those again that are not [settled](Self::settle).
    pub fn unsettled(&self, all: bool) -> Vec<Unsettled> {
        let now = Moment::now();
        let mut guard = self.all();
        let is_regular = guard.looked.is_none_or(|it| it.is_past(LOOK, now));
        if is_regular {
            guard.looked = Some(now);
        }
        if !all && !is_regular && !self.has_unsettled.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        let sessions: Vec<_> = guard.table.iter().cloned().collect();
        drop(guard);
        let unsettled = sessions.iter().filter_map(|session| {
            Some(Unsettled {
                to: session.unsettled(is_regular, all)?,
                device: Arc::clone(session.device()),
                session: session.number(),
            })
        });
        unsettled.collect()
    }

    /// Everything that can be read of an [unsettled](Self::unsettled) session below its number was confirmed, and so are the numbers of
    /// these runs, each the first one and the one after the last. The device sends the rest again.
    pub fn settle(&self, unsettled: &Unsettled, runs: &[(u64, u64)]) {
        let found = self.all().find(&unsettled.device, unsettled.session);
        if let Some(session) = found {
            session.confirm(|it| it.settle(unsettled.to, runs));
        }
    }
}
