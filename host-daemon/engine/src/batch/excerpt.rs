//! Copies of a part of a batch, for viewers: [`Batch::newest`] chooses a [`Run`] of messages, and [`Batch::excerpt`] copies it
//! with the faults of the batch.

use crate::batch::{Batch, Mark, MarkKind};
use crate::pool::{Buffer, Span};

/// Consecutive messages and pieces of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// Complete messages before the run.
    pub(crate) before: usize,
    /// Items other than complete messages before the run.
    pub(crate) marks_before: usize,
    /// Complete messages and pieces, and their payload bytes.
    pub(crate) size: RunSize,
    /// Pieces among them.
    pub(crate) pieces: usize,
    /// Last pieces among them.
    pub(crate) last_pieces: usize,
    /// Items other than complete messages before the end of the run.
    marks_end: usize,
}

/// A number of messages and pieces, and their payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunSize {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

impl Run {
    pub(crate) const fn is_empty(&self) -> bool {
        self.size.items == 0
    }

    /// Returns the number of complete messages.
    pub(crate) const fn messages(&self) -> usize {
        self.size.items - self.pieces
    }

    /// Returns the memory of its copy, in bytes.
    pub(crate) const fn cost(&self) -> usize {
        self.size.bytes + self.messages() * size_of::<Span>() + self.pieces * size_of::<Mark>()
    }
}

impl Batch {
    /// Returns the number of faults, resets, and reports of bytes after the end mark.
    pub(crate) fn reports(&self) -> usize {
        let reports = self.marks.iter().filter(|mark| mark.is_report());
        reports.count()
    }

    /// Returns the place of the first fault, reset, or report of bytes after the end mark: the complete messages, and the
    /// items other than these, before it.
    pub(crate) fn first_report(&self) -> Option<(usize, usize)> {
        let at = self.marks.iter().position(Mark::is_report)?;
        Some((self.marks.get(at)?.before as usize, at))
    }

    /// Returns the number of pieces, and how many of them are the last of their message.
    pub(crate) fn pieces(&self) -> (usize, usize) {
        let pieces = self.marks.iter().filter_map(Mark::piece);
        pieces.fold((0, 0), |(pieces, lasts), (_, last)| {
            (pieces + 1, lasts + usize::from(last))
        })
    }

    /// Returns the newest messages and pieces that are within these limits, one after another. Items of more than
    /// `longest` bytes at the end of the batch are left out. A batch whose messages are only counted has none.
    pub(crate) fn newest(&self, most: RunSize, longest: usize) -> Run {
        let spans = self.buffer.spans();
        let mut run = Run::default();
        if spans.len() as u64 != self.messages {
            return run;
        }
        let (mut messages, mut marks) = (spans.len(), self.marks.len());
        run.marks_end = marks;
        loop {
            // The last item before this place, and the place before it.
            let mark = marks.checked_sub(1).and_then(|at| self.marks.get(at));
            let (len, piece) = match mark {
                Some(mark) if messages <= mark.before as usize => {
                    marks -= 1;
                    match mark.piece() {
                        Some((span, last)) => (span.bytes(), Some(last)),
                        None => continue,
                    }
                }
                _ => match messages.checked_sub(1).and_then(|at| spans.get(at)) {
                    Some(span) => {
                        messages -= 1;
                        (span.bytes(), None)
                    }
                    None => return run,
                },
            };
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            if longest < len && run.is_empty() {
                run.marks_end = marks;
                continue;
            }
            if longest < len || run.size.items == most.items || most.bytes - run.size.bytes < len {
                return run;
            }
            run.size.items += 1;
            run.size.bytes += len;
            run.pieces += usize::from(piece.is_some());
            run.last_pieces += usize::from(piece == Some(true));
            (run.before, run.marks_before) = (messages, marks);
        }
    }

    /// Returns the newest complete message of at most `longest` bytes.
    pub(crate) fn newest_message(&self, longest: usize) -> Option<Run> {
        let spans = self.buffer.spans();
        let before = spans
            .iter()
            .rposition(|span| span.bytes() <= longest as u64)?;
        let is_before = |mark: &Mark| mark.before as usize <= before;
        let marks = self.marks.partition_point(is_before);
        let bytes = usize::try_from(spans.get(before)?.bytes()).ok()?;
        Some(Run {
            before,
            marks_before: marks,
            size: RunSize { items: 1, bytes },
            marks_end: marks,
            ..Run::default()
        })
    }

    /// Copies a run, and the first `reports` of the faults, resets, and reports of bytes after the end mark. End marks of
    /// series are left out. The copy holds no memory of the pool.
    pub(crate) fn excerpt(&self, run: &Run, reports: usize) -> Self {
        let (first, end) = (run.before, run.before + run.messages());
        let spans = self.buffer.spans().get(first..end).unwrap_or_default();
        let mut bytes = Vec::with_capacity(run.size.bytes);
        let mut copy = |span: Span| {
            let start = bytes.len();
            bytes.extend_from_slice(self.bytes(span));
            Span::new(start, bytes.len())
        };
        let copied: Vec<_> = spans.iter().map(|span| copy(*span)).collect();
        let mut marks = Vec::with_capacity(run.pieces + reports);
        let mut left = reports;
        for (at, mark) in self.marks.iter().enumerate() {
            let is_in_run = run.marks_before <= at && at < run.marks_end;
            let kind = match mark.kind {
                MarkKind::Piece {
                    span,
                    first,
                    last,
                    truncated,
                } if is_in_run && !run.is_empty() => MarkKind::Piece {
                    span: copy(span),
                    first,
                    last,
                    truncated,
                },
                kind if mark.is_report() && left != 0 => {
                    left -= 1;
                    kind
                }
                _ => continue,
            };
            let before = (mark.before as usize).clamp(first, end) - first;
            let before = u32::try_from(before).unwrap_or(u32::MAX);
            marks.push(Mark { before, kind });
        }
        let (messages, message_bytes) = (copied.len() as u64, copied.iter().map(Span::bytes).sum());
        let mut buffer = Buffer::own(bytes);
        *buffer.parts_mut().1 = copied;
        Self {
            buffer,
            marks,
            messages,
            message_bytes,
        }
    }
}

impl Mark {
    const fn is_report(&self) -> bool {
        matches!(
            self.kind,
            MarkKind::Fault(_) | MarkKind::Reset | MarkKind::AfterEnd { .. }
        )
    }

    /// The bytes of a piece, and whether it is the last one of its message.
    const fn piece(&self) -> Option<(Span, bool)> {
        match self.kind {
            MarkKind::Piece { span, last, .. } => Some((span, last)),
            _ => None,
        }
    }
}
