//! Both directions over one transport. Start with [`Framed`].

use embedded_io_async::{Read, Write};

use super::{Outgoing, Reader, finish, flush, write};
use crate::fault::{ReceiveError, SendError};
use crate::framing::{Framing, UnitFraming};
use crate::kept::{KeepTruncated, SkipMax};
use crate::received::{Received, ReceivedPiece};
use crate::receiver::Buffer;
use crate::sender::Sender;

/// Receives and sends messages over one transport: a [`Reader`] and a [`Writer`](super::Writer) in one.
///
/// Every method does what the method of the same name of the [`Reader`] or the [`Writer`](super::Writer) does. Errors and cancel-safety are
/// documented there.
///
/// Each direction keeps its own progress: a receive that is dropped loses no byte, even if messages are sent before the next
/// one. While one call waits, the other direction waits, too. To receive and send at once, use a [`Reader`] and a
/// [`Writer`](super::Writer) over the halves of the transport.
///
/// ```
/// use framing_core::asynch::Framed;
/// use framing_core::embedded_io_async::{Read, Write};
/// use framing_core::{Cobs, ReceiveError, Received};
///
/// // A device on a serial port. The framing and the buffer are part of its type.
/// struct Link<T> {
///     framed: Framed<T, Cobs, [u8; 64]>,
/// }
///
/// impl<T: Read + Write> Link<T> {
///     /// Answers each request until the peer closes.
///     async fn serve(&mut self) -> Result<(), ReceiveError<T::Error>> {
///         loop {
///             let answer = match self.framed.receive().await? {
///                 Received::Message(b"ping") => &b"pong"[..],
///                 Received::Message(_) => b"unknown",
///                 Received::End => continue,
///                 Received::Closed => return Ok(()),
///             };
///             if self.framed.send(answer).await.is_err() {
///                 return Ok(());
///             }
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Framed<T, F: Framing, B, S = ()> {
    reader: Reader<T, F, B, S>,
    sender: Sender<F>,
}

impl<T: Read + Write, F: Framing, B: Buffer> Framed<T, F, B> {
    /// Both directions at the beginning of a stream. The buffer limits the messages that are received whole: see
    /// `buffer_len` of each framing.
    ///
    /// To build one in a `static`, use [`const_new`](Framed::const_new).
    pub fn new(io: T, framing: F, buffer: B) -> Self {
        Self {
            sender: Sender::of(&framing),
            reader: Reader::new(io, framing, buffer),
        }
    }
}

impl<T: Read + Write, F: UnitFraming, const N: usize> Framed<T, F, [u8; N]> {
    /// [`new`](Self::new) in a constant: see [`UnitFraming`].
    pub const fn const_new(io: T, framing: F, buffer: [u8; N]) -> Self {
        Self {
            sender: Sender::const_new(framing),
            reader: Reader::const_new(io, framing, buffer),
        }
    }
}

impl<T: Read + Write, F: Framing, B: Buffer, S: SkipMax> Framed<T, F, B, S> {
    /// Sets the longest message that is skipped, in bytes, as [`Reader::with_skip_max`].
    pub fn with_skip_max(self, skip_max: u32) -> Framed<T, F, B, u32> {
        Framed {
            reader: self.reader.with_skip_max(skip_max),
            sender: self.sender,
        }
    }

    /// Keeps the bytes of a message that a close cuts, as [`Reader::with_truncated`].
    pub fn with_truncated(self) -> Framed<T, F, B, KeepTruncated<S>> {
        Framed {
            reader: self.reader.with_truncated(),
            sender: self.sender,
        }
    }

    /// Receives the next message whole, as [`Reader::receive`].
    pub fn receive(
        &mut self,
    ) -> impl Future<Output = Result<Received<'_>, ReceiveError<T::Error>>> {
        self.reader.receive()
    }

    /// Receives the next piece of a message, as [`Reader::receive_piece`].
    pub fn receive_piece(
        &mut self,
    ) -> impl Future<Output = Result<ReceivedPiece<'_>, ReceiveError<T::Error>>> {
        self.reader.receive_piece()
    }

    /// Sends a message, as [`Writer::send`](super::Writer::send).
    pub fn send(
        &mut self,
        payload: &[u8],
    ) -> impl Future<Output = Result<(), SendError<T::Error>>> {
        write::<true, _, _>(self, payload, Sender::begin_whole)
    }

    /// Sends several parts as one message, as [`Writer::send_parts`](super::Writer::send_parts).
    pub fn send_parts(
        &mut self,
        parts: &[&[u8]],
    ) -> impl Future<Output = Result<(), SendError<T::Error>>> {
        write::<true, _, _>(self, parts, Sender::begin_whole)
    }

    /// Begins a message of `total` bytes, as [`Writer::begin`](super::Writer::begin).
    pub fn begin(&mut self, total: u32) -> Result<(), SendError<T::Error>> {
        Ok(self.sender.begin(total)?)
    }

    /// Sends the next piece of a message, as [`Writer::send_piece`](super::Writer::send_piece).
    pub fn send_piece(
        &mut self,
        piece: &[u8],
    ) -> impl Future<Output = Result<(), SendError<T::Error>>> {
        write::<false, _, _>(self, piece, Sender::begin_piece)
    }

    /// Goes on with a send that was interrupted, as [`Writer::resume`](super::Writer::resume).
    pub fn resume(
        &mut self,
        parts: &[&[u8]],
    ) -> impl Future<Output = Result<(), SendError<T::Error>>> {
        write::<false, _, _>(self, parts, |sender, parts| sender.resume(parts))
    }

    /// Abandons a send that was interrupted, as [`Writer::abandon`](super::Writer::abandon).
    pub fn abandon(&mut self) -> impl Future<Output = Result<(), SendError<T::Error>>> {
        write::<false, _, [u8]>(self, &[], |sender, _| sender.abandon())
    }

    /// Ends the series that is sent, and flushes, as [`Writer::finish`](super::Writer::finish).
    pub fn finish(&mut self) -> impl Future<Output = Result<(), SendError<T::Error>>> {
        finish(self)
    }

    /// Flushes the transport, as [`Writer::flush`](super::Writer::flush).
    pub fn flush(&mut self) -> impl Future<Output = Result<(), SendError<T::Error>>> {
        flush(self)
    }

    /// Whether the framing of the receiving direction is lost, as [`Reader::is_lost`].
    pub fn is_lost(&self) -> bool {
        self.reader.is_lost()
    }

    /// Whether messages can be received whole: `false` for `stream` only.
    pub fn has_boundaries(&self) -> bool {
        self.reader.has_boundaries()
    }

    /// Whether a message was received in part: a timeout for messages applies only then.
    pub fn is_receiving(&self) -> bool {
        self.reader.is_mid_block()
    }

    /// Whether a message was sent in part.
    pub fn is_sending(&self) -> bool {
        self.sender.is_mid_block()
    }

    /// The transport, for example to change its settings.
    pub fn io_mut(&mut self) -> &mut T {
        self.reader.io_mut()
    }

    /// Returns the transport. Bytes of the next message that were already read are lost.
    pub fn into_io(self) -> T {
        self.reader.into_io()
    }
}

impl<T: Read + Write, F: Framing, B: Buffer, S: SkipMax> Framed<T, F, B, KeepTruncated<S>> {
    /// The bytes of the message that was cut, as [`Reader::truncated`].
    pub fn truncated(&self) -> &[u8] {
        self.reader.truncated()
    }
}

impl<T: Read + Write, F: Framing, B: Buffer, S: SkipMax> Outgoing for Framed<T, F, B, S> {
    type Io = T;
    type Framing = F;

    fn parts(&mut self) -> (&mut T, &mut Sender<F>) {
        (self.reader.io_mut(), &mut self.sender)
    }
}

#[cfg(feature = "defmt")]
impl<T, F, B, S> defmt::Format for Framed<T, F, B, S>
where
    F: Framing<Decoder: defmt::Format, Encoder: defmt::Format>,
{
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Framed({}, {})", self.reader, self.sender);
    }
}
