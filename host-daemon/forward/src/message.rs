//! Forwarded messages on the wire: a [`Head`] as headers, and [`Messages`] that takes the body apart.
//!
//! `docs/forwarding.md` has the format.

use std::fmt;

use crate::batch::{Batch, HEADER_LEN, Kind};
use crate::list;
use crate::place::{Instance, Place, Seen, random};
use crate::stored::Stored;

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
            gaps: of(name::GAPS, gaps(&text(name::GAPS)))?,
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

    /// When each message was received, in nanoseconds since 1970. The number of messages is that of the headers.
    pub fn times(&self) -> impl Iterator<Item = u64> + '_ {
        let mut steps = self.steps.iter().peekable();
        let mut time = self.time;
        (0..self.count).map(move |index| {
            while let Some((_, step)) = steps.next_if(|(at, _)| *at <= index) {
                time = time.saturating_add_signed(*step);
            }
            time
        })
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
    list::read(text, |step| {
        let sign = step.find(['+', '-'])?;
        let (index, step) = step.split_at_checked(sign)?;
        Some((index.parse().ok()?, step.parse().ok()?))
    })
}

fn gaps(text: &str) -> Option<Vec<(u64, u64)>> {
    list::read(text, |gap| {
        let (index, count) = gap.split_once('+')?;
        Some((index.parse().ok()?, count.parse().ok()?))
    })
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
    /// Number of messages in the file of the recording up to its end, those of others included.
    pub place: u64,
    /// The payload, or a part of it.
    pub data: &'a [u8],
}

/// The messages of a body, in their order. It allocates nothing. After an error it ends.
///
/// # Examples
/// ```
/// use blocksd_forward::message::{Head, Messages};
///
/// let headers = |name: &str| match name {
///     "Blocksd-Kind" => Some("messages"),
///     "Blocksd-Instance" => Some("00000000000000a7"),
///     "Blocksd-Place" => Some("1.00f3a5c7711d2e4b.2"),
///     "Blocksd-Count" => Some("2"),
///     "Blocksd-First" => Some("40"),
///     "Blocksd-Time" => Some("1700000000000000000"),
///     _ => None,
/// };
/// let head = Head::parse(headers).expect("the headers of blocksd");
/// let body = b"\0\0\0\x02hi\0\0\0\x05there";
/// let numbers = Messages::new(&head, body).map(|it| it.map(|it| (it.number, it.data)));
/// let numbers: Result<Vec<_>, _> = numbers.collect();
/// assert_eq!(numbers, Ok(vec![(40, &b"hi"[..]), (41, &b"there"[..])]));
/// ```
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    head: &'a Head,
    body: &'a [u8],
    /// Bytes of the body that were read.
    at: usize,
    /// Messages that were read.
    index: u64,
    time: u64,
    /// The steps of the time that were passed.
    steps: usize,
    /// The place of the next message.
    place: u64,
    /// The gaps that were passed.
    gaps: usize,
    has_ended: bool,
}

impl<'a> Messages<'a> {
    /// The messages of a body with these headers.
    #[must_use]
    pub fn new(head: &'a Head, body: &'a [u8]) -> Self {
        // The last one is at the place of the headers.
        let between = head.gaps.iter().map(|(_, count)| *count);
        let after_first = between.fold(head.count.wrapping_sub(1), u64::wrapping_add);
        Self {
            place: head.place.messages.wrapping_sub(after_first),
            gaps: 0,
            head,
            body,
            at: 0,
            index: 0,
            time: head.time,
            steps: 0,
            has_ended: false,
        }
    }

    /// Checks the whole body.
    ///
    /// # Errors
    /// [`Malformed::Body`]; [`Malformed::Header`] if the number of messages is not that of the headers.
    pub fn check(mut self) -> Result<(), Malformed> {
        self.try_for_each(|it| it.map(drop))
    }

    fn read(&mut self) -> Result<Option<Forwarded<'a>>, Malformed> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        if self.head.kind == Kind::Part {
            return Ok((self.index == 0).then(|| self.pass(rest, rest.len())));
        }
        if rest.is_empty() {
            return match self.index == self.head.count {
                true => Ok(None),
                false => Err(Malformed::Header(name::COUNT)),
            };
        }
        let malformed = Malformed::Body {
            at: self.at,
            len: self.body.len(),
        };
        let Some((len, after)) = rest.split_first_chunk::<HEADER_LEN>() else {
            return Err(malformed);
        };
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        match after.get(..len) {
            Some(data) => Ok(Some(self.pass(data, HEADER_LEN + len))),
            None => Err(malformed),
        }
    }

    /// The next message, which takes this number of bytes of the body.
    fn pass(&mut self, data: &'a [u8], len: usize) -> Forwarded<'a> {
        while let Some((at, step)) = self.head.steps.get(self.steps)
            && *at <= self.index
        {
            self.time = self.time.saturating_add_signed(*step);
            self.steps += 1;
        }
        while let Some((at, count)) = self.head.gaps.get(self.gaps)
            && *at <= self.index
        {
            self.place = self.place.wrapping_add(*count);
            self.gaps += 1;
        }
        let message = Forwarded {
            number: self.head.first.wrapping_add(self.index),
            time: self.time,
            place: self.place,
            data,
        };
        self.place = self.place.wrapping_add(1);
        self.index += 1;
        self.at += len;
        message
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Forwarded<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let read = self.read();
        self.has_ended = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}

#[cfg(test)]
mod tests;
