//! Turns messages into events: [`EventReader`], which tells recordings apart.

use std::collections::HashMap;
use std::sync::Arc;

use crate::payload::Decoding;
use crate::recorded::from_log::connections::CONNECTIONS_MAX;
use crate::recorded::from_log::{EventVisitor, RecordingReader};
use blocksd_recording::{ChannelInfo, Message};

/// Key in the metadata of a channel of a stream: the recording that its messages come from. Each recording has connections
/// of its own.
pub(crate) const INSTANCE_KEY: &str = "instance";
/// Recordings that are known at most.
const RECORDINGS_MAX: usize = 1024;

/// Turns the records of recordings into events, in their order.
#[derive(Debug, Default)]
pub struct EventReader {
    decode: Option<Decoding>,
    numbers_pieces: bool,
    /// The recording of the last message.
    current: RecordingReader,
    /// The name of that recording, and the channel that names it.
    of: Option<(Arc<str>, Arc<ChannelInfo>)>,
    others: HashMap<Arc<str>, RecordingReader>,
    /// Connections and devices of the others.
    others_len: usize,
}

impl EventReader {
    /// Decodes payloads as `decode`; if that is `None`, as they were received.
    #[must_use]
    pub fn new(decode: Option<Decoding>) -> Self {
        Self {
            current: RecordingReader::new(decode.clone()),
            decode,
            ..Self::default()
        }
    }

    /// Takes the connection of a piece without an origin from its event, even if other messages of the device are
    /// ambiguous. So pieces of two connections are not mixed.
    #[must_use]
    pub fn numbering_pieces(self) -> Self {
        Self {
            numbers_pieces: true,
            current: self.current.numbering_pieces(),
            ..self
        }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// Any error of the visitor.
    pub fn message<A: EventVisitor + ?Sized>(
        &mut self,
        message: &Message<'_>,
        visitor: &mut A,
    ) -> Result<(), A::Error> {
        let is_known = match &self.of {
            Some((_, channel)) => Arc::ptr_eq(channel, message.channel),
            None => false,
        };
        if !is_known {
            self.turn_to(message.channel, visitor)?;
        }
        self.current.message(message, visitor)
    }

    /// Returns the first device whose frames need a file of formats that is not given, once.
    pub fn lacks_formats(&mut self) -> Option<Arc<str>> {
        self.current.lacks_formats()
    }

    /// Emits the events that wait for a next message. Call it at the end, and where messages may be missing: the next
    /// message then does not belong to the one before.
    ///
    /// # Errors
    /// Any error of the visitor.
    pub fn finish<A: EventVisitor + ?Sized>(&mut self, visitor: &mut A) -> Result<(), A::Error> {
        self.current.finish(visitor)
    }

    /// Goes on with the recording of a channel. The events of the other one come first.
    fn turn_to<A: EventVisitor + ?Sized>(
        &mut self,
        channel: &Arc<ChannelInfo>,
        visitor: &mut A,
    ) -> Result<(), A::Error> {
        let Some(name) = channel.record.metadata.get(INSTANCE_KEY) else {
            return Ok(());
        };
        let is_other = self.of.as_ref().is_some_and(|(of, _)| **of != **name);
        let name: Arc<str> = match &self.of {
            Some((of, _)) if !is_other => Arc::clone(of),
            _ => (&**name).into(),
        };
        if is_other {
            self.current.finish(visitor)?;
            let next = self.others.remove(&name);
            self.others_len -= next.as_ref().map_or(0, |it| it.connections.len());
            let next = next.unwrap_or_else(|| self.another());
            let before = std::mem::replace(&mut self.current, next);
            if RECORDINGS_MAX <= self.others.len()
                || CONNECTIONS_MAX < self.others_len + before.connections.len()
            {
                self.others.clear();
                self.others_len = 0;
            }
            if let Some((of, _)) = self.of.take() {
                self.others_len += before.connections.len();
                self.others.insert(of, before);
            }
        }
        self.of = Some((name, Arc::clone(channel)));
        Ok(())
    }

    fn another(&self) -> RecordingReader {
        let reader = RecordingReader::new(self.decode.clone());
        match self.numbers_pieces {
            true => reader.numbering_pieces(),
            false => reader,
        }
    }
}
