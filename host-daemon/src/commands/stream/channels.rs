//! The channels that the messages of a stream would have in a recording: [`RemoteChannels`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use blocksd_forward::Kind;
use blocksd_forward::message::Head;
use blocksd_forward::place::Instance;

use crate::commands::stream::window::Emitted;
use crate::recorded::from_log::INSTANCE_KEY;
use blocksd_recording::topic::{DEVICE, EVENTS_TOPIC, FIRST_KEY, SESSION_KEY};
use blocksd_recording::{ChannelInfo, MessageOrigin};

/// Bytes of channels that are remembered.
const BYTES_MAX: usize = 32 << 20;
/// What a channel takes besides its texts, in bytes.
const CHANNEL: usize = 1 << 10;

/// Makes a channel for each kind of messages of each device and recording.
#[derive(Debug, Default)]
pub(super) struct RemoteChannels {
    known: HashMap<ChannelKey, Arc<ChannelInfo>>,
    bytes: usize,
    last: Option<(ChannelKey, Arc<ChannelInfo>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ChannelKey {
    instance: Instance,
    /// `None` for events.
    device: Option<Arc<str>>,
    is_piece: bool,
    session: Option<String>,
    framing: String,
    decode: String,
}

impl ChannelKey {
    fn is_of(&self, head: &Head, emitted: &Emitted<'_>) -> bool {
        self.instance == head.instance
            && self.device.as_ref() == emitted.device
            && self.is_piece == (head.kind == Kind::Pieces)
            && self.session == head.session
            && self.framing == head.framing
            && self.decode == head.decode
    }

    /// Bytes of memory that its channel takes.
    fn cost(&self) -> usize {
        let Self {
            device,
            session,
            framing,
            decode,
            ..
        } = self;
        let device = device.as_ref().map_or(0, |it| it.len());
        let session = session.as_ref().map_or(0, String::len);
        // In the key, and in the channel: the device is in its topic, too.
        CHANNEL + 4 * device + 2 * (session + framing.len() + decode.len())
    }
}

impl RemoteChannels {
    /// The channel of a message, and where it came from.
    pub(super) fn of(
        &mut self,
        head: &Head,
        emitted: &Emitted<'_>,
    ) -> (&Arc<ChannelInfo>, Option<MessageOrigin>) {
        let origin = match emitted.device {
            Some(_) => MessageOrigin::new(head.connection, emitted.number),
            None => None,
        };
        let last = match self.last.take() {
            Some(last) if last.0.is_of(head, emitted) => last,
            _ => self.find(head, emitted),
        };
        (&self.last.insert(last).1, origin)
    }

    fn find(&mut self, head: &Head, emitted: &Emitted<'_>) -> (ChannelKey, Arc<ChannelInfo>) {
        let key = ChannelKey {
            instance: head.instance,
            device: emitted.device.cloned(),
            is_piece: head.kind == Kind::Pieces,
            session: head.session.clone(),
            framing: head.framing.clone(),
            decode: head.decode.clone(),
        };
        if let Some(channel) = self.known.get(&key) {
            return (key, Arc::clone(channel));
        }
        let cost = key.cost();
        if BYTES_MAX < self.bytes + cost {
            self.known.clear();
            self.bytes = 0;
        }
        let channel = Arc::new(info(&key, emitted.number));
        self.known.insert(key.clone(), Arc::clone(&channel));
        self.bytes += cost;
        (key, channel)
    }
}

/// The channel as a daemon would have recorded it. The first message of a session in it has the number `first`.
fn info(key: &ChannelKey, first: u64) -> ChannelInfo {
    let instance = (INSTANCE_KEY.to_owned(), key.instance.to_string());
    let Some(device) = &key.device else {
        return ChannelInfo::new(EVENTS_TOPIC.to_owned(), [instance].into());
    };
    let mut metadata = BTreeMap::from([instance, ("device".to_owned(), device.to_string())]);
    let texts = [("framing", &key.framing), ("decode", &key.decode)];
    for (name, text) in texts {
        if !text.is_empty() {
            metadata.insert(name.to_owned(), text.clone());
        }
    }
    if let Some(session) = &key.session {
        metadata.insert(SESSION_KEY.to_owned(), session.clone());
        metadata.insert(FIRST_KEY.to_owned(), first.to_string());
    }
    let kind = if key.is_piece { "pieces" } else { "blocks" };
    ChannelInfo::new(format!("{DEVICE}{device}/{kind}"), metadata)
}
