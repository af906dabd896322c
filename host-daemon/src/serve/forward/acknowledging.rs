//! Acknowledges messages of sessions when a cluster has them: [`Acknowledging`].

use std::collections::HashSet;
use std::sync::Arc;

use blocksd_engine::session::Sessions;
use blocksd_forward::Confirm;

/// Acknowledges messages of sessions when a cluster has them.
pub(super) struct Acknowledging(pub(super) Arc<Sessions>);

impl Confirm for Acknowledging {
    fn stored(&self, device: &str, session: &str, next: u64) {
        if let Some(session) = numbered(session) {
            self.0.confirm(device, session, next);
        }
    }

    fn caught_up(&self, waiting: &HashSet<(&str, &str)>) {
        let sessions = waiting.iter().filter_map(|(device, session)| {
            let session = numbered(session)?;
            Some((*device, session))
        });
        let waiting: HashSet<_> = sessions.collect();
        self.0
            .confirm_recovered(|device, session| waiting.contains(&(device, session)));
    }
}

/// The number of a session, from its text.
fn numbered(session: &str) -> Option<u64> {
    u64::from_str_radix(session, 16).ok()
}
