//! Puts the parts of long messages together again: an [`Assembler`].

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use crate::batch::Kind;
use crate::fetched::{Fetched, Unreadable, UnreadableCause};
use crate::message::Head;
use crate::place::Instance;

/// Puts parts together. It holds at most `max` bytes, as far as they have arrived: a length in a header reserves nothing.
#[derive(Debug)]
pub(crate) struct Assembler {
    /// The unfinished messages, by subject and recording.
    open: HashMap<(String, Instance), Open>,
    bytes: usize,
    max: usize,
    /// Reading began within the stream, so the first parts of a message may be before it.
    begins_within: bool,
}

/// An unfinished message.
#[derive(Debug)]
struct Open {
    head: Head,
    /// `None` if a part is missing. The rest is passed over.
    body: Option<BytesMut>,
    /// The sequence number of its last part.
    sequence: u64,
}

/// What came of a message of the stream.
#[derive(Debug, Default)]
pub(crate) struct Assembled {
    /// A message that cannot be read.
    pub unreadable: Option<Unreadable>,
    /// A message that is whole.
    pub whole: Option<Fetched>,
}

impl Assembler {
    pub(crate) fn new(max: usize, begins_within: bool) -> Self {
        Self {
            open: HashMap::new(),
            bytes: 0,
            max,
            begins_within,
        }
    }

    /// Takes the next message of the stream.
    pub(crate) fn add(&mut self, stored: Fetched) -> Assembled {
        let key = (stored.subject.clone(), stored.head.instance);
        let open = self.take(&key);
        let Some((offset, len)) = stored.head.part else {
            return Assembled {
                unreadable: open.and_then(|open| open.incomplete(&key.0)),
                whole: Some(stored),
            };
        };
        let mut assembled = Assembled::default();
        let body = match open {
            Some(open) if open.is_before(&stored.head, offset) => open.body,
            Some(other) => {
                assembled.unreadable = other.incomplete(&key.0);
                (offset == 0).then(BytesMut::new)
            }
            None if offset == 0 => Some(BytesMut::new()),
            None => {
                assembled.unreadable = (!self.begins_within).then(|| Unreadable {
                    sequence: stored.sequence,
                    subject: key.0.clone(),
                    cause: UnreadableCause::NoBeginning { offset },
                });
                None
            }
        };
        self.go_on(key, stored, (body, len), assembled)
    }

    /// Adds the body of a part to those before it.
    fn go_on(
        &mut self,
        key: (String, Instance),
        stored: Fetched,
        (body, len): (Option<BytesMut>, u64),
        mut assembled: Assembled,
    ) -> Assembled {
        let Fetched {
            sequence,
            subject,
            topic,
            head,
            body: part,
        } = stored;
        let Some(mut body) = body else {
            let (offset, _) = head.part.unwrap_or_default();
            return match offset.saturating_add(part.len() as u64) < len {
                true => self.keep(key, head, None, sequence, assembled),
                false => assembled,
            };
        };
        let have = (body.len() + part.len()) as u64;
        let cause = match () {
            () if len < have || part.is_empty() => Some(UnreadableCause::Parts { have, len }),
            () if self.max < self.bytes + body.len() + part.len() => {
                Some(UnreadableCause::TooLong { max: self.max })
            }
            () => None,
        };
        if let Some(cause) = cause {
            assembled.unreadable = Some(Unreadable {
                sequence,
                subject,
                cause,
            });
            return self.keep(key, head, None, sequence, assembled);
        }
        body.extend_from_slice(&part);
        if have < len {
            return self.keep(key, head, Some(body), sequence, assembled);
        }
        assembled.whole = Some(Fetched {
            sequence,
            subject,
            topic,
            head: Head {
                part: Some((0, len)),
                ..head
            },
            body: body.freeze(),
        });
        assembled
    }

    fn keep(
        &mut self,
        key: (String, Instance),
        head: Head,
        body: Option<BytesMut>,
        sequence: u64,
        assembled: Assembled,
    ) -> Assembled {
        self.bytes += body.as_ref().map_or(0, BytesMut::len);
        let open = Open {
            head,
            body,
            sequence,
        };
        self.open.insert(key, open);
        assembled
    }

    fn take(&mut self, key: &(String, Instance)) -> Option<Open> {
        let open = self.open.remove(key)?;
        self.bytes -= open.body.as_ref().map_or(0, BytesMut::len);
        Some(open)
    }

    /// The messages whose last parts did not come.
    pub(crate) fn finish(&mut self) -> Vec<Unreadable> {
        self.bytes = 0;
        let open = self.open.drain();
        let unfinished = |((subject, _), open): ((String, Instance), Open)| {
            let mut left = open.incomplete(&subject)?;
            if let UnreadableCause::Parts { have, len } = left.cause {
                left.cause = UnreadableCause::Unfinished { have, len };
            }
            Some(left)
        };
        let mut left: Vec<_> = open.filter_map(unfinished).collect();
        left.sort_by_key(|it| it.sequence);
        left
    }
}

impl Open {
    /// Whether a part goes on where this message has got to.
    fn is_before(&self, next: &Head, offset: u64) -> bool {
        let len = |head: &Head| head.part.map(|(_, len)| len);
        let same = |head: &Head| (head.connection, head.first, head.time);
        let goes_on = match &self.body {
            Some(body) => body.len() as u64 == offset,
            // What is passed over goes on with any part but a first one.
            None => offset != 0,
        };
        goes_on
            && len(&self.head) == len(next)
            && same(&self.head) == same(next)
            && self.head.session == next.session
            && next.kind == Kind::Part
    }

    /// Why the message cannot be read, unless that was reported.
    fn incomplete(self, subject: &str) -> Option<Unreadable> {
        let body: Bytes = self.body?.freeze();
        Some(Unreadable {
            sequence: self.sequence,
            subject: subject.to_owned(),
            cause: UnreadableCause::Parts {
                have: body.len() as u64,
                len: self.head.part.map_or(0, |(_, len)| len),
            },
        })
    }
}

#[cfg(test)]
mod tests;
