//! Forwarded messages on the wire: a [`Head`] as headers, and [`Messages`] to take the body apart.
//!
//! `docs/forwarding.md` has the format.

use std::fmt;

use crate::batch::{Batch, HEADER_LEN, Kind};
use crate::place::{Instance, Place, Seen, random};
use crate::stored::Stored;

/// The names of the headers.
pub mod name {
    /// Identity of the message in the window of duplicates of the stream.
    pub const ID: &str = "Nats-Msg-Id";
    /// The sequence number of the message before it in its subject.
    pub const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
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
    /// [`Malformed::Header`].
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
        Ok(Self {
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
            connection: number(name::CONNECTION, Some(0))?,
            session: header(name::SESSION).map(str::to_owned),
            framing: text(name::FRAMING),
            decode: text(name::DECODE),
            part,
        })
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

struct Steps<'a>(&'a [(u64, i64)]);

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (index, step)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{index}{step:+}")?;
        }
        Ok(())
    }
}

fn steps(text: &str) -> Option<Vec<(u64, i64)>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let step = |step: &str| {
        let sign = step.find(['+', '-'])?;
        let (index, step) = step.split_at_checked(sign)?;
        Some((index.parse().ok()?, step.parse().ok()?))
    };
    text.split(',').map(step).collect()
}

fn part(text: &str) -> Option<(u64, u64)> {
    let (offset, len) = text.split_once('/')?;
    Some((offset.parse().ok()?, len.parse().ok()?))
}

/// A message in the body of a forwarded message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// Its number in the connection or session.
    pub number: u64,
    /// When it was received, in nanoseconds since 1970.
    pub time: u64,
    /// The payload, or a part of it.
    pub data: &'a [u8],
}

/// The messages of a body, in their order.
///
/// # Errors
/// [`Malformed::Body`]; [`Malformed::Header`] if the number of messages is not that of the headers.
pub fn messages<'a>(head: &Head, body: &'a [u8]) -> Result<Vec<Forwarded<'a>>, Malformed> {
    if head.kind == Kind::Part || head.part.is_some() {
        let Head { first, time, .. } = *head;
        return Ok(vec![Forwarded {
            number: first,
            time,
            data: body,
        }]);
    }
    let mut messages = Vec::new();
    let mut steps = head.steps.iter().peekable();
    let (mut rest, mut time) = (body, head.time);
    while !rest.is_empty() {
        let malformed = Malformed::Body {
            at: body.len() - rest.len(),
            len: body.len(),
        };
        let Some((len, after)) = rest.split_first_chunk::<HEADER_LEN>() else {
            return Err(malformed);
        };
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        let Some((data, after)) = after.split_at_checked(len) else {
            return Err(malformed);
        };
        let index = messages.len() as u64;
        while let Some((_, step)) = steps.next_if(|(at, _)| *at == index) {
            time = time.saturating_add_signed(*step);
        }
        messages.push(Forwarded {
            number: head.first.wrapping_add(index),
            time,
            data,
        });
        rest = after;
    }
    match messages.len() as u64 == head.count {
        true => Ok(messages),
        false => Err(Malformed::Header(name::COUNT)),
    }
}
