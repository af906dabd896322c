//! Acknowledges messages of sessions when a cluster has them: [`Acknowledging`].

use std::sync::Arc;

use blocksd_engine::session::{self, Sessions};
use blocksd_forward::{Confirm, NumberGap, Unsettled};

use crate::recorded::journal::Entry;

/// Acknowledges messages of sessions when a cluster has them.
pub(super) struct Acknowledging(pub(super) Arc<Sessions>);

impl Confirm for Acknowledging {
    fn stored(&self, device: &str, session: &str, from: u64, next: u64) {
        if let Some(session) = numbered(session) {
            self.0.confirm(device, session, from, next);
        }
    }

    fn unsettled(&self, all: bool) -> Vec<Unsettled> {
        let unsettled = self.0.unsettled(all).into_iter();
        let unsettled = unsettled.map(|it| Unsettled {
            device: it.device,
            session: text_of(it.session),
            to: it.to,
        });
        unsettled.collect()
    }

    fn settled(&self, unsettled: &Unsettled, runs: &[(u64, u64)]) {
        if let Some(session) = numbered(&unsettled.session) {
            let unsettled = session::Unsettled {
                device: Arc::clone(&unsettled.device),
                session,
                to: unsettled.to,
            };
            self.0.settle(&unsettled, runs);
        }
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
            session: text_of(session),
            from,
            to,
        })
    }
}

fn text_of(session: u64) -> String {
    format!("{session:016x}")
}

/// The number of a session, from its text.
fn numbered(session: &str) -> Option<u64> {
    u64::from_str_radix(session, 16).ok()
}
