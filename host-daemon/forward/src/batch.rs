//! Messages of one device that are forwarded together: a [`Batch`], whose body has the framing `blocks`.

use std::borrow::Cow;
use std::sync::Arc;

use blocksd_recording::FileNonce;
use bytes::{BufMut, Bytes, BytesMut};

use crate::place::Place;

/// Largest number of steps in the times and places of a batch: they are written to headers.
pub(crate) const STEPS_MAX: usize = 128;
/// What a batch takes beside its messages, in bytes. A queue of batches may have room for twice as many, and so may the nodes of the
/// tree with their orders, places and times.
pub(crate) const BATCH_COST: usize = 2 * (size_of::<Batch>() + size_of::<(u64, Place, u64)>());
/// What a message takes beside its bytes, in bytes: a list of them may have room for twice as many.
pub(crate) const ITEM_COST: usize = 2 * size_of::<Item>();
/// Length of the header of a message in the body, in bytes.
pub(crate) const HEADER_LEN: usize = 4;

/// What the messages of a batch have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Channel {
    /// What the messages are.
    pub kind: Kind,
    /// The name of the framing that they came in.
    pub framing: String,
    /// The name of the decoding.
    pub decode: String,
    /// The session, as 16 hexadecimal digits.
    pub session: Option<String>,
    /// The device.
    pub device: Arc<str>,
}

/// What a forwarded message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Whole messages of a device.
    Messages,
    /// Pieces of messages that are longer than the daemon accepts. The events say where they belong.
    Pieces,
    /// A part of one message that is longer than a batch.
    Part,
    /// Events, as JSON objects.
    Events,
}

/// One message, in a batch.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Number of messages of the file up to its end.
    messages: u64,
    /// Where it ends in the body.
    end: usize,
    /// When it was received, in nanoseconds since 1970.
    time: u64,
}

/// Messages of one subject. Their numbers follow each other.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub subject: Arc<str>,
    pub channel: Arc<Channel>,
    /// The connection; 0 if unknown.
    pub connection: u64,
    /// The number of the first message in its connection or session.
    pub first: u64,
    /// The first of the numbers right before it that have no message in the recording; `first` without a gap.
    since: u64,
    /// The file.
    pub file: (u64, FileNonce),
    /// The order of its first message among all that were read.
    pub order: u64,
    items: Vec<Item>,
    /// How often the time changes, or others come between.
    steps: usize,
    body: BytesMut,
    /// For a part: its offset in the message, and the length of the message.
    part: Option<(u64, u64)>,
}

/// A message as it was read from a recording.
#[derive(Clone, Debug)]
pub(crate) struct ReadMessage<'a> {
    pub subject: &'a Arc<str>,
    pub channel: &'a Arc<Channel>,
    pub connection: u64,
    pub seq: u64,
    pub file: (u64, FileNonce),
    /// Number of messages of the file before it.
    pub before: u64,
    pub order: u64,
    pub time: u64,
    pub data: &'a [u8],
}

impl Batch {
    /// A batch with one message.
    pub(crate) fn new(message: &ReadMessage<'_>) -> Self {
        let mut batch = Self::empty(message);
        batch.add(message);
        batch
    }

    /// The parts of a message that is longer than `body_max`, each with an order of its own.
    pub(crate) fn parts(message: &ReadMessage<'_>, body_max: usize) -> Vec<Self> {
        let part = |(index, bytes): (usize, &[u8])| {
            let mut part = Self::empty(message);
            part.part = Some(((index * body_max) as u64, message.data.len() as u64));
            part.order += index as u64;
            part.body.extend_from_slice(bytes);
            part.items.push(Item {
                messages: message.before + 1,
                end: bytes.len(),
                time: message.time,
            });
            part
        };
        let parts = message.data.chunks(body_max).enumerate();
        parts.map(part).collect()
    }

    /// With the first of the numbers right before it that have no message in the recording.
    #[must_use]
    pub(crate) fn with_gap(self, since: u64) -> Self {
        Self { since, ..self }
    }

    /// The number of the first message, or the first of the numbers right before it that have no message in the recording.
    pub(crate) const fn since(&self) -> u64 {
        self.since
    }

    /// Adds a message, unless it does not follow the others or the body would be longer than `body_max`.
    pub(crate) fn push(&mut self, message: &ReadMessage<'_>, body_max: usize) -> bool {
        let is_next = self.part.is_none()
            && self.file == message.file
            && self.connection == message.connection
            && self.is_like(message.channel)
            && self.first + self.items.len() as u64 == message.seq
            && self.can_step_to(message.time, 0)
            && self.len() + HEADER_LEN + message.data.len() <= body_max;
        if is_next {
            self.add(message);
        }
        is_next
    }

    /// Appends another batch. Returns it if it does not follow this one, or if the body would be longer than `body_max`.
    pub(crate) fn append(&mut self, other: Self, body_max: usize) -> Option<Self> {
        let is_next = self.part.is_none()
            && other.part.is_none()
            && other.since == other.first
            && self.file == other.file
            && self.connection == other.connection
            && self.is_like(&other.channel)
            && self.first + self.items.len() as u64 == other.first
            && self.can_step_to(other.time(), other.steps)
            && self.len() + other.len() <= body_max;
        if !is_next {
            return Some(other);
        }
        let begin = self.body.len();
        let is_step = other
            .items
            .first()
            .is_some_and(|next| self.is_step_to(next));
        self.steps += other.steps + usize::from(is_step);
        self.body.unsplit(other.body);
        let items = other.items.into_iter().map(|item| Item {
            end: begin + item.end,
            ..item
        });
        self.items.extend(items);
        None
    }

    /// Removes what is before a place of the same recording. Returns whether something is left.
    pub(crate) fn trim(&mut self, place: Place) -> bool {
        if place.number != self.file.0 {
            return place.number < self.file.0;
        }
        // Two files have the number, as after files of two recordings were put together: nothing is known of this one.
        if place.nonce != self.file.1 {
            return true;
        }
        if self.part.is_some() {
            return self.trim_part(place);
        }
        self.skip(self.count_before(place));
        !self.items.is_empty()
    }

    /// How many of its first messages are before a place of the same recording.
    pub(crate) fn count_before(&self, place: Place) -> u64 {
        if place.number != self.file.0 {
            return if place.number < self.file.0 {
                0
            } else {
                self.count()
            };
        }
        let items = self.items.iter();
        items.take_while(|it| it.messages <= place.messages).count() as u64
    }

    /// Removes the first messages.
    pub(crate) fn skip(&mut self, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let count = count.min(self.items.len());
        let Some(last) = count.checked_sub(1).and_then(|last| self.items.get(last)) else {
            return;
        };
        let begin = last.end;
        // A copy, since the rest would keep the memory of all.
        self.body = BytesMut::from(self.body.get(begin..).unwrap_or_default());
        self.items = self.items.get(count..).unwrap_or_default().to_vec();
        for item in &mut self.items {
            item.end -= begin;
        }
        self.count_steps();
        self.first += count as u64;
        self.since = self.first;
    }

    /// How many of its first messages have a body of this length at most, in bytes: 1 if it has a longer one.
    pub(crate) fn count_within(&self, len: usize) -> u64 {
        let count = self.items.partition_point(|item| item.end <= len);
        count.max(1) as u64
    }

    /// The first messages: a copy, unless they are all.
    pub(crate) fn head(&self, count: u64) -> Cow<'_, Self> {
        if count == self.count() {
            return Cow::Borrowed(self);
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let items: Vec<_> = self.items.iter().take(count).copied().collect();
        let end = items.last().map_or(0, |item| item.end);
        let mut head = Self {
            subject: Arc::clone(&self.subject),
            channel: Arc::clone(&self.channel),
            body: BytesMut::from(self.body.get(..end).unwrap_or_default()),
            items,
            ..*self
        };
        head.count_steps();
        Cow::Owned(head)
    }

    /// As [`trim`](Self::trim), of a part.
    fn trim_part(&mut self, place: Place) -> bool {
        let Some((offset, len)) = self.part else {
            return true;
        };
        let before = self.last_messages().saturating_sub(1);
        if place.messages != before {
            return place.messages < before;
        }
        let done = place.bytes.saturating_sub(offset).min(self.len() as u64);
        // At most the length of the body.
        drop(self.body.split_to(done as usize));
        self.part = Some((offset + done, len));
        !self.body.is_empty()
    }

    /// Length of the body, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    /// Number of messages; 1 for a part.
    pub(crate) fn count(&self) -> u64 {
        self.items.len() as u64
    }

    /// As [`count`](Self::count), for the memory that they take.
    pub(crate) const fn items(&self) -> usize {
        self.items.len()
    }

    /// Number of messages that end in it.
    pub(crate) fn whole(&self) -> u64 {
        match self.is_last() {
            true => self.count(),
            false => 0,
        }
    }

    /// Whether it is no part, or the last one.
    fn is_last(&self) -> bool {
        self.part
            .is_none_or(|(offset, len)| len <= offset + self.len() as u64)
    }

    /// What it holds.
    pub(crate) fn kind(&self) -> Kind {
        match (self.part, self.channel.kind) {
            (Some(_), Kind::Messages) => Kind::Part,
            // The offset says that it is a part of a piece.
            (_, kind) => kind,
        }
    }

    /// Offset and length of the message that it is a part of.
    pub(crate) const fn part(&self) -> Option<(u64, u64)> {
        self.part
    }

    /// The session, the number of the first message, and the number after the last one that it completes; `None` without a
    /// session, or if it completes no message.
    pub(crate) fn numbers(&self) -> Option<(&str, u64, u64)> {
        let session = self.channel.session.as_deref()?;
        let is_last = self.is_last();
        is_last.then_some((session, self.first, self.first + self.count()))
    }

    /// The place before it.
    pub(crate) fn begin(&self) -> Place {
        let (number, nonce) = self.file;
        let first = self.items.first().map_or(0, |item| item.messages);
        Place {
            number,
            nonce,
            messages: first.saturating_sub(1),
            bytes: self.part.map_or(0, |(offset, _)| offset),
        }
    }

    /// The place after it.
    pub(crate) fn end(&self) -> Place {
        let (number, nonce) = self.file;
        let whole = Place {
            number,
            nonce,
            messages: self.last_messages(),
            bytes: 0,
        };
        match self.part {
            Some((offset, len)) if offset + (self.len() as u64) < len => Place {
                messages: whole.messages.saturating_sub(1),
                bytes: offset + self.len() as u64,
                ..whole
            },
            _ => whole,
        }
    }

    /// When the first message was received, in nanoseconds since 1970.
    pub(crate) fn time(&self) -> u64 {
        self.items.first().map_or(0, |item| item.time)
    }

    /// Where the time changes: the index of a message, and how much later than the one before it was received, in
    /// nanoseconds.
    pub(crate) fn steps(&self) -> Vec<(u64, i64)> {
        let pairs = self.items.windows(2).zip(1..);
        let step = |(pair, index): (&[Item], u64)| match pair {
            [before, after] if before.time != after.time => {
                Some((index, step(before.time, after.time)?))
            }
            _ => None,
        };
        pairs.filter_map(step).collect()
    }

    /// Where messages of others come between: the index of a message, and how many were recorded between it and the one before.
    pub(crate) fn gaps(&self) -> Vec<(u64, u64)> {
        let pairs = self.items.windows(2).zip(1..);
        let gap = |(pair, index): (&[Item], u64)| match pair {
            [before, after] => Some((index, after.messages.checked_sub(before.messages + 1)?)),
            _ => None,
        };
        pairs
            .filter_map(gap)
            .filter(|(_, count)| *count != 0)
            .collect()
    }

    /// The body.
    pub(crate) fn body(&self) -> Bytes {
        Bytes::copy_from_slice(&self.body)
    }

    fn empty(message: &ReadMessage<'_>) -> Self {
        Self {
            subject: Arc::clone(message.subject),
            channel: Arc::clone(message.channel),
            connection: message.connection,
            first: message.seq,
            since: message.seq,
            file: message.file,
            order: message.order,
            items: Vec::new(),
            steps: 0,
            body: BytesMut::new(),
            part: None,
        }
    }

    fn add(&mut self, message: &ReadMessage<'_>) {
        // A message of a recording is shorter than 4 GiB.
        let len = u32::try_from(message.data.len()).unwrap_or(u32::MAX);
        self.body.put_u32(len);
        self.body.put_slice(message.data);
        let item = Item {
            messages: message.before + 1,
            end: self.body.len(),
            time: message.time,
        };
        self.steps += usize::from(self.is_step_to(&item));
        self.items.push(item);
    }

    fn is_step_to(&self, next: &Item) -> bool {
        self.items.last().is_some_and(|last| last.steps_to(next))
    }

    fn count_steps(&mut self) {
        let changes = |pair: &[Item]| matches!(pair, [one, other] if one.steps_to(other));
        self.steps = self.items.windows(2).filter(|pair| changes(pair)).count();
    }

    fn is_like(&self, channel: &Arc<Channel>) -> bool {
        Arc::ptr_eq(&self.channel, channel) || self.channel == *channel
    }

    /// Whether a message of this time, and further steps, find a place in the times.
    fn can_step_to(&self, time: u64, further: usize) -> bool {
        let last = self.items.last().map_or(time, |item| item.time);
        self.steps + further < STEPS_MAX && step(last, time).is_some()
    }

    fn last_messages(&self) -> u64 {
        self.items.last().map_or(0, |item| item.messages)
    }
}

impl Item {
    /// Whether the next message has another time, or is not recorded next to this one.
    const fn steps_to(&self, next: &Self) -> bool {
        self.time != next.time || self.messages + 1 != next.messages
    }
}

/// The difference of two times, in nanoseconds.
fn step(before: u64, after: u64) -> Option<i64> {
    match after.checked_sub(before) {
        Some(later) => i64::try_from(later).ok(),
        None => i64::try_from(before - after).ok().map(|it| -it),
    }
}
