//! The messages found in one read: a [`Batch`] holds the bytes once, and where in them each message lies.

mod close;
pub(crate) mod excerpt;
mod numbered;

use framing_core::{AnyDecoder, Decode, Fault, Limits, Step};

pub use self::close::{CloseCause, ClosePolicy, OversizePolicy};
use crate::pool::{Buffer, ConnectionQuota, MARKS_LEN, Pool, SPANS_MAX, Span};

/// Messages, end marks and faults found in one window of bytes, in the order of the stream.
///
/// # Examples
/// ```
/// use blocksd_engine::batch::{Batch, Item};
/// use blocksd_engine::pool::Span;
///
/// let batch = Batch::of_messages(b"onetwo".to_vec(), vec![Span::new(0, 3), Span::new(3, 6)]);
/// let items: Vec<_> = batch.items().collect();
/// assert_eq!(items, [Item::Message(b"one"), Item::Message(b"two")]);
/// ```
#[derive(Debug)]
pub struct Batch {
    buffer: Buffer,
    marks: Vec<Mark>,
    /// Complete messages.
    messages: u64,
    /// Payload bytes of the complete messages.
    message_bytes: u64,
}

/// One item of a batch, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A complete message.
    Message(&'a [u8]),
    /// A part of a message that exceeds the limit and is streamed ([`OversizePolicy::Stream`]).
    Piece {
        /// The payload bytes.
        bytes: &'a [u8],
        /// This is the first piece of the message.
        first: bool,
        /// This is the last piece of the message.
        last: bool,
        /// The connection ended within the message: nothing of it follows, and the next item is the fault. Also if the
        /// message was to be emitted whole.
        truncated: bool,
    },
    /// The end mark of a series.
    End,
    /// A message was refused.
    Fault(Fault),
    /// The peer reset the connection between two messages: messages that it had sent may be missing.
    Reset,
    /// Bytes were received after the end mark that closes the connection.
    AfterEnd {
        /// How many, at least.
        bytes: u64,
    },
}

/// Whether a batch stores complete messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeMessages {
    /// Complete messages are among the [`items`](Batch::items) of the batch.
    Kept,
    /// Complete messages are only counted, because no sink needs them.
    Counted,
}

/// The result of [`Batch::decode`].
#[derive(Debug)]
pub struct Decoded {
    /// The items found.
    pub batch: Batch,
    /// Number of bytes decoded. The bytes after them belong to the next window.
    pub used: usize,
    /// Why the connection must be closed, or `None`.
    pub stop: Option<CloseCause>,
    /// Whether a message or a series ended in the decoded bytes.
    pub ended: bool,
    /// The batch is full: decode the remaining bytes before reading more.
    pub full: bool,
    /// Number of bytes that can be read without reading beyond the current message; `usize::MAX` if unknown.
    pub want: usize,
}

/// An item other than a complete message. It comes before message number `before` of the batch, counted from 0.
#[derive(Clone, Copy, Debug)]
struct Mark {
    before: u32,
    kind: MarkKind,
}

/// Largest number of marks in one batch.
const MARKS_MAX: usize = 2048;
// A list that grows by doubling has at most this capacity.
const _: () = assert!(MARKS_MAX * size_of::<Mark>() <= MARKS_LEN);

#[derive(Clone, Copy, Debug)]
enum MarkKind {
    Piece {
        span: Span,
        first: bool,
        last: bool,
        truncated: bool,
    },
    End,
    Fault(Fault),
    Reset,
    AfterEnd {
        bytes: u64,
    },
}

impl Batch {
    /// Decodes the contents of a buffer. `streaming` says whether the buffer begins within a message that is emitted in
    /// pieces, and is updated for the next buffer.
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
        // A window contains thousands of messages: keep these two in registers, so only one closure borrows them.
        let (mut messages, mut message_bytes) = (0, 0);
        let mut used = 0;
        let mut ended = false;
        let (full, want) = loop {
            let window = bytes.get_mut(used..).unwrap_or_default();
            let scanned = if *streaming {
                let before = messages;
                let each = |at, step| findings.take(used + at, step, before);
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
            // The scan stopped only to change between complete messages and pieces: continue in the other mode.
            *streaming = findings.streaming;
            let full = SPANS_MAX <= spans.len() || findings.is_full();
            if scanned.want != 0 || findings.stop.is_some() || full {
                break (full && used < bytes.len(), scanned.want);
            }
        };
        let Findings { marks, stop, .. } = findings;
        // A message was refused without a declared length, or its end is not where its length says.
        let stop = stop.or_else(|| decoder.is_lost().then_some(CloseCause::TooLong));
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

    /// Creates a batch of complete messages. `spans` gives the position of each in `bytes`.
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

    /// Creates a batch with one piece of a message.
    #[must_use]
    pub fn of_piece(bytes: Vec<u8>, first: bool, last: bool) -> Self {
        let span = Span::new(0, bytes.len());
        let truncated = false;
        let kind = MarkKind::Piece {
            span,
            first,
            last,
            truncated,
        };
        Self::of_marks(bytes, vec![kind])
    }

    /// Creates a batch with the bytes of a message that was cut, from `span` of `bytes`, and with its fault, if that is
    /// known. A piece without bytes is left out if the message begins with it.
    #[must_use]
    pub fn of_truncated(bytes: Vec<u8>, span: Span, first: bool, fault: Option<Fault>) -> Self {
        let piece = MarkKind::Piece {
            span,
            first,
            last: false,
            truncated: true,
        };
        let piece = (span.bytes() != 0 || !first).then_some(piece);
        let fault = fault.map(MarkKind::Fault);
        Self::of_marks(bytes, piece.into_iter().chain(fault).collect())
    }

    /// Creates a batch with the end mark of a series.
    #[must_use]
    pub fn of_end() -> Self {
        Self::of_marks(Vec::new(), vec![MarkKind::End])
    }

    /// Creates a batch that reports the reset of a connection between two messages.
    #[must_use]
    pub fn of_reset() -> Self {
        Self::of_marks(Vec::new(), vec![MarkKind::Reset])
    }

    /// Creates a batch that reports bytes after the end mark that closes a connection.
    #[must_use]
    pub fn of_after_end(bytes: u64) -> Self {
        Self::of_marks(Vec::new(), vec![MarkKind::AfterEnd { bytes }])
    }

    fn of_marks(bytes: Vec<u8>, kinds: Vec<MarkKind>) -> Self {
        let mark = |kind| Mark { before: 0, kind };
        Self {
            buffer: Buffer::own(bytes),
            marks: kinds.into_iter().map(mark).collect(),
            messages: 0,
            message_bytes: 0,
        }
    }

    /// Creates a batch with a fault that has no bytes of its own: the stream ended within a message.
    #[must_use]
    pub fn of_fault(fault: Fault) -> Self {
        Self::of_marks(Vec::new(), vec![MarkKind::Fault(fault)])
    }

    /// Returns whether the batch has no items and counted no messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0 && self.marks.is_empty()
    }

    /// Returns the bytes of the window from `used` on.
    #[must_use]
    pub fn rest(&self, used: usize) -> &[u8] {
        self.buffer.bytes().get(used..).unwrap_or_default()
    }

    /// Charges the memory of the batch to the pool. Returns `false` if the pool or the quota has no room now.
    pub fn try_charge(&mut self, pool: &Pool, quota: &mut ConnectionQuota) -> bool {
        let marks = self.marks_len();
        pool.try_charge(&mut self.buffer, marks, quota)
    }

    /// Charges the memory of the batch to the pool. Waits until the pool and the quota have room.
    ///
    /// Cancel-safe: if the future is dropped, nothing is charged.
    pub async fn charge(&mut self, pool: &Pool, quota: &mut ConnectionQuota) {
        let marks = self.marks_len();
        pool.charge(&mut self.buffer, marks, quota).await;
    }

    /// Returns the bytes of memory that are not charged to the pool.
    #[must_use]
    pub fn uncharged(&self) -> usize {
        self.buffer.uncharged()
    }

    fn marks_len(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>()
    }

    /// Returns the buffer of a batch without items, for reuse.
    #[must_use]
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// Returns a copy that holds no memory of the pool.
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

    /// Returns the approximate memory of the batch, in bytes.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.buffer.bytes().len()
            + size_of_val(self.buffer.spans())
            + size_of_val(self.marks.as_slice())
    }

    /// Returns the number of complete messages, and their payload bytes. Pieces are not included.
    #[must_use]
    pub fn messages(&self) -> (u64, u64) {
        (self.messages, self.message_bytes)
    }

    /// Iterates over all items except complete messages. Each comes with the number of complete messages before it.
    pub fn marks(&self) -> impl Iterator<Item = (u64, Item<'_>)> {
        let mark = |mark: &Mark| (u64::from(mark.before), self.mark(mark));
        self.marks.iter().map(mark)
    }

    /// Iterates over the complete messages, in order. Returns `None` if the batch has any other item.
    pub fn only_blocks(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let spans = self.buffer.spans().iter();
        let messages = spans.map(|span| self.bytes(*span));
        self.marks.is_empty().then_some(messages)
    }

    /// Iterates over all items, in order.
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
            MarkKind::Piece {
                span,
                first,
                last,
                truncated,
            } => Item::Piece {
                bytes: self.bytes(span),
                first,
                last,
                truncated,
            },
            MarkKind::End => Item::End,
            MarkKind::Fault(fault) => Item::Fault(fault),
            MarkKind::Reset => Item::Reset,
            MarkKind::AfterEnd { bytes } => Item::AfterEnd { bytes },
        }
    }

    fn bytes(&self, span: Span) -> &[u8] {
        self.buffer
            .bytes()
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }
}

/// Collects the items of a scan other than complete messages.
struct Findings {
    marks: Vec<Mark>,
    policy: ClosePolicy,
    stop: Option<CloseCause>,
    streaming: bool,
}

impl Findings {
    /// Stores one step of the scan; `messages` complete messages came before it. Returns whether the scan may continue
    /// in the same mode.
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
                // Pieces of the framing `stream` never end, and are part of normal decoding.
                let goes_on = !last;
                self.streaming &= goes_on;
                let kind = MarkKind::Piece {
                    span,
                    first,
                    last,
                    truncated: false,
                };
                self.mark(kind, messages);
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
                    // This fault ends the message that was emitted in pieces. The next one is decoded as a whole.
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

    /// Whether the next item belongs into another batch.
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
