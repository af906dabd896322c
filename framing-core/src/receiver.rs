//! The receiving state without I/O: a decoder with its buffer. Start with [`Receiver`].

use core::fmt::Debug;
use core::ops::Range;

use crate::fault::{Fault, ReceiveError};
use crate::framing::{Decode, Framing, Limits, Step, UnitFraming};
use crate::kept::{KeepTruncated, SkipMax};
use crate::received::{Received, ReceivedPiece};
use crate::window::Window;

/// Memory to receive into, owned or borrowed: an array, a slice, or a `heapless::Vec` (feature `heapless`).
///
/// Its length limits the messages that are received whole: see `buffer_len` of each framing.
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
    /// Makes all of the memory reachable by `as_mut`. Called once, before it is used.
    fn prepare(&mut self) {}
}

impl<const N: usize> Buffer for [u8; N] {}
impl<const N: usize> Buffer for &mut [u8; N] {}
impl Buffer for &mut [u8] {}

/// All of the capacity is used, and the content is overwritten.
#[cfg(feature = "heapless")]
impl<const N: usize> Buffer for heapless::Vec<u8, N> {
    fn prepare(&mut self) {
        // Cannot fail: this is the capacity.
        let _ = self.resize(N, 0);
    }
}

/// All of the capacity is used, and the content is overwritten.
#[cfg(feature = "heapless")]
impl<const N: usize> Buffer for &mut heapless::Vec<u8, N> {
    fn prepare(&mut self) {
        (**self).prepare();
    }
}

/// The result of [`Receiver::poll`]. It has positions instead of references, so it does not borrow the receiver.
///
/// Match all variants: there will be no others.
///
/// ```
/// use framing_core::{Blocks, Fault, Polled, Receiver};
///
/// let mut receiver = Receiver::new(Blocks, [0; 16]);
/// assert_eq!(receiver.poll()?, Polled::NeedMore { want: 4 });
/// receiver.space(4).unwrap().copy_from_slice(b"\0\0\0\x02");
/// receiver.filled(4);
/// assert_eq!(receiver.poll()?, Polled::NeedMore { want: 2 });
/// receiver.space(2).unwrap().copy_from_slice(b"on");
/// receiver.filled(2);
/// assert_eq!(receiver.poll()?, Polled::Payload { bytes: 0..2, first: true, last: true });
/// assert_eq!(receiver.payload(0..2), b"on");
/// # Ok::<(), Fault>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Polled {
    /// Read up to `want` bytes into [`Receiver::space`], then call [`Receiver::filled`].
    NeedMore {
        /// At least 1. `usize::MAX` if the framing cannot know how many bytes are missing.
        want: usize,
    },
    /// Payload: [`Receiver::payload`] returns its bytes.
    Payload {
        /// Positions in the buffer.
        bytes: Range<usize>,
        /// The message begins here. Always set by [`Receiver::poll`], except in a `stream`.
        first: bool,
        /// The message ends here. Always set by [`Receiver::poll`], except in a `stream`.
        last: bool,
    },
    /// The mark that ends a series.
    End,
}

/// The receiving state without I/O: a decoder with its buffer. For poll loops and interrupt handlers, where bytes do not
/// come from a `Read`.
///
/// Call [`poll`](Self::poll). At [`Polled::NeedMore`], copy received bytes to [`space`](Self::space), report them by
/// [`filled`](Self::filled), and poll again. When the peer closes, call [`close`](Self::close).
///
/// The longest message that is received whole is limited by the buffer: see `buffer_len` of each framing.
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
/// assert!(!receiver.is_mid_block());
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
    /// A receiver at the beginning of a stream. To build one in a `static`, use [`const_new`](Receiver::const_new).
    pub fn new(framing: F, buffer: B) -> Self {
        Self::of(&framing, buffer)
    }

    /// [`new`](Self::new), with a framing that is borrowed.
    #[inline]
    pub(crate) fn of(framing: &F, mut buffer: B) -> Self {
        buffer.prepare();
        Self {
            decoder: framing.decoder(),
            window: Window::EMPTY,
            buffer,
            skip_max: (),
        }
    }
}

impl<F: UnitFraming, const N: usize> Receiver<F, [u8; N]> {
    /// [`new`](Self::new) in a constant: see [`UnitFraming`].
    ///
    /// ```
    /// use framing_core::{Lines, Receiver};
    ///
    /// const RECEIVER: Receiver<Lines, [u8; 80]> = Receiver::const_new(Lines, [0; 80]);
    /// # let _ = RECEIVER;
    /// ```
    pub const fn const_new(framing: F, buffer: [u8; N]) -> Self {
        let _ = framing;
        Self {
            decoder: F::DECODER,
            window: Window::EMPTY,
            buffer,
            skip_max: (),
        }
    }
}

impl<F: Framing, B: Buffer, S: SkipMax> Receiver<F, B, S> {
    /// Sets the longest message that is skipped, in bytes. The default is [`Limits::SKIP_MAX`], 16 MiB.
    ///
    /// ```
    /// use framing_core::{Blocks, Fault, Receiver};
    ///
    /// let mut receiver = Receiver::new(Blocks, [0; 4]).with_skip_max(1000);
    /// receiver.poll()?;
    /// receiver.space(4).unwrap().copy_from_slice(&1001_u32.to_be_bytes());
    /// receiver.filled(4);
    /// assert!(receiver.poll().is_err_and(|fault| fault.is_lost()));
    /// # Ok::<(), Fault>(())
    /// ```
    pub fn with_skip_max(self, skip_max: u32) -> Receiver<F, B, u32> {
        Receiver {
            decoder: self.decoder,
            window: self.window,
            buffer: self.buffer,
            skip_max,
        }
    }

    /// Keeps the bytes of a message that the close of the stream cuts: see
    /// [`truncated`](Receiver::truncated). Takes two words of memory, and no copy. Call it after
    /// [`with_skip_max`](Self::with_skip_max).
    pub fn with_truncated(self) -> Receiver<F, B, KeepTruncated<S>> {
        Receiver {
            decoder: self.decoder,
            window: self.window,
            buffer: self.buffer,
            skip_max: KeepTruncated::new(self.skip_max),
        }
    }

    /// Looks for the next message in the unread bytes. A message that is too long is skipped.
    ///
    /// # Errors
    /// The [`Fault`] of a message that was refused. Poll again to continue.
    pub fn poll(&mut self) -> Result<Polled, Fault> {
        self.poll_as::<false>()
    }

    /// Looks for the next piece of a message in the unread bytes. No message is too long. See
    /// [`Reader::receive_piece`](crate::blocking::Reader::receive_piece).
    ///
    /// ```
    /// use framing_core::{Blocks, Fault, Polled, Receiver};
    ///
    /// // A message of 8 bytes through a buffer of 4.
    /// let mut receiver = Receiver::new(Blocks, [0; 4]);
    /// let mut arrived = &b"\0\0\0\x08pressure"[..];
    /// let mut message = Vec::new();
    /// loop {
    ///     match receiver.poll_piece()? {
    ///         Polled::NeedMore { want } => {
    ///             let space = receiver.space(want).expect("the buffer has room for a header");
    ///             let (now, later) = arrived.split_at(space.len());
    ///             space.copy_from_slice(now);
    ///             receiver.filled(now.len());
    ///             arrived = later;
    ///         }
    ///         Polled::Payload { bytes, last, .. } => {
    ///             message.extend_from_slice(receiver.payload(bytes));
    ///             if last {
    ///                 break;
    ///             }
    ///         }
    ///         Polled::End => {}
    ///     }
    /// }
    /// assert_eq!(message, b"pressure");
    /// # Ok::<(), Fault>(())
    /// ```
    ///
    /// # Errors
    /// The [`Fault`] of a message that was refused. Poll again to continue.
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

    /// One step of [`poll`](Self::poll). `None`: take another step.
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

    /// Memory for the next bytes: 1 to `want` bytes. `None` if the buffer is shorter than a header.
    #[inline]
    pub fn space(&mut self, want: usize) -> Option<&mut [u8]> {
        self.skip_max.keep(|| 0..0);
        let buffer = self.buffer.as_mut();
        self.window.compact(buffer);
        let space = buffer.get_mut(self.window.unread(usize::MAX).end..)?;
        let len = space.len().min(want);
        space.get_mut(..len).filter(|space| !space.is_empty())
    }

    /// Reports that `len` bytes were copied to the front of [`space`](Self::space): at most its length.
    pub fn filled(&mut self, len: usize) {
        self.window.filled(len, self.buffer.as_ref().len());
    }

    /// Ends the stream. Returns [`Fault::Truncated`] if that cut a message or a series; `None` if it cut a message that
    /// was refused before. The receiver is then at the beginning of a stream.
    ///
    /// ```
    /// use framing_core::{Fault, Lines, Part, Receiver};
    ///
    /// let mut receiver = Receiver::new(Lines, [0; 16]);
    /// receiver.space(2).unwrap().copy_from_slice(b"on");
    /// receiver.filled(2);
    /// assert!(receiver.is_mid_block());
    /// let cut = Fault::Truncated { part: Part::Payload, have: 2, want: 3 };
    /// assert_eq!(receiver.close(), Some(cut));
    /// ```
    pub fn close(&mut self) -> Option<Fault> {
        let unread = self.window.unread(usize::MAX);
        self.skip_max.keep(|| {
            let cut = self.decoder.unfinished(unread.len());
            unread.start + cut.start..unread.start + cut.end
        });
        self.window = Window::EMPTY;
        self.decoder.close(unread.len())
    }

    /// Whether the framing is lost: everything is dropped until the stream ends. True after a fault that
    /// [is lost](Fault::is_lost), and if a message that was refused as too long could not be skipped.
    ///
    /// ```
    /// use framing_core::{Fault, Lines, Receiver};
    ///
    /// let mut receiver = Receiver::new(Lines, [0; 8]).with_skip_max(8);
    /// // Refused as too long, and then too long to be skipped.
    /// for is_lost in [false, true] {
    ///     receiver.poll().ok();
    ///     receiver.space(8).unwrap().copy_from_slice(b"a line w");
    ///     receiver.filled(8);
    ///     receiver.poll().ok();
    ///     receiver.poll().ok();
    ///     assert_eq!(receiver.is_lost(), is_lost);
    /// }
    /// ```
    pub fn is_lost(&self) -> bool {
        self.decoder.is_lost()
    }

    /// Whether a message was received in part: a timeout for messages applies only then.
    pub fn is_mid_block(&self) -> bool {
        !self.window.unread(self.buffer.as_ref().len()).is_empty() || self.decoder.is_mid_block()
    }

    /// The bytes of a [`Polled::Payload`]. They are valid until the next call that changes the receiver.
    pub fn payload(&self, bytes: Range<usize>) -> &[u8] {
        self.buffer.as_ref().get(bytes).unwrap_or_default()
    }

    /// Whether the framing has message boundaries: see [`Decode::has_boundaries`].
    #[inline]
    pub(crate) fn has_boundaries(&self) -> bool {
        self.decoder.has_boundaries()
    }

    /// The result of a receive of a whole message. `found` is `None` if the peer closed.
    pub(crate) fn message(&self, found: Option<Polled>) -> Received<'_> {
        match found {
            Some(Polled::Payload { bytes, .. }) => Received::Message(self.payload(bytes)),
            Some(Polled::End) => Received::End,
            Some(Polled::NeedMore { .. }) | None => Received::Closed,
        }
    }

    /// The result of a receive of a piece. `found` is `None` if the peer closed.
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

    /// The result of a read of 0 bytes: the peer closed.
    pub(crate) fn closed<E>(&mut self) -> Result<Option<Polled>, ReceiveError<E>> {
        match self.close() {
            Some(fault) => Err(ReceiveError::Fault(fault)),
            None => Ok(None),
        }
    }

    /// [`space`](Self::space), or the error for a buffer that is too small.
    pub(crate) fn spare<E>(&mut self, want: usize) -> Result<&mut [u8], ReceiveError<E>> {
        let len = self.buffer.as_ref().len();
        self.space(want).ok_or(ReceiveError::BufferTooSmall { len })
    }
}

impl<F: Framing, B: Buffer, S: SkipMax> Receiver<F, B, KeepTruncated<S>> {
    /// The bytes of the message that the last [`close`](Self::close) cut, until memory for more is taken by
    /// [`space`](Self::space). Of a message that was received in pieces, the bytes after the last piece. Empty if a header
    /// was cut, or no message.
    ///
    /// ```
    /// use framing_core::{Lines, Receiver};
    ///
    /// let mut receiver = Receiver::new(Lines, [0; 16]).with_truncated();
    /// receiver.space(4).unwrap().copy_from_slice(b"last");
    /// receiver.filled(4);
    /// receiver.poll()?;
    /// assert!(receiver.close().is_some());
    /// assert_eq!(receiver.truncated(), b"last");
    /// # Ok::<(), framing_core::Fault>(())
    /// ```
    pub fn truncated(&self) -> &[u8] {
        self.payload(self.skip_max.kept())
    }
}

#[cfg(feature = "defmt")]
impl<F: Framing<Decoder: defmt::Format>, B, S> defmt::Format for Receiver<F, B, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Receiver({})", self.decoder);
    }
}
