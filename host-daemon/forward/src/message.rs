//! Forwarded messages on the wire: a [`Head`] as headers, and [`Messages`] that takes the body apart.
//!
//! `docs/forwarding.md` has the format.

mod body;

use std::fmt;

pub use self::body::{Forwarded, Messages};
use crate::batch::{Batch, HEADER_LEN, Kind, STEPS_MAX};
use crate::list;
use crate::place::{Instance, Place, Seen, random};
use crate::stored::{Stored, is_session};

/// Largest number of messages in the longest body that a server can be configured to take, which has 64 MiB.
const COUNT_MAX: u64 = (64 << 20) / HEADER_LEN as u64;

/// The names of the headers.
pub mod name {
    /// Identity of the message in the window of duplicates of the stream.
    pub const ID: &str = "Nats-Msg-Id";
    /// The sequence number of the message before it in its subject.
    pub const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
    /// The name of the stream that must store it.
    pub const STREAM: &str = "Nats-Expected-Stream";
    /// What the body holds.
    pub const KIND: &str = "Blocksd-Kind";
    /// The recording that it comes from.
    pub const INSTANCE: &str = "Blocksd-Instance";
    /// The place in the recording after it.
    pub const PLACE: &str = "Blocksd-Place";
    /// The last places of other instances.
    pub const SEEN: &str = "Blocksd-Seen";
    /// A random number, which no other message has.
    pub const NONCE: &str = "Blocksd-Nonce";
    /// The numbers of sessions that the subject has.
    pub const STORED: &str = "Blocksd-Stored";
    /// Number of messages in the body.
    pub const COUNT: &str = "Blocksd-Count";
    /// Number of the first message in its connection or session.
    pub const FIRST: &str = "Blocksd-First";
    /// When the first message was received, in nanoseconds since 1970.
    pub const TIME: &str = "Blocksd-Time";
    /// Where the time of the messages changes.
    pub const STEPS: &str = "Blocksd-Steps";
    /// Where other messages were recorded between those of the body.
    pub const GAPS: &str = "Blocksd-Gaps";
    /// The connection.
    pub const CONNECTION: &str = "Blocksd-Conn";
    /// The session.
    pub const SESSION: &str = "Blocksd-Session";
    /// The framing that the messages came in.
    pub const FRAMING: &str = "Blocksd-Framing";
    /// How they are decoded.
    pub const DECODE: &str = "Blocksd-Decode";
    /// The offset of a part in its message, and the length of the message.
    pub const PART: &str = "Blocksd-Part";
}

impl Kind {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Pieces => "pieces",
            Self::Part => "part",
            Self::Events => "events",
        }
    }

    fn of(text: &str) -> Option<Self> {
        let all = [Self::Messages, Self::Pieces, Self::Part, Self::Events];
        all.into_iter().find(|it| it.as_str() == text)
    }
}

/// The headers of a forwarded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the body holds.
    pub kind: Kind,
    /// The recording that it comes from.
    pub instance: Instance,
    /// The place in the recording after it.
    pub place: Place,
    /// The last places of other instances in the subject.
    pub seen: Seen,
    /// A random number for each attempt to publish: a stream that has lost messages may have the same one again, at the same
    /// sequence number and after other ones. 0 if unknown.
    pub nonce: u64,
    /// The numbers of sessions that the subject has, with those of this message.
    pub stored: Stored,
    /// Number of messages in the body.
    pub count: u64,
    /// Number of the first message: in its session if there is one, otherwise in its connection.
    pub first: u64,
    /// When the first message was received, in nanoseconds since 1970.
    pub time: u64,
    /// Index of a message, and how much later than the one before it was received, in nanoseconds. Messages between two
    /// steps have the same time.
    pub steps: Vec<(u64, i64)>,
    /// Index of a message, and how many messages of others were recorded between it and the one before.
    pub gaps: Vec<(u64, u64)>,
    /// The connection; 0 if unknown. Numbers begin again when the daemon restarts.
    pub connection: u64,
    /// The session, as 16 hexadecimal digits.
    pub session: Option<String>,
    /// The framing that the messages came in; empty if unknown.
    pub framing: String,
    /// How they are decoded; empty if unknown.
    pub decode: String,
    /// The offset of a part in its message, and the length of the message.
    pub part: Option<(u64, u64)>,
}

/// Why a message of the stream cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A header is missing, or cannot be parsed.
    #[error("the header {0} is missing or malformed; is this message from blocksd?")]
    Header(&'static str),
    /// The headers as a whole cannot be parsed.
    #[error("its headers cannot be parsed; is this message from blocksd?")]
    Unparsable,
    /// The lengths in the body do not add up.
    #[error("a length in the body is wrong at byte {at} of {len}")]
    Body {
        /// Offset of the message whose length is wrong, in bytes.
        at: usize,
        /// Length of the body, in bytes.
        len: usize,
    },
}

impl Head {
    /// The headers of a batch, and its identity among duplicates.
    pub(crate) fn of(
        batch: &Batch,
        instance: Instance,
        mut seen: Seen,
        mut stored: Stored,
    ) -> Self {
        seen.forget(instance);
        if let Some((session, from, to)) = batch.numbers() {
            stored.note(session, from, to);
        }
        Self {
            kind: batch.kind(),
            instance,
            place: batch.end(),
            seen,
            nonce: random(),
            stored,
            count: batch.count(),
            first: batch.first,
            time: batch.time(),
            steps: batch.steps(),
            gaps: batch.gaps(),
            connection: batch.connection,
            session: batch.channel.session.clone(),
            framing: batch.channel.framing.clone(),
            decode: batch.channel.decode.clone(),
            part: batch.part(),
        }
    }

    /// Reads the headers with a function that returns one by its name.
    ///
    /// # Errors
    /// [`Malformed::Header`], also if it contradicts others.
    pub fn parse<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Malformed> {
        fn of<T>(name: &'static str, value: Option<T>) -> Result<T, Malformed> {
            value.ok_or(Malformed::Header(name))
        }
        let number = |name: &'static str, or: Option<u64>| match header(name) {
            Some(text) => of(name, text.parse::<u64>().ok()),
            None => of(name, or),
        };
        let text = |name: &str| header(name).unwrap_or_default().to_owned();
        let part = match header(name::PART) {
            Some(text) => Some(of(name::PART, part(text))?),
            None => None,
        };
        let head = Self {
            kind: of(name::KIND, header(name::KIND).and_then(Kind::of))?,
            instance: of(
                name::INSTANCE,
                header(name::INSTANCE).and_then(|it| it.parse().ok()),
            )?,
            place: of(
                name::PLACE,
                header(name::PLACE).and_then(|it| it.parse().ok()),
            )?,
            seen: of(name::SEEN, text(name::SEEN).parse().ok())?,
            nonce: match header(name::NONCE) {
                Some(text) => of(name::NONCE, u64::from_str_radix(text, 16).ok())?,
                None => 0,
            },
            stored: of(name::STORED, text(name::STORED).parse().ok())?,
            count: number(name::COUNT, None)?,
            first: number(name::FIRST, None)?,
            time: number(name::TIME, None)?,
            steps: of(name::STEPS, steps(&text(name::STEPS)))?,
            gaps: of(name::GAPS, gaps(&text(name::GAPS)))?,
            connection: number(name::CONNECTION, Some(0))?,
            session: match header(name::SESSION) {
                Some(text) => Some(of(
                    name::SESSION,
                    is_session(text).then(|| text.to_owned()),
                )?),
                None => None,
            },
            framing: text(name::FRAMING),
            decode: text(name::DECODE),
            part,
        };
        let contradiction = head.contradiction();
        contradiction.map_or(Ok(head), |name| Err(Malformed::Header(name)))
    }

    /// The session, the number of the first message, and the number after the last one that it completes; `None` without a
    /// session, or if it completes no message.
    pub(crate) fn numbers(&self) -> Option<(&str, u64, u64)> {
        let session = self.session.as_deref()?;
        (self.place.bytes == 0).then_some((session, self.first, self.first + self.count))
    }

    /// The place in the recording before it.
    pub(crate) fn begin(&self) -> Place {
        let Place {
            messages, bytes, ..
        } = self.place;
        let (messages, bytes) = match self.part {
            Some((offset, _)) => (messages.saturating_sub(u64::from(bytes == 0)), offset),
            None => {
                let gaps = self.gaps.iter().map(|(_, count)| count);
                let taken = gaps.fold(self.count, |sum, count| sum.saturating_add(*count));
                (messages.saturating_sub(taken), 0)
            }
        };
        Place {
            messages,
            bytes,
            ..self.place
        }
    }

    /// The first header that contradicts another one.
    fn contradiction(&self) -> Option<&'static str> {
        let is_part = self.part.is_some();
        let (needs_part, may_be_part) = match self.kind {
            Kind::Part => (true, true),
            Kind::Messages => (false, false),
            Kind::Pieces | Kind::Events => (false, true),
        };
        let part_fits = (!needs_part || is_part) && (may_be_part || !is_part);
        let most = if is_part { 1 } else { COUNT_MAX };
        let count_fits = (1..=most).contains(&self.count);
        let checks = [
            (name::PART, part_fits),
            (name::COUNT, count_fits),
            (name::FIRST, self.first.checked_add(self.count).is_some()),
            (name::STEPS, are_indexes(&self.steps, self.count)),
            (name::GAPS, are_indexes(&self.gaps, self.count)),
        ];
        let mut wrong = checks.into_iter().filter(|(_, fits)| !fits);
        wrong.next().map(|(name, _)| name)
    }

    /// The headers as pairs of name and value.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            (name::KIND, self.kind.as_str().to_owned()),
            (name::INSTANCE, self.instance.to_string()),
            (name::PLACE, self.place.to_string()),
            (name::COUNT, self.count.to_string()),
            (name::FIRST, self.first.to_string()),
            (name::TIME, self.time.to_string()),
        ];
        let mut add = |name, value: String| {
            if !value.is_empty() {
                pairs.push((name, value));
            }
        };
        add(name::STEPS, Steps(&self.steps).to_string());
        add(name::GAPS, Gaps(&self.gaps).to_string());
        if self.connection != 0 {
            add(name::CONNECTION, self.connection.to_string());
        }
        add(name::SESSION, self.session.clone().unwrap_or_default());
        add(name::FRAMING, self.framing.clone());
        add(name::DECODE, self.decode.clone());
        add(name::SEEN, self.seen.to_string());
        if self.nonce != 0 {
            add(name::NONCE, format!("{:016x}", self.nonce));
        }
        add(name::STORED, self.stored.to_string());
        if let Some((offset, len)) = self.part {
            add(name::PART, format!("{offset}/{len}"));
        }
        pairs
    }

    /// When the messages were received, in nanoseconds since 1970: the time of the first one, and each time that follows.
    /// Messages between two steps have one time. So it takes as long as the headers, whatever the number of messages.
    pub fn times(&self) -> impl Iterator<Item = u64> + '_ {
        let steps = self.steps.iter().scan(self.time, |time, (_, step)| {
            *time = time.saturating_add_signed(*step);
            Some(*time)
        });
        std::iter::once(self.time).chain(steps)
    }

    /// The identity in the window of duplicates. A batch with another end has another one.
    #[must_use]
    pub fn id(&self) -> String {
        let Self {
            instance,
            place,
            count,
            ..
        } = self;
        format!("{instance}.{place}.{count}")
    }
}

struct Gaps<'a>(&'a [(u64, u64)]);

impl fmt::Display for Gaps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write(f, self.0, |f, (index, count)| write!(f, "{index}+{count}"))
    }
}

struct Steps<'a>(&'a [(u64, i64)]);

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write(f, self.0, |f, (index, step)| write!(f, "{index}{step:+}"))
    }
}

fn steps(text: &str) -> Option<Vec<(u64, i64)>> {
    changes(text, |step| {
        let sign = step.find(['+', '-'])?;
        let (index, step) = step.split_at_checked(sign)?;
        Some((index.parse().ok()?, step.parse().ok()?))
    })
}

fn gaps(text: &str) -> Option<Vec<(u64, u64)>> {
    changes(text, |gap| {
        let (index, count) = gap.split_once('+')?;
        Some((index.parse().ok()?, count.parse().ok()?))
    })
}

/// Reads a list that is not longer than a batch makes it.
fn changes<T>(text: &str, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let is_longer = text.split(',').nth(STEPS_MAX).is_some();
    (!is_longer).then(|| list::read(text, item))?
}

/// Whether these are messages after the first one, each after the one before it.
fn are_indexes<T>(changes: &[(u64, T)], count: u64) -> bool {
    let ascend = changes
        .iter()
        .try_fold(0, |before, (index, _)| (before < *index).then_some(*index));
    ascend.is_some_and(|last| last == 0 || last < count)
}

fn part(text: &str) -> Option<(u64, u64)> {
    let (offset, len) = text.split_once('/')?;
    let (offset, len) = (offset.parse().ok()?, len.parse().ok()?);
    (offset < len).then_some((offset, len))
}

#[cfg(test)]
mod tests;
