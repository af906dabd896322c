//! What one read gave: the bytes once, and where in them the blocks are.

use framing_core::{AnyDecoder, Decode, Fault, Limits, Step};

use crate::pool::{Buffer, ConnectionQuota, MARKS_LEN, Pool, SPANS_MAX, Span};

/// The results of decoding one window, in the order of the stream.
#[derive(Debug)]
pub struct Batch {
    buffer: Buffer,
    marks: Vec<Mark>,
    /// Whole blocks …
    messages: u64,
    /// … and bytes of payload in them.
    message_bytes: u64,
}

/// One result, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole block.
    Message(&'a [u8]),
    /// Part of a message that is not taken whole.
    Piece {
        /// Its bytes.
        bytes: &'a [u8],
        /// The message begins with them.
        first: bool,
        /// The message ends with them.
        last: bool,
    },
    /// The mark that ends a series.
    End,
    /// A message was refused.
    Fault(Fault),
}

/// Which results close the connection, and how an oversize message is handled.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClosePolicy {
    /// The mark that ends a series closes the connection.
    pub at_end: bool,
    /// How a message over the limit is handled.
    pub oversize: OversizePolicy,
}

/// What becomes of whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeMessages {
    /// They are among the [`items`](Batch::items) of the batch.
    Kept,
    /// Nobody wants them: they are only counted.
    Counted,
}

/// How a message over the limit is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OversizePolicy {
    /// It is skipped, and the next one is taken.
    #[default]
    Skip,
    /// The connection is closed.
    Close,
    /// It is passed on in pieces.
    Stream,
}

/// What [`Batch::decode`] came to.
#[derive(Debug)]
pub struct Decoded {
    /// What was found.
    pub batch: Batch,
    /// How many bytes were dealt with. Those behind belong to the next window.
    pub used: usize,
    /// Why the connection is to be closed, if it is.
    pub stop: Option<CloseCause>,
    /// A message or a series ended in what was dealt with.
    pub ended: bool,
    /// So much was found that the bytes behind are to be decoded by themselves, without more.
    pub full: bool,
    /// How many bytes may be read without reading past the end of the message; `usize::MAX` where nobody knows.
    pub want: usize,
}

/// A result that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The series has ended.
    End,
    /// A message is too long, or too long to skip.
    TooLong,
    /// The framing is lost.
    Lost,
}

/// What stands between blocks: before block number `before` of the batch.
#[derive(Clone, Copy, Debug)]
struct Mark {
    before: u32,
    kind: MarkKind,
}

/// What may stand between the blocks of one batch.
const MARKS_MAX: usize = 2048;
// A list that grows by doubling is as long at the most.
const _: () = assert!(MARKS_MAX * size_of::<Mark>() <= MARKS_LEN);

#[derive(Clone, Copy, Debug)]
enum MarkKind {
    Piece { span: Span, first: bool, last: bool },
    End,
    Fault(Fault),
}

impl Batch {
    /// Decodes what the buffer holds. `streaming` says whether it begins inside a message that is handed out in
    /// pieces, and then whether it ends so.
    #[must_use]
    pub fn decode(
        mut buffer: Buffer,
        decoder: &mut AnyDecoder,
        limits: &Limits,
        policy: ClosePolicy,
        messages: WholeMessages,
        streaming: &mut bool,
    ) -> Decoded {
        let keeps = messages == WholeMessages::Kept;
        let (bytes, spans) = buffer.parts_mut();
        let mut findings = Findings {
            marks: Vec::new(),
            policy,
            stop: None,
            streaming: *streaming,
        };
        // Of whole blocks there are thousands in a window: these two are kept in registers.
        let (mut messages, mut message_bytes) = (0, 0);
        let mut used = 0;
        let mut ended = false;
        let (full, want) = loop {
            let window = bytes.get_mut(used..).unwrap_or_default();
            let scanned = if *streaming {
                let each = |at, step| findings.take(used + at, step, messages);
                decoder.scan_all::<true>(window, limits, each)
            } else {
                decoder.scan_all::<false>(window, limits, |at, step| match step {
                    Step::Payload {
                        start,
                        end,
                        first: true,
                        last: true,
                        ..
                    } => {
                        messages += 1;
                        message_bytes += (end - start) as u64;
                        if !keeps {
                            return true;
                        }
                        let at = used + at;
                        spans.push(Span::new(at + start, at + end));
                        spans.len() < SPANS_MAX
                    }
                    step => findings.take(used + at, step, messages),
                })
            };
            used += scanned.used;
            ended |= scanned.ended;
            // Where it was stopped for no other reason, it goes on in the other way.
            *streaming = findings.streaming;
            let full = SPANS_MAX <= spans.len() || findings.is_full();
            if scanned.want != 0 || findings.stop.is_some() || full {
                break (full && used < bytes.len(), scanned.want);
            }
        };
        let Findings { marks, stop, .. } = findings;
        Decoded {
            batch: Self {
                buffer,
                marks,
                messages,
                message_bytes,
            },
            used,
            stop,
            ended,
            full,
            want,
        }
    }

    /// Whole blocks, each with its place in `bytes`.
    #[must_use]
    pub fn of_messages(bytes: Vec<u8>, spans: Vec<Span>) -> Self {
        let mut buffer = Buffer::own(bytes);
        let messages = spans.len() as u64;
        let message_bytes = spans.iter().map(Span::bytes).sum();
        *buffer.parts_mut().1 = spans;
        Self {
            buffer,
            marks: Vec::new(),
            messages,
            message_bytes,
        }
    }

    /// Part of a message that is not taken whole.
    #[must_use]
    pub fn of_piece(bytes: Vec<u8>, first: bool, last: bool) -> Self {
        let span = Span::new(0, bytes.len());
        let kind = MarkKind::Piece { span, first, last };
        Self {
            buffer: Buffer::own(bytes),
            marks: vec![Mark { before: 0, kind }],
            messages: 0,
            message_bytes: 0,
        }
    }

    /// The mark that ends a series.
    #[must_use]
    pub fn of_end() -> Self {
        let kind = MarkKind::End;
        Self {
            buffer: Buffer::own(Vec::new()),
            marks: vec![Mark { before: 0, kind }],
            messages: 0,
            message_bytes: 0,
        }
    }

    /// A fault that no byte of a window tells of: the stream was cut.
    #[must_use]
    pub fn of_fault(fault: Fault) -> Self {
        let marks = vec![Mark {
            before: 0,
            kind: MarkKind::Fault(fault),
        }];
        Self {
            buffer: Buffer::own(Vec::new()),
            marks,
            messages: 0,
            message_bytes: 0,
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0 && self.marks.is_empty()
    }

    /// The bytes of the window from `used` on.
    #[must_use]
    pub fn rest(&self, used: usize) -> &[u8] {
        self.buffer.bytes().get(used..).unwrap_or_default()
    }

    /// Has its memory counted by the pool, if that can be done now.
    pub fn try_charge(&mut self, pool: &Pool, share: &mut ConnectionQuota) -> bool {
        let marks = self.marks_len();
        pool.try_charge(&mut self.buffer, marks, share)
    }

    /// Has its memory counted by the pool, where that was not possible at once.
    ///
    /// Cancel-safe: dropped, it has changed nothing.
    pub async fn charge(&mut self, pool: &Pool, share: &mut ConnectionQuota) {
        let marks = self.marks_len();
        pool.charge(&mut self.buffer, marks, share).await;
    }

    /// Bytes of memory that it takes and that the pool has not counted.
    #[must_use]
    pub fn uncharged(&self) -> usize {
        self.buffer.uncharged()
    }

    fn marks_len(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>()
    }

    /// Gives the buffer back, of a batch in which nothing was found.
    #[must_use]
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// A copy that holds none of the pool's memory.
    #[must_use]
    pub fn to_own(&self) -> Self {
        let mut buffer = Buffer::own(self.buffer.bytes().to_vec());
        buffer.parts_mut().1.extend_from_slice(self.buffer.spans());
        Self {
            buffer,
            marks: self.marks.clone(),
            messages: self.messages,
            message_bytes: self.message_bytes,
        }
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.buffer.bytes().len()
            + size_of_val(self.buffer.spans())
            + size_of_val(self.marks.as_slice())
    }

    /// How many whole blocks there are, and how many bytes of payload in them.
    #[must_use]
    pub fn messages(&self) -> (u64, u64) {
        (self.messages, self.message_bytes)
    }

    /// Everything but the whole blocks, each with how many of these stand before it.
    pub fn marks(&self) -> impl Iterator<Item = (u64, Item<'_>)> {
        let mark = |mark: &Mark| (u64::from(mark.before), self.mark(mark));
        self.marks.iter().map(mark)
    }

    /// The whole blocks, in order, if there is nothing else.
    pub fn only_blocks(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let spans = self.buffer.spans().iter();
        let messages = spans.map(|span| self.bytes(*span));
        self.marks.is_empty().then_some(messages)
    }

    /// Everything, in order.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let mut messages = (0..).zip(self.buffer.spans()).peekable();
        let mut marks = self.marks.iter().peekable();
        std::iter::from_fn(move || {
            let next = messages.peek().map_or(u32::MAX, |(index, _)| *index);
            if let Some(mark) = marks.next_if(|mark| mark.before <= next) {
                return Some(self.mark(mark));
            }
            messages
                .next()
                .map(|(_, span)| Item::Message(self.bytes(*span)))
        })
    }

    fn mark(&self, mark: &Mark) -> Item<'_> {
        match mark.kind {
            MarkKind::Piece { span, first, last } => Item::Piece {
                bytes: self.bytes(span),
                first,
                last,
            },
            MarkKind::End => Item::End,
            MarkKind::Fault(fault) => Item::Fault(fault),
        }
    }

    fn bytes(&self, span: Span) -> &[u8] {
        self.buffer
            .bytes()
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }
}

/// Collects what a scan tells beside whole blocks.
struct Findings {
    marks: Vec<Mark>,
    policy: ClosePolicy,
    stop: Option<CloseCause>,
    streaming: bool,
}

impl Findings {
    /// Keeps one step, behind so many blocks. Says whether the scan is to go on in the same way.
    #[inline(never)]
    fn take(&mut self, at: usize, step: Step, messages: u64) -> bool {
        let kind = match step {
            Step::Payload {
                start,
                end,
                first,
                last,
                ..
            } => {
                let span = Span::new(at + start, at + end);
                // Pieces of a `stream` never end, and are not asked for.
                let goes_on = !last;
                self.streaming &= goes_on;
                self.mark(MarkKind::Piece { span, first, last }, messages);
                return goes_on;
            }
            Step::End { .. } => {
                self.stop = self.policy.at_end.then_some(CloseCause::End);
                MarkKind::End
            }
            Step::Fault { fault, .. } => {
                let was_streaming = std::mem::take(&mut self.streaming);
                match (fault, self.policy.oversize) {
                    (Fault::TooLong { lost: false, .. }, OversizePolicy::Skip) => {}
                    (Fault::TooLong { lost: false, .. }, OversizePolicy::Stream) => {
                        self.streaming = true;
                        return false;
                    }
                    (Fault::TooLong { .. }, _) => self.stop = Some(CloseCause::TooLong),
                    _ if fault.is_lost() => self.stop = Some(CloseCause::Lost),
                    _ => {}
                }
                if was_streaming {
                    // The message that was handed out in pieces is over: the next is taken whole.
                    self.mark(MarkKind::Fault(fault), messages);
                    return false;
                }
                MarkKind::Fault(fault)
            }
            Step::NeedMore { .. } | Step::Skip { .. } => return true,
        };
        self.mark(kind, messages);
        self.stop.is_none() && !self.is_full()
    }

    /// Whether what is found next belongs to another batch.
    const fn is_full(&self) -> bool {
        MARKS_MAX <= self.marks.len()
    }

    fn mark(&mut self, kind: MarkKind, messages: u64) {
        let before = u32::try_from(messages).unwrap_or(u32::MAX);
        self.marks.push(Mark { before, kind });
    }
}

#[cfg(test)]
mod tests;
