//! Reads a stream that recordings are forwarded to. Start with [`Nats::reader`](crate::Nats::reader).
//!
//! Reading changes nothing: it uses a consumer of the server's memory that acknowledges nothing, and is removed at the end. Only
//! the leader of the stream knows whether all is read, since the server of the consumer may lag.

mod arrivals;
mod contents;
mod lag;
mod leader;
mod pull;
mod puller;

use std::collections::VecDeque;

use bytes::Bytes;

pub use self::contents::SequenceRange;
use self::puller::{Pulled, PulledMessage, Puller, Removed};
use crate::assembler::{Assembled, Assembler};
use crate::batch::{HEADER_LEN, Kind};
use crate::cursor::Newest;
pub use crate::fetched::{Fetched, ReadError, Topic, Unreadable, UnreadableCause};
use crate::message::{Head, Malformed, Messages, name};
use crate::nats::Nats;
use crate::subject::Subjects;

/// Bytes of unfinished long messages that are held at most.
const PARTS_MAX: usize = 1 << 30;
/// Longest headers of a message, in bytes. Those of forwarded messages have up to about 8 KiB.
const HEADERS_MAX: usize = 32 << 10;

/// What a server adds to a message whose body it leaves out: the length of the body. It is the last one of this name: others
/// are of the publisher.
const SIZE: &str = "Nats-Msg-Size";

/// Which messages of a stream are read.
#[derive(Clone, Debug)]
pub struct ReadSelection {
    /// The subjects of a site.
    pub subjects: Subjects,
    /// The devices; empty for all.
    pub devices: Vec<String>,
    /// Whether events are read, too.
    pub has_events: bool,
    /// Where to begin.
    pub begin: Begin,
    /// The last sequence number that is read; `None` to wait for more.
    pub end: Option<u64>,
    /// Leaves the bodies out. Their parts are not put together.
    pub only_heads: bool,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the first message that the stream has.
    First,
    /// With this sequence number.
    Sequence(u64),
    /// With the first message that was stored at this time or later, in nanoseconds since 1970.
    Stored(u64),
    /// With the last message of each subject, and no others before the later ones. A server before 2.11 that does not answer is asked
    /// for all messages instead.
    LastOfEach,
}

/// The next thing that is read.
#[derive(Debug)]
pub enum Read {
    /// A message of the stream. [`Fetched::messages`] returns those in it.
    Message(Box<Fetched>),
    /// A message of the stream that cannot be read, and is passed over.
    Unreadable(Unreadable),
    /// There is none now. [`StreamReader::next`] waits for more.
    Waiting,
}

/// Reads a stream in its order. Long messages come where their last part is.
#[derive(Debug)]
pub struct StreamReader {
    selection: ReadSelection,
    puller: Puller,
    assembler: Assembler,
    ready: VecDeque<Read>,
    has_ended: bool,
    unfinished: Vec<Unreadable>,
}

impl Nats {
    /// Begins to read the stream.
    #[must_use]
    pub fn reader(&self, selection: ReadSelection) -> StreamReader {
        let begins_within = selection.begin != Begin::First;
        StreamReader {
            puller: Puller::new(self.clone(), &selection),
            selection,
            assembler: Assembler::new(PARTS_MAX, begins_within),
            ready: VecDeque::new(),
            has_ended: false,
            unfinished: Vec::new(),
        }
    }
}

impl StreamReader {
    /// The next message; `None` at the end.
    ///
    /// # Cancellation
    /// A message may be lost if the future is dropped.
    ///
    /// # Errors
    /// [`ReadError`], after which the reader has ended. A reader without an end waits for the cluster instead, except after
    /// [`ReadError::Lost`].
    pub async fn next(&mut self) -> Result<Option<Read>, ReadError> {
        loop {
            if let Some(read) = self.ready.pop_front() {
                return Ok(Some(read));
            }
            if self.has_ended {
                return Ok(None);
            }
            let pulled = match self.puller.next().await {
                Ok(pulled) => pulled,
                Err(error) => {
                    self.close().await;
                    return Err(error);
                }
            };
            if self.puller.take_gone_back() {
                self.assembler.note_gone_back();
            }
            match pulled {
                Pulled::Message(message) => self.take(&message),
                Pulled::Broken(sequence) => self.ready.push_back(Read::Unreadable(Unreadable {
                    sequence,
                    subject: self.selection.subjects.all(),
                    cause: UnreadableCause::Breaks {
                        stream: self.puller.stream().to_owned(),
                        sequence,
                    },
                })),
                Pulled::Removed(Removed { first, last, count }) => {
                    self.ready.push_back(Read::Unreadable(Unreadable {
                        sequence: first,
                        subject: self.selection.subjects.all(),
                        cause: UnreadableCause::Removed { last, count },
                    }));
                }
                Pulled::Waiting => return Ok(Some(Read::Waiting)),
                Pulled::End => {
                    self.has_ended = true;
                    self.unfinished = self.assembler.finish();
                    self.puller.close().await;
                }
            }
        }
    }

    /// Ends before the end. A reader that is dropped leaves its consumer to the server for a minute.
    pub async fn close(&mut self) {
        self.has_ended = true;
        self.puller.close().await;
    }

    /// Whether everything was read that the stream had at some time since the beginning.
    #[must_use]
    pub const fn has_caught_up(&self) -> bool {
        self.puller.has_caught_up()
    }

    /// After the end: long messages whose last parts were not in the stream. They may be on their way.
    #[must_use]
    pub fn unfinished(&self) -> &[Unreadable] {
        &self.unfinished
    }

    fn take(&mut self, pulled: &PulledMessage) {
        let PulledMessage {
            message,
            sequence,
            published,
            ..
        } = pulled;
        let (sequence, published) = (*sequence, *published);
        let subject = message.subject.as_str();
        let Some(topic) = self.selection.topic(subject) else {
            return;
        };
        let unreadable = |cause| {
            Read::Unreadable(Unreadable {
                sequence,
                subject: subject.to_owned(),
                cause,
            })
        };
        let Some(topic) = topic else {
            self.ready.push_back(unreadable(UnreadableCause::Subject));
            return;
        };
        let only_heads = self.selection.only_heads;
        let head = match head(message, &topic, only_heads) {
            Ok(head) => head,
            Err(cause) => {
                self.ready.push_back(unreadable(cause));
                return;
            }
        };
        self.puller.note_read(Newest {
            sequence,
            nonce: head.nonce,
        });
        let stored = Fetched {
            sequence,
            published,
            subject: subject.to_owned(),
            topic,
            head,
            // A copy, since a short body would keep all that was received with it.
            body: Bytes::copy_from_slice(&message.payload),
        };
        if only_heads {
            self.ready.push_back(Read::Message(Box::new(stored)));
            return;
        }
        let Assembled { unreadable, whole } = self.assembler.add(stored);
        let unreadable = unreadable.into_iter();
        self.ready.extend(unreadable.map(Read::Unreadable));
        self.ready
            .extend(whole.map(|it| Read::Message(Box::new(it))));
    }
}

/// The headers of a message, which are checked against its subject and its body.
fn head(
    message: &async_nats::Message,
    topic: &Topic,
    only_heads: bool,
) -> Result<Head, UnreadableCause> {
    let headers = message.headers.as_ref();
    let values = headers.into_iter().flat_map(|it| it.iter());
    let len = values.flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |it| name.len() + it.as_str().len())
    });
    let (len, max) = (len.sum(), HEADERS_MAX);
    if max < len {
        return Err(UnreadableCause::Headers { len, max });
    }
    let head = Head::parse(|name| Some(headers?.get(name)?.as_str()));
    let checked = head.and_then(|head| {
        if (head.kind == Kind::Events) != (*topic == Topic::Events) {
            return Err(Malformed::Header(name::KIND));
        }
        match only_heads {
            true => check_count(
                &head,
                headers.and_then(|it| Some(it.get_last(SIZE)?.as_str())),
            )?,
            false => Messages::new(&head, &message.payload).check()?,
        }
        Ok(head)
    });
    checked.map_err(UnreadableCause::Malformed)
}

/// Checks the number of messages against the length of the body.
fn check_count(head: &Head, size: Option<&str>) -> Result<(), Malformed> {
    let size: u64 = size.and_then(|it| it.parse().ok()).unwrap_or_default();
    let most = match head.part {
        Some(_) => 1,
        None => size / HEADER_LEN as u64,
    };
    match head.count <= most {
        true => Ok(()),
        false => Err(Malformed::Header(name::COUNT)),
    }
}

impl ReadSelection {
    /// The filters of a consumer.
    fn filters(&self) -> Vec<String> {
        if self.devices.is_empty() && self.has_events {
            return vec![self.subjects.all()];
        }
        let mut filters: Vec<_> = match self.devices.is_empty() {
            true => vec![self.subjects.devices()],
            false => {
                let devices = self.devices.iter();
                devices
                    .map(|it| self.subjects.device(it).to_string())
                    .collect()
            }
        };
        filters.sort();
        filters.dedup();
        if self.has_events {
            filters.push(self.subjects.all_events());
        }
        filters
    }

    /// What a subject is for: `None` if it is not selected, `Some(None)` if it is none of this site's.
    fn topic(&self, subject: &str) -> Option<Option<Topic>> {
        if self.subjects.is_events(subject) {
            return self.has_events.then_some(Some(Topic::Events));
        }
        match self.subjects.device_of(subject) {
            Some(device) if self.devices.is_empty() || self.devices.contains(&device) => {
                Some(Some(Topic::Device(device.into())))
            }
            Some(_) => None,
            None => self.devices.is_empty().then_some(None),
        }
    }
}

#[cfg(test)]
mod tests;
