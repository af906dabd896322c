//! What one read gave: the bytes once, and where in them the blocks are.

use framing_core::{AnyDecoder, Decode, Fault, Limits, Step};

use crate::event::Reason;
use crate::pool::Buffer;

/// The results of decoding one window, in the order of the stream.
#[derive(Debug)]
pub struct Batch {
    buffer: Buffer,
    blocks: Vec<Span>,
    marks: Vec<Mark>,
}

/// One result, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole block.
    Block(&'a [u8]),
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

/// Which results end the connection, or change how messages are taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopAt {
    /// The mark that ends a series closes the connection.
    pub end: bool,
    /// What a message that is too long does.
    pub too_long: TooLong,
}

/// What becomes of a message that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TooLong {
    /// It is skipped, and the next one is taken.
    #[default]
    Skip,
    /// The connection is closed.
    Close,
    /// It is handed out in pieces.
    Pieces,
}

/// What [`Batch::decode`] came to.
#[derive(Debug)]
pub struct Decoded {
    /// What was found.
    pub batch: Batch,
    /// How many bytes were dealt with. Those behind belong to the next window.
    pub used: usize,
    /// Why the connection is to be closed, if it is.
    pub stop: Option<Reason>,
}

/// Payload in the buffer. A window is never over 4 GiB long.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// What stands between blocks: before block number `before` of the batch.
#[derive(Clone, Copy, Debug)]
struct Mark {
    before: usize,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Piece { span: Span, first: bool, last: bool },
    End,
    Fault(Fault),
}

impl Batch {
    /// Decodes what the buffer holds. `in_pieces` says whether it begins inside a message that is handed out in
    /// pieces, and then whether it ends so.
    #[must_use]
    pub fn decode(
        mut buffer: Buffer,
        decoder: &mut AnyDecoder,
        limits: &Limits,
        stop_at: StopAt,
        in_pieces: &mut bool,
    ) -> Decoded {
        let mut findings = Findings {
            stop_at,
            in_pieces: *in_pieces,
            ..Findings::default()
        };
        let mut used = 0;
        loop {
            let window = buffer.bytes.get_mut(used..).unwrap_or_default();
            let each = |at, step| findings.take(used + at, step);
            let scanned = if *in_pieces {
                decoder.scan_all::<true>(window, limits, each)
            } else {
                decoder.scan_all::<false>(window, limits, each)
            };
            used += scanned.used;
            if scanned.want != 0 || findings.stop.is_some() {
                break;
            }
            // Stopped to go on in the other way.
            *in_pieces = findings.in_pieces;
        }
        let Findings {
            blocks,
            marks,
            stop,
            ..
        } = findings;
        Decoded {
            batch: Self {
                buffer,
                blocks,
                marks,
            },
            used,
            stop,
        }
    }

    /// A fault that no byte of a window tells of: the stream was cut.
    #[must_use]
    pub fn of_fault(fault: Fault) -> Self {
        let marks = vec![Mark {
            before: 0,
            what: What::Fault(fault),
        }];
        Self {
            buffer: Buffer::own(Vec::new()),
            blocks: Vec::new(),
            marks,
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.marks.is_empty()
    }

    /// The bytes of the window from `used` on.
    #[must_use]
    pub fn rest(&self, used: usize) -> &[u8] {
        self.buffer.bytes.get(used..).unwrap_or_default()
    }

    /// Gives the buffer back, of a batch in which nothing was found.
    #[must_use]
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// How many whole blocks there are, and how many bytes of payload in them.
    #[must_use]
    pub fn blocks(&self) -> (u64, u64) {
        let bytes = self
            .blocks
            .iter()
            .map(|span| u64::from(span.end - span.start))
            .sum();
        (self.blocks.len() as u64, bytes)
    }

    /// Everything but the whole blocks.
    pub fn marks(&self) -> impl Iterator<Item = Item<'_>> {
        self.marks.iter().map(|mark| self.mark(mark))
    }

    /// Everything, in order.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let mut blocks = self.blocks.iter().enumerate().peekable();
        let mut marks = self.marks.iter().peekable();
        std::iter::from_fn(move || {
            let next = blocks.peek().map_or(usize::MAX, |(index, _)| *index);
            if let Some(mark) = marks.next_if(|mark| mark.before <= next) {
                return Some(self.mark(mark));
            }
            blocks
                .next()
                .map(|(_, span)| Item::Block(self.bytes(*span)))
        })
    }

    fn mark(&self, mark: &Mark) -> Item<'_> {
        match mark.what {
            What::Piece { span, first, last } => Item::Piece {
                bytes: self.bytes(span),
                first,
                last,
            },
            What::End => Item::End,
            What::Fault(fault) => Item::Fault(fault),
        }
    }

    fn bytes(&self, span: Span) -> &[u8] {
        self.buffer
            .bytes
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }
}

/// Collects what a scan tells.
#[derive(Default)]
struct Findings {
    blocks: Vec<Span>,
    marks: Vec<Mark>,
    stop_at: StopAt,
    stop: Option<Reason>,
    in_pieces: bool,
}

impl Findings {
    /// Keeps one step. Says whether the scan is to go on in the same way.
    fn take(&mut self, at: usize, step: Step) -> bool {
        let what = match step {
            Step::Payload {
                start,
                end,
                first,
                last,
                ..
            } => {
                let span = Span::new(at + start, at + end);
                if first && last && !self.in_pieces {
                    self.blocks.push(span);
                    return true;
                }
                // Pieces of a `stream` never end, and are not asked for.
                let goes_on = !last;
                self.in_pieces &= goes_on;
                self.mark(What::Piece { span, first, last });
                return goes_on;
            }
            Step::End { .. } => {
                self.stop = self.stop_at.end.then_some(Reason::End);
                What::End
            }
            Step::Fault { fault, .. } => {
                match fault {
                    _ if fault.is_lost() => self.stop = Some(Reason::Fault),
                    Fault::TooLong { .. } => match self.stop_at.too_long {
                        TooLong::Skip => {}
                        TooLong::Close => self.stop = Some(Reason::Limit),
                        TooLong::Pieces => {
                            self.in_pieces = true;
                            return false;
                        }
                    },
                    _ => {}
                }
                What::Fault(fault)
            }
            Step::More { .. } | Step::Skip { .. } => return true,
        };
        self.mark(what);
        self.stop.is_none()
    }

    fn mark(&mut self, what: What) {
        self.marks.push(Mark {
            before: self.blocks.len(),
            what,
        });
    }
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        let position = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: position(start),
            end: position(end),
        }
    }
}
