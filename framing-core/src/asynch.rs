//! Readers and writers over [`embedded_io_async`], for embassy and, by an adapter, Tokio. The same as
//! [`blocking`](crate::blocking), with calls to await.
//!
//! Start with [`Reader`] and [`Writer`], or with [`Framed`] for both directions over one transport. (`async` is a
//! keyword, so the module has the name that embassy uses.)
//!
//! # Cancel-safety
//!
//! The reader and the writer keep all progress, a future none.
//!
//! A receive can be dropped at any await, and no byte is lost, if `read` of the transport loses none when it is dropped.
//! This holds for the TCP sockets of `embassy-net` and Tokio. A UART with DMA may lose the bytes of the transfer in
//! progress.
//!
//! A send can be dropped at any await, too. If bytes of the message were written, the writer refuses another message until
//! this one is [resumed](Writer::resume) or [abandoned](Writer::abandon).
//!
//! ```
//! use framing_core::asynch::Reader;
//! use framing_core::{Lines, Received};
//! use futures::{FutureExt, executor::block_on};
//! # use framing_core::embedded_io_async::{ErrorType, Read};
//! # struct Uart(&'static [&'static [u8]], bool);
//! # impl ErrorType for Uart { type Error = core::convert::Infallible; }
//! # impl Read for Uart {
//! #     async fn read(&mut self, to: &mut [u8]) -> Result<usize, Self::Error> {
//! #         self.1 = !self.1;
//! #         if !self.1 { core::future::pending::<()>().await; }
//! #         let (&now, later) = self.0.split_first().unwrap();
//! #         self.0 = later;
//! #         to[..now.len()].copy_from_slice(now);
//! #         Ok(now.len())
//! #     }
//! # }
//! # let uart = Uart(&[b"sto", b"p\n"], false);
//!
//! let mut reader = Reader::new(uart, Lines, [0; 16]);
//! // Only `sto` arrives before the timeout drops the receive.
//! assert_eq!(reader.receive().now_or_never(), None);
//! // The next receive has it.
//! assert_eq!(block_on(reader.receive()), Ok(Received::Message(b"stop")));
//! ```

use embedded_io_async::{ErrorType, Read, Write};

use crate::fault::{ReceiveError, Refusal, SendError};
use crate::framing::{Framing, UnitFraming};
use crate::kept::{KeepTruncated, SkipMax};
use crate::payload::Payload;
use crate::received::{Received, ReceivedPiece};
use crate::receiver::{Buffer, Polled, Receiver};
use crate::sender::Sender;

mod framed;
mod link;

pub use self::framed::Framed;
pub use self::link::Link;

/// Receives messages from a transport into a buffer.
///
/// With a framing that declares lengths, it never reads past the message that it returns, so the transport can be used
/// for something else after any message.
///
/// ```
/// use framing_core::asynch::Reader;
/// use framing_core::{Blocks, ReceiveError, Received};
///
/// // A reader is a type of the transport, the framing and the buffer.
/// struct Downlink<R> {
///     reader: Reader<R, Blocks, [u8; 16]>,
/// }
///
/// # futures::executor::block_on(async {
/// let mut downlink = Downlink { reader: Reader::new(&b"\0\0\0\x05reset"[..], Blocks, [0; 16]) };
/// assert_eq!(downlink.reader.receive().await, Ok(Received::Message(b"reset")));
/// # });
/// ```
#[derive(Debug)]
pub struct Reader<R, F: Framing, B, S = ()> {
    io: R,
    receiver: Receiver<F, B, S>,
}

impl<R: Read, F: Framing, B: Buffer> Reader<R, F, B> {
    /// A reader at the beginning of a stream. The buffer limits the messages that are received whole: see `buffer_len` of
    /// each framing.
    ///
    /// To build one in a `static`, use [`const_new`](Reader::const_new).
    pub fn new(io: R, framing: F, buffer: B) -> Self {
        Self {
            io,
            receiver: Receiver::new(framing, buffer),
        }
    }
}

impl<R: Read, F: UnitFraming, const N: usize> Reader<R, F, [u8; N]> {
    /// [`new`](Self::new) in a constant: see [`UnitFraming`].
    pub const fn const_new(io: R, framing: F, buffer: [u8; N]) -> Self {
        Self {
            io,
            receiver: Receiver::const_new(framing, buffer),
        }
    }
}

impl<R: Read, F: Framing, B: Buffer, S: SkipMax> Reader<R, F, B, S> {
    /// Sets the longest message that is skipped, in bytes. The default is 16 MiB
    /// ([`Limits::SKIP_MAX`](crate::Limits::SKIP_MAX)). A longer one loses the framing
    /// ([`Fault::is_lost`](crate::Fault::is_lost)).
    pub fn with_skip_max(self, skip_max: u32) -> Reader<R, F, B, u32> {
        Reader {
            io: self.io,
            receiver: self.receiver.with_skip_max(skip_max),
        }
    }

    /// Keeps the bytes of a message that a close cuts: see [`truncated`](Reader::truncated). Takes two words of memory, and
    /// no copy. Call it after [`with_skip_max`](Self::with_skip_max).
    pub fn with_truncated(self) -> Reader<R, F, B, KeepTruncated<S>> {
        Reader {
            io: self.io,
            receiver: self.receiver.with_truncated(),
        }
    }

    /// Receives the next message whole. A message that is longer than the buffer is skipped.
    ///
    /// # Errors
    /// [`ReceiveError::Fault`] once for each message that was refused. [`ReceiveError::Io`] if the transport fails.
    /// [`ReceiveError::BufferTooSmall`] if the buffer is shorter than a header. [`ReceiveError::NoBoundaries`] for
    /// `stream`. Repeat the call after any error to continue.
    ///
    /// # Cancel-safety
    /// Cancel-safe, if `read` of the transport is: see [the module](self#cancel-safety).
    pub async fn receive(&mut self) -> Result<Received<'_>, ReceiveError<R::Error>> {
        if !self.receiver.has_boundaries() {
            return Err(ReceiveError::NoBoundaries);
        }
        let found = self.find::<false>().await?;
        Ok(self.receiver.message(found))
    }

    /// Receives the next piece of a message, which may be longer than the buffer.
    ///
    /// Calls of both kinds can be mixed. After a [`Fault::TooLong`](crate::Fault::TooLong) that is not lost,
    /// `receive_piece` returns the message that [`receive`](Self::receive) would skip. After a piece, `receive` skips the
    /// rest of that message.
    ///
    /// # Errors
    /// As [`receive`](Self::receive), except that no message is too long.
    ///
    /// # Cancel-safety
    /// Cancel-safe, if `read` of the transport is: see [the module](self#cancel-safety).
    pub async fn receive_piece(&mut self) -> Result<ReceivedPiece<'_>, ReceiveError<R::Error>> {
        let found = self.find::<true>().await?;
        Ok(self.receiver.piece(found))
    }

    /// Whether the framing is lost: everything is dropped until the peer closes. True after a fault that
    /// [is lost](crate::Fault::is_lost), and if a message that was refused as too long could not be skipped.
    pub fn is_lost(&self) -> bool {
        self.receiver.is_lost()
    }

    /// Whether messages can be received whole: `false` for `stream` only.
    pub fn has_boundaries(&self) -> bool {
        self.receiver.has_boundaries()
    }

    /// Whether a message was received in part: a timeout for messages applies only then.
    pub fn is_mid_block(&self) -> bool {
        self.receiver.is_mid_block()
    }

    /// The transport, for example to change its settings. Bytes that are read from it are missing in the messages.
    pub fn io_mut(&mut self) -> &mut R {
        &mut self.io
    }

    /// Returns the transport. Bytes of the next message that were already read are lost.
    pub fn into_io(self) -> R {
        self.io
    }

    async fn find<const STREAMING: bool>(
        &mut self,
    ) -> Result<Option<Polled>, ReceiveError<R::Error>> {
        loop {
            let want = match self.receiver.step::<STREAMING>()? {
                None => continue,
                Some(Polled::NeedMore { want }) => want,
                found => return Ok(found),
            };
            let spare = self.receiver.spare(want)?;
            let most = spare.len();
            match self.io.read(spare).await.map_err(ReceiveError::Io)? {
                0 => return self.receiver.closed(),
                // A faulty transport may claim more bytes than the buffer has.
                len => self.receiver.filled(len.min(most)),
            }
        }
    }
}

impl<R: Read, F: Framing, B: Buffer, S: SkipMax> Reader<R, F, B, KeepTruncated<S>> {
    /// The bytes of the message that was cut, after [`Fault::Truncated`](crate::Fault::Truncated) and until the next call.
    /// Of a message that was received in pieces, the bytes after the last piece. Empty if a header was cut.
    ///
    /// ```
    /// use framing_core::asynch::Reader;
    /// use framing_core::{Fault, Lines, ReceiveError, Received};
    ///
    /// # futures::executor::block_on(async {
    /// // A file whose last line has no line end.
    /// let mut reader = Reader::new(&b"a\nlast"[..], Lines, [0; 16]).with_truncated();
    /// assert_eq!(reader.receive().await, Ok(Received::Message(b"a")));
    /// let cut = reader.receive().await;
    /// assert!(matches!(cut, Err(ReceiveError::Fault(Fault::Truncated { have: 4, .. }))));
    /// assert_eq!(reader.truncated(), b"last");
    /// assert_eq!(reader.receive().await, Ok(Received::Closed));
    /// assert_eq!(reader.truncated(), b"");
    /// # });
    /// ```
    pub fn truncated(&self) -> &[u8] {
        self.receiver.truncated()
    }
}

/// Sends messages to a transport. Only [`finish`](Self::finish) and [`flush`](Self::flush) flush it.
///
/// It is not `Clone`, because two copies would send the rest of one message twice.
///
/// ```
/// use framing_core::asynch::Writer;
/// use framing_core::embedded_io_async::Write;
/// use framing_core::{Blocks, SendError};
///
/// // A writer is a type of the transport and the framing.
/// struct Uplink<W> {
///     writer: Writer<W, Blocks>,
/// }
///
/// impl<W: Write> Uplink<W> {
///     async fn report(&mut self, celsius: u8) -> Result<(), SendError<W::Error>> {
///         self.writer.send(&[celsius]).await
///     }
/// }
///
/// # futures::executor::block_on(async {
/// let mut wire = [0; 5];
/// let mut uplink = Uplink { writer: Writer::new(&mut wire[..], Blocks) };
/// uplink.report(21).await.expect("five bytes of memory");
/// assert_eq!(&wire, b"\0\0\0\x01\x15");
/// # });
/// ```
#[derive(Debug)]
pub struct Writer<W, F: Framing> {
    io: W,
    sender: Sender<F>,
}

impl<W: Write, F: UnitFraming> Writer<W, F> {
    /// [`new`](Self::new) in a constant: see [`UnitFraming`].
    pub const fn const_new(io: W, framing: F) -> Self {
        Self {
            io,
            sender: Sender::const_new(framing),
        }
    }
}

impl<W: Write, F: Framing> Writer<W, F> {
    /// A writer at the beginning of a stream. To build one in a `static`, use [`const_new`](Writer::const_new).
    pub fn new(io: W, framing: F) -> Self {
        Self {
            io,
            sender: Sender::new(framing),
        }
    }

    /// Sends a message. A message of up to 64 bytes on the wire is passed to the transport in one write; in `lines` and
    /// `delimited`, one of up to 56 bytes of payload. Of a longer one, the first write has the header and the first bytes of
    /// the payload, 16 bytes together; the rest is not copied. `cobs` does so for each long group.
    ///
    /// # Errors
    /// [`SendError::Refused`] before a byte is written. After [`SendError::Io`] or [`SendError::WriteZero`] the message may
    /// be sent in part: [`resume`](Self::resume) it, [`abandon`](Self::abandon) it, or close the connection.
    ///
    /// # Cancel-safety
    /// If the future is dropped, the message may be sent in part, as after an error: see
    /// [`is_mid_block`](Self::is_mid_block).
    pub fn send(
        &mut self,
        payload: &[u8],
    ) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<true, _, _>(self, payload, Sender::begin_whole)
    }

    /// Sends several parts as one message. Example: [`blocking::Writer::send_parts`](crate::blocking::Writer::send_parts).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel-safety
    /// As [`send`](Self::send).
    pub fn send_parts(
        &mut self,
        parts: &[&[u8]],
    ) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<true, _, _>(self, parts, Sender::begin_whole)
    }

    /// Begins a message of `total` bytes, which [`send_piece`](Self::send_piece) sends. Writes nothing yet. Example: [`blocking::Writer::begin`](crate::blocking::Writer::begin).
    ///
    /// # Errors
    /// [`SendError::Refused`] if the framing has no messages of this length or does not send pieces
    /// ([`Refusal::NoPieces`]), or an earlier message was sent in part.
    pub fn begin(&mut self, total: u32) -> Result<(), SendError<W::Error>> {
        Ok(self.sender.begin(total)?)
    }

    /// Sends the next bytes of a message that was begun. The last of them end the message. An empty message needs one
    /// empty piece. An empty first piece sends the header alone.
    ///
    /// # Errors
    /// As [`send`](Self::send). [`Refusal::Overrun`] if the piece is longer than the rest of the message.
    ///
    /// # Cancel-safety
    /// As [`send`](Self::send).
    pub fn send_piece(
        &mut self,
        piece: &[u8],
    ) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<false, _, _>(self, piece, Sender::begin_piece)
    }

    /// Goes on with a [`send`](Self::send), [`send_parts`](Self::send_parts) or [`send_piece`](Self::send_piece) that
    /// failed or was dropped. Pass the same bytes; the writer sends those that are missing. Example:
    /// [`blocking::Writer::resume`](crate::blocking::Writer::resume).
    ///
    /// # Errors
    /// As [`send`](Self::send). [`Refusal::Overrun`] if there is nothing to resume, or the length is another.
    ///
    /// # Cancel-safety
    /// As [`send`](Self::send).
    pub fn resume(
        &mut self,
        parts: &[&[u8]],
    ) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<false, _, _>(self, parts, |sender, parts| sender.resume(parts))
    }

    /// Abandons a message that was sent in part, so the receiver finds the next one. For a serial line, which cannot be
    /// closed. Example: [`blocking::Writer::abandon`](crate::blocking::Writer::abandon).
    ///
    /// In `cobs`, the receiver gets [`Fault::EarlyEnd`](crate::Fault::EarlyEnd); but if all of the payload is in the sender
    /// already, as with every short message, the rest is sent and the message arrives whole. In `lines` and `delimited`, the
    /// receiver gets the part that was sent as a message. So let the payload carry a checksum, and a number if a second
    /// arrival matters. Does nothing if no message was sent in part.
    ///
    /// # Errors
    /// [`Refusal::Unfinished`] if the framing cannot resynchronise (one with lengths, or a delimiter that begins as it
    /// ends): close the connection. Others as [`send`](Self::send); then call it again.
    ///
    /// # Cancel-safety
    /// If the future is dropped, call it again.
    pub fn abandon(&mut self) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<false, _, [u8]>(self, &[], |sender, _| sender.abandon())
    }

    /// Ends the series and flushes. In `blocks`, a length of zero ends the series; other framings have no end mark, so only
    /// the flush is left.
    ///
    /// `Ok` means what a [`flush`](Self::flush) of the transport means, which may be little.
    ///
    /// # Errors
    /// As [`send`](Self::send). After an error of the transport, call it again: the mark is written once.
    ///
    /// # Cancel-safety
    /// If the future is dropped, call it again: the mark is written once.
    pub fn finish(&mut self) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        finish(self)
    }

    /// Flushes the transport.
    ///
    /// On `embassy-net` 0.9 this waits until the peer has acknowledged everything, or until the socket is closed: it also
    /// returns `Ok` after a reset, a timeout, or the loss of the address. Check the socket directly after it. Only with a
    /// state other than `Closed` and a `send_queue` of 0 was everything acknowledged. On Tokio and the standard library, a
    /// flush of TCP says nothing about the peer.
    ///
    /// # Errors
    /// [`SendError::Io`] if the transport fails.
    ///
    /// # Cancel-safety
    /// As `flush` of the transport.
    pub fn flush(&mut self) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        flush(self)
    }

    /// Whether a message was sent in part.
    pub fn is_mid_block(&self) -> bool {
        self.sender.is_mid_block()
    }

    /// The transport, for example to change its settings. Bytes that are written to it arrive between
    /// two messages, or damage one that is sent in part.
    pub fn io_mut(&mut self) -> &mut W {
        &mut self.io
    }

    /// Returns the transport. The rest of a message that was sent in part is lost.
    pub fn into_io(self) -> W {
        self.io
    }
}

#[cfg(feature = "defmt")]
impl<R, F: Framing<Decoder: defmt::Format>, B, S> defmt::Format for Reader<R, F, B, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        self.receiver.format(f);
    }
}

#[cfg(feature = "defmt")]
impl<W, F: Framing<Encoder: defmt::Format>> defmt::Format for Writer<W, F> {
    fn format(&self, f: defmt::Formatter<'_>) {
        self.sender.format(f);
    }
}

/// A transport with the state of its sending direction.
trait Outgoing {
    type Io: Write;
    type Framing: Framing;

    /// Borrows both at once.
    fn parts(&mut self) -> (&mut Self::Io, &mut Sender<Self::Framing>);
}

impl<W: Write, F: Framing> Outgoing for Writer<W, F> {
    type Io = W;
    type Framing = F;

    #[inline]
    fn parts(&mut self) -> (&mut W, &mut Sender<F>) {
        (&mut self.io, &mut self.sender)
    }
}

type Sent<T> = Result<(), SendError<<<T as Outgoing>::Io as ErrorType>::Error>>;

/// Begins a call that sends, and writes all of it. `WHOLE` promises that `begin` begins a whole message.
///
/// `begin` is called here, not in the public functions: as `async fn`s of their own, they would store their arguments once
/// more (24 bytes of code on a Cortex-M4).
async fn write<const WHOLE: bool, T: Outgoing, P: Payload + ?Sized>(
    to: &mut T,
    payload: &P,
    begin: impl FnOnce(&mut Sender<T::Framing>, &P) -> Result<(), Refusal>,
) -> Sent<T> {
    begin(to.parts().1, payload)?;
    loop {
        let (io, sender) = to.parts();
        let chunk = sender.chunk_of::<WHOLE, P>(payload);
        if chunk.is_empty() {
            return Ok(());
        }
        let most = chunk.len();
        match io.write(chunk).await.map_err(SendError::Io)? {
            0 => return Err(SendError::WriteZero),
            len => sender.wrote(len.min(most)),
        }
    }
}

/// Writes the mark that ends a series, then flushes.
async fn finish<T: Outgoing>(to: &mut T) -> Sent<T> {
    write::<false, T, [u8]>(to, &[], |sender, _| sender.begin_end()).await?;
    flush(to).await
}

async fn flush<T: Outgoing>(to: &mut T) -> Sent<T> {
    let (io, sender) = to.parts();
    io.flush().await.map_err(SendError::Io)?;
    sender.flushed();
    Ok(())
}
