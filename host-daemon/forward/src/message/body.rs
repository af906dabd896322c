//! The messages in the body of a forwarded message: [`Messages`].

use crate::batch::HEADER_LEN;
use crate::message::{Head, Malformed, name};

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
        if self.head.part.is_some() {
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
