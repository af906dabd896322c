//! The shell over [`embedded_io`]: calls block until the transport has delivered or taken what is needed.

use embedded_io::{Read, Write};

use crate::fault::{ReceiveError, Refusal, SendError};
use crate::framing::{Decode, Encode, Framing};
use crate::payload::Payload;
use crate::receiver::{Buffer, Polled, Received, Receiver, SkipMax};
use crate::sender::Sender;

/// Receives messages from a transport into a buffer.
///
/// With a framing that says lengths beforehand, it never reads behind the message that it returns, so the
/// transport can be handed over between messages.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Reader<R, D: Decode, B, S = ()> {
    io: R,
    receiver: Receiver<D, B, S>,
}

impl<R: Read, D: Decode, B: Buffer> Reader<R, D, B> {
    /// A reader at the beginning of a stream. The longest message that it receives whole is what the buffer
    /// holds: `buffer_len` of each framing.
    pub fn new(io: R, framing: impl Framing<Decoder = D>, buffer: B) -> Self {
        Self {
            io,
            receiver: Receiver::new(framing, buffer),
        }
    }
}

impl<R: Read, D: Decode, B: Buffer, S: SkipMax> Reader<R, D, B, S> {
    /// The same, with another length of the longest message, in bytes, that is skipped:
    /// see [`Limits::skip_max`](crate::Limits::skip_max).
    pub fn with_skip_max(self, skip_max: u32) -> Reader<R, D, B, u32> {
        Reader {
            io: self.io,
            receiver: self.receiver.with_skip_max(skip_max),
        }
    }

    /// The next message, whole; one that is too long is skipped. A `stream` gives [`Received::Piece`].
    ///
    /// # Errors
    /// [`ReceiveError::Fault`] once for each message that was refused. Repeat the call after any error to go on.
    pub fn receive(&mut self) -> Result<Received<'_>, ReceiveError<R::Error>> {
        let this = in_memory(self);
        let polled = this.find::<false>()?;
        Ok(this.receiver.block(polled))
    }

    /// The next piece of a message, which may be longer than the buffer.
    ///
    /// The kind of call may change at any time. Called right after a [`Fault::TooLong`](crate::Fault::TooLong)
    /// that is not lost, it hands out the message that would be skipped; [`receive`](Self::receive) skips what
    /// is left of a message that was begun in pieces.
    ///
    /// # Errors
    /// As of [`receive`](Self::receive); no message is too long.
    pub fn receive_piece(&mut self) -> Result<Received<'_>, ReceiveError<R::Error>> {
        let polled = self.find::<true>()?;
        Ok(self.receiver.received(polled))
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

    fn find<const STREAMING: bool>(&mut self) -> Result<Polled, ReceiveError<R::Error>> {
        loop {
            let want = match self.receiver.step::<STREAMING>()? {
                None => continue,
                Some(Polled::NeedMore { want }) => want,
                Some(polled) => return Ok(polled),
            };
            let spare = self.receiver.spare(want)?;
            let most = spare.len();
            match self.io.read(spare).map_err(ReceiveError::Io)? {
                0 => return self.receiver.closed(),
                // A transport that claims more than it can have read is not believed.
                len => self.receiver.filled(len.min(most)),
            }
        }
    }
}

/// Sends messages to a transport. Never flushes but in [`finish`](Self::finish) and [`flush`](Self::flush).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Writer<W, E: Encode> {
    io: W,
    sender: Sender<E>,
}

impl<W: Write, E: Encode> Writer<W, E> {
    /// A writer at the beginning of a stream.
    pub fn new(io: W, framing: impl Framing<Encoder = E>) -> Self {
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
    pub fn send(&mut self, payload: &[u8]) -> Result<(), SendError<W::Error>> {
        self.write::<true, _>(payload, Sender::begin_whole)
    }

    /// Sends a message that lies in parts, one behind the other.
    ///
    /// # Errors
    /// As of [`send`](Self::send).
    pub fn send_parts(&mut self, parts: &[&[u8]]) -> Result<(), SendError<W::Error>> {
        self.write::<true, _>(parts, Sender::begin_whole)
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
    pub fn send_piece(&mut self, piece: &[u8]) -> Result<(), SendError<W::Error>> {
        self.write::<false, _>(piece, Sender::begin_piece)
    }

    /// Goes on with a send (or a piece) that an error ended, given the same bytes.
    ///
    /// # Errors
    /// As of [`send`](Self::send); [`Refusal::Overrun`] where there is nothing to resume, or the
    /// bytes are not as many.
    pub fn resume(&mut self, parts: &[&[u8]]) -> Result<(), SendError<W::Error>> {
        self.write::<false, _>(parts, |sender, parts| sender.resume(parts))
    }

    /// Ends the series (in `blocks`, by a length of zero; other framings have no mark), and flushes.
    ///
    /// # Errors
    /// As of [`send`](Self::send). After an error of the transport, call it again: the mark is written once.
    pub fn finish(&mut self) -> Result<(), SendError<W::Error>> {
        self.write::<false, [u8]>(&[], |sender, _| sender.begin_end())?;
        self.flush()
    }

    /// Flushes the transport.
    ///
    /// # Errors
    /// [`SendError::Io`].
    pub fn flush(&mut self) -> Result<(), SendError<W::Error>> {
        self.io.flush().map_err(SendError::Io)?;
        self.sender.flushed();
        Ok(())
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

    /// `WHOLE` where a whole message is begun.
    fn write<const WHOLE: bool, P: Payload + ?Sized>(
        &mut self,
        payload: &P,
        begin: impl FnOnce(&mut Sender<E>, &P) -> Result<(), Refusal>,
    ) -> Result<(), SendError<W::Error>> {
        begin(&mut self.sender, payload)?;
        loop {
            let chunk = self.sender.chunk_of::<WHOLE, P>(payload);
            if chunk.is_empty() {
                return Ok(());
            }
            let most = chunk.len();
            match self.io.write(chunk).map_err(SendError::Io)? {
                0 => return Err(SendError::WriteZero),
                len => self.sender.wrote(len.min(most)),
            }
        }
    }
}

/// The same, behind a pointer that the compiler cannot see through: a state that it keeps in registers is stored anew
/// at every way out (120 bytes of code on a Cortex-M4).
#[inline(always)]
fn in_memory<T>(state: &mut T) -> &mut T {
    core::hint::black_box(state)
}
