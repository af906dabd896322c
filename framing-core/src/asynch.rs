//! The shell over [`embedded_io_async`]: the loops of [`blocking`](crate::blocking), awaiting. `async` is a keyword, so
//! the module has the name that embassy uses.
//!
//! # Cancel-safety
//!
//! All progress lives in the reader and the writer, none in a future. A receive future can be dropped at any
//! time and nothing is lost, if the transport's own `read` is so: if dropping it before it is ready takes no
//! bytes. That is true of `embassy-net`'s and Tokio's TCP sockets; a UART driven by DMA may lose what it had in
//! flight. A send future can be dropped too: the writer knows how far it came, and refuses the next message
//! until the last was [resumed](Writer::resume), unless none of its bytes was written.

use embedded_io_async::{ErrorType, Read, Write};

use crate::fault::{ReceiveError, Refusal, SendError};
use crate::framing::Framing;
use crate::payload::Payload;
use crate::receiver::{Buffer, Polled, Received, ReceivedPiece, Receiver, SkipMax};
use crate::sender::Sender;

mod framed;

pub use self::framed::Framed;

/// Receives messages from a transport into a buffer.
///
/// With a framing that says lengths beforehand, it never reads behind the message that it returns, so the
/// transport can be handed over between messages.
///
/// ```
/// use framing_core::asynch::Reader;
/// use framing_core::{Blocks, ReceiveError, Received};
///
/// /// The reader can be named, so it can be kept.
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
    /// A reader at the beginning of a stream. The longest message that it receives whole is what the buffer
    /// holds: `buffer_len` of each framing.
    pub fn new(io: R, framing: F, buffer: B) -> Self {
        Self {
            io,
            receiver: Receiver::new(framing, buffer),
        }
    }
}

impl<R: Read, F: Framing, B: Buffer, S: SkipMax> Reader<R, F, B, S> {
    /// The same, with another length of the longest message, in bytes, that is skipped:
    /// see [`Limits::skip_max`](crate::Limits::skip_max).
    pub fn with_skip_max(self, skip_max: u32) -> Reader<R, F, B, u32> {
        Reader {
            io: self.io,
            receiver: self.receiver.with_skip_max(skip_max),
        }
    }

    /// Receives the next message whole. One that is too long is skipped.
    ///
    /// # Errors
    /// [`ReceiveError::Fault`] once for each message that was refused. Repeat the call after any error to go on.
    /// [`ReceiveError::NoBoundaries`] for a `stream`, which comes in pieces only.
    ///
    /// # Cancel-safety
    /// Safe, as said [above](self).
    pub async fn receive(&mut self) -> Result<Received<'_>, ReceiveError<R::Error>> {
        if !self.receiver.has_boundaries() {
            return Err(ReceiveError::NoBoundaries);
        }
        let found = self.find::<false>().await?;
        Ok(self.receiver.message(found))
    }

    /// The next piece of a message, which may be longer than the buffer.
    ///
    /// The kind of call may change at any time. Called right after a [`Fault::TooLong`](crate::Fault::TooLong)
    /// that is not lost, it hands out the message that would be skipped; [`receive`](Self::receive) skips what
    /// is left of a message that was begun in pieces.
    ///
    /// # Errors
    /// As of [`receive`](Self::receive); no message is too long.
    ///
    /// # Cancel-safety
    /// Safe, as said [above](self).
    pub async fn receive_piece(&mut self) -> Result<ReceivedPiece<'_>, ReceiveError<R::Error>> {
        let found = self.find::<true>().await?;
        Ok(self.receiver.piece(found))
    }

    /// Whether messages can be received whole: `false` for a `stream` only.
    pub fn has_boundaries(&self) -> bool {
        self.receiver.has_boundaries()
    }

    /// Whether part of a message has come, and its rest has not: what a time-out should ask.
    pub fn is_mid_block(&self) -> bool {
        self.receiver.is_mid_block()
    }

    /// The transport.
    pub fn io_mut(&mut self) -> &mut R {
        &mut self.io
    }

    /// Gives the transport back. Bytes that were read behind the last message are lost.
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
                // A transport that claims more than it can have read is not believed.
                len => self.receiver.filled(len.min(most)),
            }
        }
    }
}

/// Sends messages to a transport. Never flushes but in [`finish`](Self::finish) and [`flush`](Self::flush).
///
/// ```
/// use framing_core::asynch::Writer;
/// use framing_core::embedded_io_async::Write;
/// use framing_core::{Blocks, SendError};
///
/// /// The writer can be named, so it can be kept.
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

impl<W: Write, F: Framing> Writer<W, F> {
    /// A writer at the beginning of a stream.
    pub fn new(io: W, framing: F) -> Self {
        Self {
            io,
            sender: Sender::new(framing),
        }
    }

    /// Sends a message. Up to 64 bytes on the wire leave in one write; of a longer message, 16 bytes leave with its
    /// header, which counts, and the rest is not copied.
    ///
    /// # Errors
    /// [`SendError::Refused`] before a byte is written. After another error the message may be on the wire in
    /// part: [`resume`](Self::resume), or close.
    ///
    /// # Cancel-safety
    /// Dropped, it leaves the message unfinished as an error does: see [`is_mid_block`](Self::is_mid_block).
    pub fn send(
        &mut self,
        payload: &[u8],
    ) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<true, _, _>(self, payload, Sender::begin_whole)
    }

    /// Sends a message that lies in parts, one behind the other.
    ///
    /// # Errors
    /// As of [`send`](Self::send).
    ///
    /// # Cancel-safety
    /// As of [`send`](Self::send).
    pub fn send_parts(
        &mut self,
        parts: &[&[u8]],
    ) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<true, _, _>(self, parts, Sender::begin_whole)
    }

    /// Begins a message of `total` bytes; [`send_piece`](Self::send_piece) sends them. Writes nothing yet.
    ///
    /// # Errors
    /// [`SendError::Refused`].
    pub fn begin(&mut self, total: u32) -> Result<(), SendError<W::Error>> {
        Ok(self.sender.begin(total)?)
    }

    /// Sends the next bytes of a message that was begun; the last ones end it. An empty message needs one
    /// empty piece.
    ///
    /// # Errors
    /// As of [`send`](Self::send).
    ///
    /// # Cancel-safety
    /// As of [`send`](Self::send).
    pub fn send_piece(
        &mut self,
        piece: &[u8],
    ) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<false, _, _>(self, piece, Sender::begin_piece)
    }

    /// Goes on with a send (or a piece) that an error or a dropped future ended, given the same bytes.
    ///
    /// # Errors
    /// As of [`send`](Self::send); [`Refusal::Overrun`] where there is nothing to resume, or the
    /// bytes are not as many.
    ///
    /// # Cancel-safety
    /// As of [`send`](Self::send).
    pub fn resume(
        &mut self,
        parts: &[&[u8]],
    ) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<false, _, _>(self, parts, |sender, parts| sender.resume(parts))
    }

    /// Gives up a message that an error or a dropped future ended, and makes the line ready for the next one: for a serial line, where
    /// closing is not possible. Call it again after an error.
    ///
    /// `cobs` reports [`Fault::EarlyEnd`](crate::Fault::EarlyEnd) to the receiver. In `lines` and `delimited` the part
    /// that is on the wire arrives as a message of its own: let the payload carry a checksum.
    ///
    /// # Errors
    /// [`Refusal::Unfinished`] if the framing cannot resynchronise (those with lengths, and a delimiter that begins as
    /// it ends): close the connection. Others as of [`send`](Self::send).
    ///
    /// # Cancel-safety
    /// Dropped, it is to be called again.
    pub fn abandon(&mut self) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        write::<false, _, [u8]>(self, &[], |sender, _| sender.abandon())
    }

    /// Ends the series (in `blocks`, by a length of zero; other framings have no mark), and flushes.
    ///
    /// # Errors
    /// As of [`send`](Self::send). After an error of the transport, call it again: the mark is written once.
    ///
    /// # Cancel-safety
    /// Dropped, it is to be called again.
    pub fn finish(&mut self) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        finish(self)
    }

    /// Flushes the transport. On `embassy-net` that waits until the peer has acknowledged everything.
    ///
    /// # Errors
    /// [`SendError::Io`].
    ///
    /// # Cancel-safety
    /// As of the transport's own `flush`.
    pub fn flush(&mut self) -> impl Future<Output = Result<(), SendError<W::Error>>> {
        flush(self)
    }

    /// Whether a message is on the wire in part.
    pub fn is_mid_block(&self) -> bool {
        self.sender.is_mid_block()
    }

    /// The transport.
    pub fn io_mut(&mut self) -> &mut W {
        &mut self.io
    }

    /// Gives the transport back.
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

    /// Both, borrowed at once.
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

/// Begins a call that sends, and writes all of it. `WHOLE` where a whole message is begun. Here, not by who calls this: a future in
/// another keeps what it was given once more (24 bytes of code on a Cortex-M4).
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

/// Writes the mark that ends a series, and flushes.
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
