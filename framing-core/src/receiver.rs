//! The buffer of one receiving direction: which bytes of it are unread, and what they are.

use core::fmt::Debug;
use core::ops::Range;

use crate::fault::{Fault, ReceiveError};
use crate::framing::{Decode, Framing, Limits, Step};
use crate::window::Window;

/// Memory to receive into, owned or lent by the caller: an array, a slice, or a [`heapless::Vec`].
pub trait Buffer: AsRef<[u8]> + AsMut<[u8]> {
    /// Makes all of the memory reachable as a slice. Called once.
    fn prepare(&mut self) {}
}

impl<const N: usize> Buffer for [u8; N] {}
impl<const N: usize> Buffer for &mut [u8; N] {}
impl Buffer for &mut [u8] {}

/// All of the capacity is used, whatever its length was; what it held is overwritten.
impl<const N: usize> Buffer for heapless::Vec<u8, N> {
    fn prepare(&mut self) {
        // Cannot fail: this is the capacity.
        let _ = self.resize(N, 0);
    }
}

/// All of the capacity is used, whatever its length was; what it held is overwritten.
impl<const N: usize> Buffer for &mut heapless::Vec<u8, N> {
    fn prepare(&mut self) {
        (**self).prepare();
    }
}

/// What a receive gives. The bytes lie in the buffer, and are valid until the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Received<'a> {
    /// A whole message.
    Block(&'a [u8]),
    /// Part of a message: from `stream`, or where pieces were asked for.
    Piece {
        /// The next bytes of it. May be empty in the last piece.
        bytes: &'a [u8],
        /// The message begins with these bytes.
        first: bool,
        /// The message ends with these bytes.
        last: bool,
    },
    /// The mark that ends a series. More may follow.
    End,
    /// The peer has closed the stream, between messages.
    Closed,
}

impl Received<'_> {
    /// Copies the bytes of a block or piece out of the buffer; empty for the other results.
    ///
    /// # Errors
    /// [`Fault::TooLong`] where they do not fit into `N` bytes.
    pub fn to_vec<const N: usize>(&self) -> Result<heapless::Vec<u8, N>, Fault> {
        let bytes = match *self {
            Self::Block(bytes) | Self::Piece { bytes, .. } => bytes,
            Self::End | Self::Closed => &[],
        };
        heapless::Vec::from_slice(bytes).map_err(|_| Fault::TooLong {
            declared: u32::try_from(bytes.len()).ok(),
            limit: u32::try_from(N).unwrap_or(u32::MAX),
            lost: false,
        })
    }
}

/// What [`Receiver::poll`] found; positions, so that nothing is borrowed while more is read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Polled {
    /// Read up to `want` bytes into [`Receiver::space`], then call [`Receiver::filled`].
    NeedMore {
        /// As in [`Step::NeedMore`].
        want: usize,
    },
    /// Payload, to be had from [`Receiver::received`].
    Payload {
        /// Where in the buffer.
        bytes: Range<usize>,
        /// The message begins here.
        first: bool,
        /// The message ends here.
        last: bool,
    },
    /// The mark that ends a series.
    End,
    /// The peer has closed, between messages. Only the readers give it; [`Receiver::close`] says it otherwise.
    Closed,
}

/// The longest message, in bytes, that is skipped: see [`Limits::skip_max`].
pub trait SkipMax: Clone + Debug {
    /// So many bytes.
    fn skip_max(&self) -> u32;
}

/// [`Limits::SKIP_MAX`], for nothing.
impl SkipMax for () {
    fn skip_max(&self) -> u32 {
        Limits::SKIP_MAX
    }
}

impl SkipMax for u32 {
    fn skip_max(&self) -> u32 {
        *self
    }
}

/// A decoder with its buffer: pure, fed by the readers of [`blocking`](crate::blocking) and
/// [`asynch`](crate::asynch), or by hand where bytes come from elsewhere.
///
/// All progress lives here. The longest message that can be received whole is what the buffer holds beside the
/// framing's own bytes: see `buffer_len` of each framing.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Receiver<D: Decode, B, S = ()> {
    decoder: D,
    window: D::Window,
    buffer: B,
    skip_max: S,
}

impl<D: Decode, B: Buffer> Receiver<D, B> {
    /// A receiver at the beginning of a stream.
    pub fn new(framing: impl Framing<Decoder = D>, mut buffer: B) -> Self {
        buffer.prepare();
        Self {
            decoder: framing.decoder(),
            window: D::Window::default(),
            buffer,
            skip_max: (),
        }
    }
}

impl<D: Decode, B: Buffer, S: SkipMax> Receiver<D, B, S> {
    /// The same, with another length of the longest message, in bytes, that is skipped: see [`Limits::skip_max`].
    pub fn with_skip_max(self, skip_max: u32) -> Receiver<D, B, u32> {
        Receiver {
            decoder: self.decoder,
            window: self.window,
            buffer: self.buffer,
            skip_max,
        }
    }

    /// Says what comes next in the unread bytes. With `STREAMING` as in [`Decode::scan`].
    ///
    /// # Errors
    /// The [`Fault`] of a message that was refused.
    pub fn poll<const STREAMING: bool>(&mut self) -> Result<Polled, Fault> {
        loop {
            if let Some(polled) = self.step::<STREAMING>()? {
                return Ok(polled);
            }
        }
    }

    /// One step of [`poll`](Self::poll), which may find nothing yet.
    #[inline]
    pub(crate) fn step<const STREAMING: bool>(&mut self) -> Result<Option<Polled>, Fault> {
        let buffer = self.buffer.as_mut();
        let len = buffer.len();
        let limits = Limits {
            block_max: self.decoder.block_max(len),
            skip_max: self.skip_max.skip_max(),
        };
        let unread = self.window.unread(len);
        let base = unread.start;
        let window = buffer.get_mut(unread).unwrap_or_default();
        match self.decoder.scan::<STREAMING>(window, &limits) {
            Step::NeedMore { want } => Ok(Some(Polled::NeedMore { want })),
            Step::Skip { take, want } => {
                self.window.take(take);
                let is_more = self.window.unread(len).is_empty();
                Ok(is_more.then_some(Polled::NeedMore { want }))
            }
            Step::Payload {
                start,
                end,
                take,
                first,
                last,
            } => {
                self.window.take(take);
                let bytes = base + start..base + end;
                Ok(Some(Polled::Payload { bytes, first, last }))
            }
            Step::End { take } => {
                self.window.take(take);
                Ok(Some(Polled::End))
            }
            Step::Fault { take, fault } => {
                if take != 0 {
                    self.window.take(take);
                }
                Err(fault)
            }
        }
    }

    /// The memory to read the next bytes into: at most `want`. `None` where the buffer cannot hold a header.
    #[inline]
    pub fn space(&mut self, want: usize) -> Option<&mut [u8]> {
        let buffer = self.buffer.as_mut();
        self.window.compact(buffer);
        let space = buffer.get_mut(self.window.unread(usize::MAX).end..)?;
        let len = space.len().min(want);
        space.get_mut(..len).filter(|space| !space.is_empty())
    }

    /// So many bytes were read into [`space`](Self::space): no more than there is.
    pub fn filled(&mut self, len: usize) {
        self.window.filled(len, self.buffer.as_ref().len());
    }

    /// The stream has ended: says whether that cut a message, and starts afresh.
    pub fn close(&mut self) -> Option<Fault> {
        let unread = self.window.unread(usize::MAX).len();
        self.window = D::Window::default();
        self.decoder.close(unread)
    }

    /// Whether a part of a message has come, and its rest has not.
    pub fn is_mid_block(&self) -> bool {
        !self.window.unread(self.buffer.as_ref().len()).is_empty() || self.decoder.is_mid_block()
    }

    /// The bytes of what [`poll`](Self::poll) found.
    pub fn received(&self, polled: Polled) -> Received<'_> {
        match polled {
            Polled::NeedMore { .. } | Polled::Closed => Received::Closed,
            Polled::End => Received::End,
            Polled::Payload { bytes, first, last } => {
                let bytes = self.buffer.as_ref().get(bytes).unwrap_or_default();
                Received::Piece { bytes, first, last }
            }
        }
    }

    /// As [`received`](Self::received), a message that is whole as a block.
    pub(crate) fn block(&self, polled: Polled) -> Received<'_> {
        match self.received(polled) {
            Received::Piece {
                bytes,
                first: true,
                last: true,
            } => Received::Block(bytes),
            other => other,
        }
    }

    /// The result of a read of nothing: the peer has closed.
    pub(crate) fn closed<E>(&mut self) -> Result<Polled, ReceiveError<E>> {
        match self.close() {
            Some(fault) => Err(ReceiveError::Fault(fault)),
            None => Ok(Polled::Closed),
        }
    }

    /// [`space`](Self::space), or the error that there is none.
    pub(crate) fn spare<E>(&mut self, want: usize) -> Result<&mut [u8], ReceiveError<E>> {
        let len = self.buffer.as_ref().len();
        self.space(want).ok_or(ReceiveError::BufferTooSmall { len })
    }
}
