//! The buffer of one receiving direction: which bytes of it are unread, and what they are.

use core::fmt::Debug;
use core::ops::Range;

use crate::fault::{Fault, ReceiveError};
use crate::framing::{Decode, Framing, Limits, Step};
use crate::window::Window;

/// Memory to receive into, owned or lent by the caller: an array, a slice, or (with the feature `heapless`) a
/// `heapless::Vec`.
///
/// ```
/// use framing_core::blocking::Reader;
/// use framing_core::{Blocks, Received};
///
/// let wire = b"\0\0\0\x05hello";
/// let mut owned = Reader::new(&wire[..], Blocks, [0; Blocks::buffer_len(5)]);
/// assert_eq!(owned.receive(), Ok(Received::Message(b"hello")));
///
/// let mut memory = [0; 64];
/// let mut borrowed = Reader::new(&wire[..], Blocks, &mut memory[..]);
/// assert_eq!(borrowed.receive(), Ok(Received::Message(b"hello")));
/// ```
pub trait Buffer: AsRef<[u8]> + AsMut<[u8]> {
    /// Makes all of the memory reachable as a slice. Called once.
    fn prepare(&mut self) {}
}

impl<const N: usize> Buffer for [u8; N] {}
impl<const N: usize> Buffer for &mut [u8; N] {}
impl Buffer for &mut [u8] {}

/// All of the capacity is used, whatever its length was; what it held is overwritten.
#[cfg(feature = "heapless")]
impl<const N: usize> Buffer for heapless::Vec<u8, N> {
    fn prepare(&mut self) {
        // Cannot fail: this is the capacity.
        let _ = self.resize(N, 0);
    }
}

/// All of the capacity is used, whatever its length was; what it held is overwritten.
#[cfg(feature = "heapless")]
impl<const N: usize> Buffer for &mut heapless::Vec<u8, N> {
    fn prepare(&mut self) {
        (**self).prepare();
    }
}

/// A whole message, or the end of a series or of the stream.
///
/// The bytes lie in the reader's buffer and are valid until the next call.
///
/// ```
/// use framing_core::blocking::Reader;
/// use framing_core::{Lines, Received};
///
/// let mut reader = Reader::new(&b"on\noff\n"[..], Lines, [0; 16]);
/// let mut seen = Vec::new();
/// loop {
///     match reader.receive()? {
///         Received::Message(bytes) => seen.push(bytes.to_vec()),
///         Received::End => continue,
///         Received::Closed => break,
///     }
/// }
/// assert_eq!(seen, [&b"on"[..], b"off"]);
/// # Ok::<(), framing_core::ReceiveError<core::convert::Infallible>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Received<'a> {
    /// A whole message.
    Message(&'a [u8]),
    /// The mark that ends a series. More may follow.
    End,
    /// The peer closed the stream between messages.
    Closed,
}

/// A piece of a message, or the end of a series or of the stream.
///
/// The bytes lie in the reader's buffer and are valid until the next call.
///
/// ```
/// use framing_core::blocking::Reader;
/// use framing_core::{Netstring, ReceivedPiece};
///
/// // A message of 12 bytes through a buffer of 11.
/// let mut reader = Reader::new(&b"12:hello, world,"[..], Netstring, [0; 11]);
/// let mut message = Vec::new();
/// while let ReceivedPiece::Piece { bytes, last, .. } = reader.receive_piece()? {
///     message.extend_from_slice(bytes);
///     if last {
///         assert_eq!(message, b"hello, world");
///     }
/// }
/// # Ok::<(), framing_core::ReceiveError<core::convert::Infallible>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReceivedPiece<'a> {
    /// Part of a message. A message is whole if `first` and `last` are set.
    Piece {
        /// The next bytes of the message. May be empty in the last piece.
        bytes: &'a [u8],
        /// The message begins with these bytes.
        first: bool,
        /// The message ends with these bytes.
        last: bool,
    },
    /// The mark that ends a series. More may follow.
    End,
    /// The peer closed the stream between messages. It ends the message of a `stream`.
    Closed,
}

#[cfg(feature = "heapless")]
impl Received<'_> {
    /// Copies a message out of the buffer; empty for the other results.
    ///
    /// # Errors
    /// [`Fault::TooLong`] if the message is longer than `N` bytes.
    pub fn to_vec<const N: usize>(&self) -> Result<heapless::Vec<u8, N>, Fault> {
        match *self {
            Self::Message(bytes) => copied(bytes),
            Self::End | Self::Closed => copied(&[]),
        }
    }
}

#[cfg(feature = "heapless")]
impl ReceivedPiece<'_> {
    /// Copies a piece out of the buffer; empty for the other results.
    ///
    /// # Errors
    /// [`Fault::TooLong`] if the piece is longer than `N` bytes.
    pub fn to_vec<const N: usize>(&self) -> Result<heapless::Vec<u8, N>, Fault> {
        match *self {
            Self::Piece { bytes, .. } => copied(bytes),
            Self::End | Self::Closed => copied(&[]),
        }
    }
}

#[cfg(feature = "heapless")]
fn copied<const N: usize>(bytes: &[u8]) -> Result<heapless::Vec<u8, N>, Fault> {
    heapless::Vec::from_slice(bytes).map_err(|_| Fault::TooLong {
        declared: u32::try_from(bytes.len()).ok(),
        limit: u32::try_from(N).unwrap_or(u32::MAX),
        lost: false,
    })
}

/// Result of [`Receiver::poll`]. It holds positions, so that it does not borrow the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Polled {
    /// Read up to `want` bytes into [`Receiver::space`], then call [`Receiver::filled`].
    NeedMore {
        /// As in [`Step::NeedMore`].
        want: usize,
    },
    /// Payload: [`Receiver::payload`] returns its bytes.
    Payload {
        /// Position in the buffer.
        bytes: Range<usize>,
        /// The message begins here. Always set by [`Receiver::poll`], except in a `stream`.
        first: bool,
        /// The message ends here. Always set by [`Receiver::poll`], except in a `stream`.
        last: bool,
    },
    /// The mark that ends a series.
    End,
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

/// The receiving state without I/O: a decoder with its buffer. For poll loops and interrupt handlers, where the bytes
/// come from elsewhere than from a `Read`.
///
/// All progress is kept here. The longest message that can be received whole is limited by the buffer: see
/// `buffer_len` of each framing.
///
/// ```
/// use framing_core::{Blocks, Polled, Receiver};
///
/// let mut receiver = Receiver::new(Blocks, [0; 16]);
/// let mut arrived = &b"\0\0\0\x05hello"[..];
/// let message = loop {
///     match receiver.poll()? {
///         Polled::NeedMore { want } => {
///             let space = receiver.space(want).expect("the buffer holds a header");
///             let len = space.len().min(arrived.len());
///             let (now, later) = arrived.split_at(len);
///             space[..len].copy_from_slice(now);
///             receiver.filled(len);
///             arrived = later;
///         }
///         Polled::Payload { bytes, .. } => break receiver.payload(bytes),
///         Polled::End => {}
///     }
/// };
/// assert_eq!(message, b"hello");
/// # Ok::<(), framing_core::Fault>(())
/// ```
#[derive(Debug)]
pub struct Receiver<F: Framing, B, S = ()> {
    decoder: F::Decoder,
    window: <F::Decoder as Decode>::Window,
    buffer: B,
    skip_max: S,
}

impl<F: Framing, B: Buffer> Receiver<F, B> {
    /// A receiver at the beginning of a stream.
    pub fn new(framing: F, buffer: B) -> Self {
        Self::of(&framing, buffer)
    }

    /// [`new`](Self::new), for a framing that is used once more.
    #[inline]
    pub(crate) fn of(framing: &F, mut buffer: B) -> Self {
        buffer.prepare();
        Self {
            decoder: framing.decoder(),
            window: <F::Decoder as Decode>::Window::default(),
            buffer,
            skip_max: (),
        }
    }
}

impl<F: Framing, B: Buffer, S: SkipMax> Receiver<F, B, S> {
    /// The same receiver with another limit for messages that are skipped: see [`Limits::skip_max`].
    pub fn with_skip_max(self, skip_max: u32) -> Receiver<F, B, u32> {
        Receiver {
            decoder: self.decoder,
            window: self.window,
            buffer: self.buffer,
            skip_max,
        }
    }

    /// Looks for the next message in the unread bytes. One that is too long is skipped.
    ///
    /// # Errors
    /// The [`Fault`] of a message that was refused.
    pub fn poll(&mut self) -> Result<Polled, Fault> {
        self.poll_as::<false>()
    }

    /// Looks for the next piece of a message in the unread bytes.
    ///
    /// # Errors
    /// The [`Fault`] of a message that was refused.
    pub fn poll_piece(&mut self) -> Result<Polled, Fault> {
        self.poll_as::<true>()
    }

    fn poll_as<const STREAMING: bool>(&mut self) -> Result<Polled, Fault> {
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
        self.window = <F::Decoder as Decode>::Window::default();
        self.decoder.close(unread)
    }

    /// Whether a part of a message has come, and its rest has not.
    pub fn is_mid_block(&self) -> bool {
        !self.window.unread(self.buffer.as_ref().len()).is_empty() || self.decoder.is_mid_block()
    }

    /// The bytes of a [`Polled::Payload`], until the next call that changes the receiver.
    pub fn payload(&self, bytes: Range<usize>) -> &[u8] {
        self.buffer.as_ref().get(bytes).unwrap_or_default()
    }

    /// Whether the framing has message boundaries: see [`Decode::has_boundaries`].
    #[inline]
    pub(crate) fn has_boundaries(&self) -> bool {
        self.decoder.has_boundaries()
    }

    /// The result of a whole receive. `None` if the peer closed.
    pub(crate) fn message(&self, found: Option<Polled>) -> Received<'_> {
        match found {
            Some(Polled::Payload { bytes, .. }) => Received::Message(self.payload(bytes)),
            Some(Polled::End) => Received::End,
            Some(Polled::NeedMore { .. }) | None => Received::Closed,
        }
    }

    /// The result of a receive in pieces. `None` if the peer closed.
    pub(crate) fn piece(&self, found: Option<Polled>) -> ReceivedPiece<'_> {
        match found {
            Some(Polled::Payload { bytes, first, last }) => {
                let bytes = self.payload(bytes);
                ReceivedPiece::Piece { bytes, first, last }
            }
            Some(Polled::End) => ReceivedPiece::End,
            Some(Polled::NeedMore { .. }) | None => ReceivedPiece::Closed,
        }
    }

    /// The result of a read of nothing: the peer closed.
    pub(crate) fn closed<E>(&mut self) -> Result<Option<Polled>, ReceiveError<E>> {
        match self.close() {
            Some(fault) => Err(ReceiveError::Fault(fault)),
            None => Ok(None),
        }
    }

    /// [`space`](Self::space), or the error that there is none.
    pub(crate) fn spare<E>(&mut self, want: usize) -> Result<&mut [u8], ReceiveError<E>> {
        let len = self.buffer.as_ref().len();
        self.space(want).ok_or(ReceiveError::BufferTooSmall { len })
    }
}

#[cfg(feature = "defmt")]
impl<F: Framing<Decoder: defmt::Format>, B, S> defmt::Format for Receiver<F, B, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Receiver({})", self.decoder);
    }
}
