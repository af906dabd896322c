//! Acknowledges messages of sessions when a cluster has them: [`Acknowledging`].

use std::collections::HashMap;
use std::sync::Arc;

use blocksd_engine::session::Sessions;
use blocksd_forward::{Confirm, NumberGap};

use crate::recorded::journal::Entry;

/// Acknowledges messages of sessions when a cluster has them.
pub(super) struct Acknowledging(pub(super) Arc<Sessions>);

impl Confirm for Acknowledging {
    fn stored(&self, device: &str, session: &str, from: u64, next: u64) {
        if let Some(session) = numbered(session) {
            self.0.confirm(device, session, from, next);
        }
    }

    fn begins(&self, device: &str, session: &str) {
        if let Some(session) = numbered(session) {
            self.0.confirm_begin(device, session);
        }
    }

    fn caught_up(&self, waiting: &HashMap<(&str, &str), u64>, is_damaged: bool) {
        let sessions = waiting.iter().filter_map(|((device, session), end)| {
            let session = numbered(session)?;
            Some(((*device, session), *end))
        });
        let waiting: HashMap<_, _> = sessions.collect();
        let end = |device: &str, session| waiting.get(&(device, session)).copied();
        self.0.confirm_recovered(end, is_damaged);
    }

    fn gap(&self, entry: &[u8]) -> Option<NumberGap> {
        let Entry::Gap {
            device,
            session,
            from,
            to,
            ..
        } = Entry::parse(entry)?
        else {
            return None;
        };
        Some(NumberGap {
            device: device.into_owned(),
            session: format!("{session:016x}"),
            from,
            to,
        })
    }
}

/// The number of a session, from its text.
fn numbered(session: &str) -> Option<u64> {
    u64::from_str_radix(session, 16).ok()
}
