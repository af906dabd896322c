//! Gathers the messages of a recording into batches: a [`Gatherer`].

use std::collections::HashMap;
use std::sync::Arc;

use blocksd_recording::topic::{Kind as TopicKind, SESSION_KEY};
use blocksd_recording::{ChannelInfo, FileNonce, Message};

use crate::batch::{Batch, Channel, Kind, ReadMessage};
use crate::confirm::{Confirm, Unsettled};
use crate::dispatch::Asked;
use crate::gaps::SessionGaps;
use crate::stored::is_session;
use crate::subject::Subjects;

/// Bytes that are gathered at most before they are handed over.
pub(crate) const GATHERED_MAX: usize = 8 << 20;

/// Gathers messages into batches of a subject each.
pub(crate) struct Gatherer {
    subjects: Subjects,
    events: Arc<str>,
    body_max: usize,
    /// The channels of the current file, by the address of their description, which they keep.
    channels: HashMap<usize, (Arc<ChannelInfo>, Option<Target>)>,
    /// Reads what the recording says about sessions, if their messages are confirmed.
    confirm: Option<Arc<dyn Confirm>>,
    gaps: SessionGaps,
    file: Option<FileNonce>,
    open: HashMap<Arc<str>, Batch>,
    full: Vec<Batch>,
    bytes: usize,
    order: u64,
}

/// Where the messages of a channel go.
#[derive(Clone, Debug)]
struct Target {
    subject: Arc<str>,
    channel: Arc<Channel>,
}

impl Gatherer {
    pub(crate) fn new(subjects: Subjects, events: Arc<str>, body_max: usize) -> Self {
        Self {
            subjects,
            events,
            body_max,
            channels: HashMap::new(),
            confirm: None,
            gaps: SessionGaps::default(),
            file: None,
            open: HashMap::new(),
            full: Vec::new(),
            bytes: 0,
            order: 0,
        }
    }

    /// Has the gaps of sessions confirmed with the messages after them.
    pub(crate) fn confirming(self, confirm: Option<Arc<dyn Confirm>>) -> Self {
        Self { confirm, ..self }
    }

    /// Adds a message: number `before` of its file, from 0.
    pub(crate) fn add(&mut self, file: (u64, FileNonce), before: u64, message: &Message<'_>) {
        if message.channel.kind == TopicKind::Sessions {
            let gap = self.confirm.as_ref().and_then(|it| it.gap(message.data));
            if let Some(gap) = gap {
                self.gaps.note(&gap);
            }
            return;
        }
        if self.file.replace(file.1) != Some(file.1) {
            self.channels.clear();
        }
        let Some(Target { subject, channel }) = self.target(message.channel) else {
            return;
        };
        let origin = message.origin;
        let message = ReadMessage {
            subject: &subject,
            channel: &channel,
            connection: origin.map_or(0, |it| it.connection),
            seq: origin.map_or_else(|| message.sequence.into(), |it| it.seq),
            file,
            before,
            order: self.order,
            time: message.time,
            data: message.data,
        };
        self.order += 1;
        self.bytes += message.data.len();
        if let Some(open) = self.open.get_mut(&subject) {
            if open.push(&message, self.body_max) {
                return;
            }
            self.full.extend(self.open.remove(&subject));
        }
        let since = match &channel.session {
            Some(session) if self.confirm.is_some() => {
                let device = &channel.device;
                self.gaps.before(device, session, message.seq)
            }
            _ => message.seq,
        };
        if self.body_max < crate::batch::HEADER_LEN + message.data.len() {
            let parts = Batch::parts(&message, self.body_max);
            self.order += parts.len() as u64;
            let parts = parts.into_iter().map(|part| part.with_gap(since));
            self.full.extend(parts);
        } else {
            let batch = Batch::new(&message).with_gap(since);
            self.open.insert(Arc::clone(&subject), batch);
        }
    }

    /// Adds to an unsettled session the subject of its device, and the gap after its last message. `is_whole` says that all of the
    /// recording could be read.
    pub(crate) fn asked(&self, unsettled: Unsettled, is_whole: bool) -> Asked {
        let Unsettled {
            device, session, ..
        } = &unsettled;
        Asked {
            subject: self.subjects.device(device),
            gap: self.gaps.last(device, session),
            is_whole,
            unsettled,
        }
    }

    /// Whether so much is gathered that it must be taken.
    pub(crate) const fn is_full(&self) -> bool {
        GATHERED_MAX <= self.bytes
    }

    /// Takes all batches, in the order of their first messages.
    pub(crate) fn take(&mut self) -> Vec<Batch> {
        self.bytes = 0;
        let mut batches = std::mem::take(&mut self.full);
        batches.extend(self.open.drain().map(|(_, batch)| batch));
        batches.sort_by_key(|batch| batch.order);
        batches
    }

    fn target(&mut self, channel: &Arc<ChannelInfo>) -> Option<Target> {
        let key = Arc::as_ptr(channel).addr();
        if let Some((_, target)) = self.channels.get(&key) {
            return target.clone();
        }
        let target = self.new_target(channel);
        self.channels
            .insert(key, (Arc::clone(channel), target.clone()));
        target
    }

    fn new_target(&self, info: &ChannelInfo) -> Option<Target> {
        let kind = match info.kind {
            TopicKind::Blocks => Kind::Messages,
            TopicKind::Pieces => Kind::Pieces,
            TopicKind::Events => Kind::Events,
            // Their senders send those that are not confirmed again. Sessions are the state of the recording.
            TopicKind::Sessions | TopicKind::Unconfirmed | TopicKind::Other => return None,
        };
        let metadata = &info.record.metadata;
        let text = |key: &str| metadata.get(key).cloned().unwrap_or_default();
        let subject = match kind {
            Kind::Events => Arc::clone(&self.events),
            _ => self.subjects.device(&info.device),
        };
        Some(Target {
            subject,
            channel: Arc::new(Channel {
                kind,
                framing: text("framing"),
                decode: text("decode"),
                session: metadata
                    .get(SESSION_KEY)
                    .filter(|it| is_session(it))
                    .cloned(),
                device: Arc::from(&*info.device),
            }),
        })
    }
}

#[cfg(test)]
mod tests;
