//! `--unique`: passes each message of a session on once. Start with [`Unique`].

use std::collections::HashMap;
use std::sync::Arc;

use crate::commands::filter::MessageFilter;
use crate::recorded::journal::{NumberSet, NumberTracker, SessionTable, numbering};
use blocksd_recording::{ChannelInfo, Message};

/// Channels that are remembered. Each file has its own.
const CHANNELS_MAX: usize = 1 << 16;

/// Passes messages on, but those of sessions only if no message of the same session and number was passed on before. The
/// memory grows with the holes in the numbers of the sessions.
#[derive(Default)]
pub(super) struct Unique {
    sessions: SessionTable<NumberSet>,
    /// Channels by address, which stays the same while the channel is here.
    channels: HashMap<usize, KnownChannel>,
}

/// A channel, and for that of a session its place in the table.
struct KnownChannel {
    _channel: Arc<ChannelInfo>,
    numbered: Option<(usize, NumberTracker)>,
}

impl MessageFilter for Unique {
    fn passes(&mut self, message: &Message<'_>) -> bool {
        let channel = message.channel;
        let key = Arc::as_ptr(channel).addr();
        if CHANNELS_MAX <= self.channels.len() && !self.channels.contains_key(&key) {
            self.channels.clear();
        }
        let sessions = &mut self.sessions;
        let known = self.channels.entry(key).or_insert_with(|| {
            let numbered = numbering(&channel.record.metadata).map(|(session, first)| {
                let place = sessions.place(&channel.device, session);
                (place, NumberTracker::new(first))
            });
            KnownChannel {
                _channel: Arc::clone(channel),
                numbered,
            }
        });
        let Some((place, numbers)) = &mut known.numbered else {
            return true;
        };
        let number = numbers.of(message.origin, message.sequence);
        let mut is_first = true;
        if let Some(set) = sessions.get_mut(*place) {
            set.insert(number, number.saturating_add(1), |_, _| is_first = false);
        }
        is_first
    }
}
