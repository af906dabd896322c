//! The sending state without I/O: an encoder with its position. Start with [`Sender`].

use crate::encode::check_whole;
use crate::fault::Refusal;
use crate::framing::{Encode, Framing, UnitFraming};
use crate::payload::Payload;
use crate::size::size_u32;
use crate::stage::Stage;

mod abandon;
mod chunk;
mod fmt;
mod groups;

/// Longest header or trailer, in bytes.
pub(crate) const OWN_MAX: usize = 12;

/// In a later piece, all that earlier calls wrote counts as a header of this length.
const BEFORE: u8 = 1;

/// The sending state without I/O: an encoder with its position. For poll loops and interrupt handlers, where bytes do not
/// go to a `Write`.
///
/// 1. Begin a message with [`begin_whole`](Self::begin_whole), or with [`begin`](Self::begin) and
///    [`begin_piece`](Self::begin_piece).
/// 2. Write the bytes of [`chunk`](Self::chunk) and call [`advance`](Self::advance), until the chunk is empty.
///
/// The sender does not store the payload: pass the same payload to every call of `chunk`. It is not `Clone`, because two
/// copies would send the rest of one message twice.
///
/// ```
/// use framing_core::{Blocks, Sender};
///
/// let mut sender = Sender::new(Blocks);
/// let mut wire = Vec::new();
/// sender.begin_whole(b"hello")?;
/// while let chunk @ [_, ..] = sender.chunk(b"hello") {
///     // The transport takes three bytes at a time.
///     let len = chunk.len().min(3);
///     wire.extend_from_slice(&chunk[..len]);
///     sender.advance(len);
/// }
/// assert_eq!(wire, b"\0\0\0\x05hello");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
pub struct Sender<F: Framing> {
    encoder: F::Encoder,
    stage: <F::Encoder as Encode>::Stage,
    /// Payload bytes of the current call: of a message, or of a piece.
    len: usize,
    /// Bytes of the call that are written, with header and trailer. Of escaped payload: bytes of the payload, and then of
    /// its checksum, that were put into the stage. Of payload in groups: also those that were written from the payload.
    done: usize,
    /// Payload bytes of the message that belong to later calls.
    left: u32,
    /// Bytes before the payload of the current call: a header, the end mark, or [`BEFORE`]. Of payload in groups: bytes
    /// of the stage that are written.
    header: u8,
    at: Phase,
    /// Of escaped payload: a byte was sent, or put into the stage by an earlier call.
    torn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between messages.
    Idle,
    /// Before the first piece of a message.
    Begun,
    /// Within a message, or within its first piece.
    First,
    /// Within a later piece.
    Later,
    /// After the last piece, whose end is in the stage (of escaped payload).
    Last,
    /// Within the mark that ends a series.
    End,
    /// After the mark, before a flush.
    Ended,
}

/// The current call of a [`Sender`], without its progress.
#[derive(Clone, Copy)]
struct Call {
    at: Phase,
    header: usize,
    len: usize,
    left: u32,
}

impl<F: Framing<Encoder = E>, E: Encode> Sender<F> {
    /// A sender at the beginning of a stream. To build one in a `static`, use [`const_new`](Sender::const_new).
    pub fn new(framing: F) -> Self {
        Self::of(&framing)
    }

    /// [`new`](Self::new), with a framing that is borrowed.
    #[inline]
    pub(crate) fn of(framing: &F) -> Self {
        const {
            assert!(E::HEADER_MAX <= OWN_MAX, "a header has at most 12 bytes");
            assert!(E::TRAILER_MAX <= OWN_MAX, "a trailer has at most 12 bytes");
        };
        Self::with(framing.encoder(), E::Stage::new())
    }

    #[inline]
    const fn with(encoder: E, stage: E::Stage) -> Self {
        Self {
            encoder,
            stage,
            len: 0,
            done: 0,
            left: 0,
            header: 0,
            at: Phase::Idle,
            torn: false,
        }
    }

    /// Begins a message. An earlier message of which no byte was written is dropped.
    ///
    /// # Errors
    /// Any [`Refusal`] except [`Refusal::Overrun`] and [`Refusal::NoRoom`]. The sender is then unchanged.
    #[inline]
    pub fn begin_whole(&mut self, payload: &(impl Payload + ?Sized)) -> Result<(), Refusal> {
        if self.is_mid_block() {
            return Err(self.unfinished());
        }
        let total = check_whole(&mut self.encoder, payload)?;
        self.start(total)?;
        self.give(payload.len());
        Ok(())
    }

    /// Begins a message of `total` bytes that is sent in pieces. An earlier message of which no byte was written is
    /// dropped.
    ///
    /// ```
    /// use framing_core::{Blocks, Refusal, Sender};
    ///
    /// let mut sender = Sender::new(Blocks);
    /// let mut wire = Vec::new();
    /// sender.begin(8)?;
    /// for piece in [b"pres", b"sure"] {
    ///     sender.begin_piece(piece)?;
    ///     while let chunk @ [_, ..] = sender.chunk(piece) {
    ///         wire.extend_from_slice(chunk);
    ///         let len = chunk.len();
    ///         sender.advance(len);
    ///     }
    /// }
    /// assert_eq!(wire, b"\0\0\0\x08pressure");
    /// # Ok::<(), Refusal>(())
    /// ```
    ///
    /// # Errors
    /// [`Refusal::Empty`], [`Refusal::TooLong`], [`Refusal::WrongLength`], [`Refusal::NoPieces`] or
    /// [`Refusal::Unfinished`]. The sender is then unchanged.
    pub fn begin(&mut self, total: u32) -> Result<(), Refusal> {
        if self.is_mid_block() {
            return Err(self.unfinished());
        }
        if E::GROUPS {
            return Err(Refusal::NoPieces);
        }
        self.start(total)
    }

    /// Begins the next piece of a message. An empty message needs one empty piece.
    ///
    /// # Errors
    /// [`Refusal::Overrun`] if the piece is longer than the rest of the message, or no message was begun;
    /// [`Refusal::Delimiter`]; [`Refusal::Unfinished`] if the earlier piece is not written. The sender is then unchanged.
    pub fn begin_piece(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let overrun = Refusal::Overrun {
            len: piece.len(),
            left: self.left,
        };
        if matches!(self.at, Phase::Idle | Phase::Ended) {
            return Err(overrun);
        }
        if self.at != Phase::Begun && (self.left == 0 || !self.is_written()) {
            return Err(self.unfinished());
        }
        let len = u32::try_from(piece.len())
            .ok()
            .filter(|&len| len <= self.left)
            .ok_or(overrun)?;
        self.encoder
            .check(piece, self.at == Phase::Begun, len == self.left)?;
        self.give(piece.len());
        Ok(())
    }

    /// Checks that `payload` can be the one that was begun, before its rest is sent by [`chunk`](Self::chunk).
    ///
    /// # Errors
    /// [`Refusal::Overrun`] if the payload has another length, or nothing was begun.
    pub fn resume(&self, payload: &(impl Payload + ?Sized)) -> Result<(), Refusal> {
        let len = payload.len();
        if matches!(self.at, Phase::Idle | Phase::Ended) || len != self.len {
            let left = self.left();
            return Err(Refusal::Overrun { len, left });
        }
        Ok(())
    }

    /// Begins or continues the mark that ends a series. It is written once: until [`flushed`](Self::flushed) or
    /// the next message, another call begins no second mark.
    ///
    /// ```
    /// use framing_core::{Blocks, Refusal, Sender};
    ///
    /// let mut sender = Sender::new(Blocks);
    /// sender.begin_end()?;
    /// assert_eq!(sender.chunk(b""), b"\0\0\0\0");
    /// sender.advance(4);
    /// sender.flushed();
    /// assert_eq!(sender.chunk(b""), b"");
    /// # Ok::<(), Refusal>(())
    /// ```
    ///
    /// # Errors
    /// [`Refusal::Unfinished`] if a message was sent in part.
    pub fn begin_end(&mut self) -> Result<(), Refusal> {
        if matches!(self.at, Phase::End | Phase::Ended) {
            return Ok(());
        }
        if self.is_mid_block() {
            return Err(self.unfinished());
        }
        let header = self.encoder.end(own_spare::<E>(&mut [0; OWN_MAX]))?;
        self.place(Phase::End, header, 0);
        Ok(())
    }

    /// Reports that the transport was flushed: the next [`begin_end`](Self::begin_end) begins another mark.
    pub fn flushed(&mut self) {
        if self.at == Phase::Ended {
            self.at = Phase::Idle;
        }
    }

    /// The next bytes to write; empty if everything is written.
    #[inline]
    pub fn chunk<'a>(&'a mut self, payload: &'a (impl Payload + ?Sized)) -> &'a [u8] {
        self.chunk_of::<false, _>(payload)
    }

    /// [`chunk`](Self::chunk). `WHOLE` promises that the call sends a whole message.
    #[inline]
    pub(crate) fn chunk_of<'a, const WHOLE: bool, P: Payload + ?Sized>(
        &'a mut self,
        payload: &'a P,
    ) -> &'a [u8] {
        if self.is_passthrough() {
            self.chunk_passthrough::<WHOLE, P>(payload)
        } else if E::GROUPS {
            self.chunk_groups::<WHOLE, P>(payload)
        } else {
            self.chunk_escaped(payload)
        }
    }

    /// Reports that the first `len` bytes of the [`chunk`](Self::chunk) were written.
    pub fn advance(&mut self, len: usize) {
        if len != 0 {
            self.wrote(len);
        }
        if self.at != Phase::Begun && self.is_written() {
            self.complete(self.call());
        }
    }

    /// [`advance`](Self::advance), for callers that request the next chunk before any other call.
    #[inline]
    pub(crate) fn wrote(&mut self, len: usize) {
        if self.is_passthrough() {
            self.done += len;
        } else if E::GROUPS {
            self.wrote_groups(len);
        } else {
            self.torn |= len != 0;
            self.stage.sent(len);
        }
    }

    /// Whether a message, or the end mark, was sent in part.
    #[inline]
    pub fn is_mid_block(&self) -> bool {
        if self.is_passthrough() {
            self.done != 0
        } else {
            self.torn
        }
    }

    /// Begins a message of `total` bytes, unless the framing refuses it.
    #[inline]
    fn start(&mut self, total: u32) -> Result<(), Refusal> {
        let header = self
            .encoder
            .header(total, own_spare::<E>(&mut [0; OWN_MAX]))?;
        self.place(Phase::Begun, header, total);
        Ok(())
    }

    #[inline]
    fn place(&mut self, at: Phase, header: usize, total: u32) {
        (self.at, self.header) = (at, size_u32(header).to_le_bytes()[0]);
        (self.len, self.done, self.left) = (0, 0, total);
    }

    /// Begins a call with a payload of `len` bytes.
    #[inline]
    fn give(&mut self, len: usize) {
        if self.at == Phase::Begun && !self.is_passthrough() {
            self.stage.clear();
            self.encoder.begin();
        }
        // After a first piece that was empty, no byte may have been sent.
        if self.at != Phase::Begun && self.is_passthrough() && self.done != 0 {
            (self.at, self.header, self.done) = (Phase::Later, BEFORE, usize::from(BEFORE));
        } else {
            (self.at, self.done) = (Phase::First, 0);
        }
        self.len = len;
        self.left -= size_u32(len);
    }

    #[inline]
    fn call(&self) -> Call {
        Call {
            at: self.at,
            header: usize::from(self.header),
            len: self.len,
            left: self.left,
        }
    }

    /// [`call`](Self::call) for a whole message of `len` bytes: reads fewer fields.
    #[inline]
    fn whole(&self, len: usize) -> Call {
        let header = if self.encoder.header_min() == E::HEADER_MAX {
            E::HEADER_MAX
        } else {
            usize::from(self.header)
        };
        Call {
            at: Phase::First,
            header,
            len,
            left: 0,
        }
    }

    /// Whether all of the call is written.
    fn is_written(&mut self) -> bool {
        if E::GROUPS {
            return self.is_written_in_groups();
        }
        if !self.is_passthrough() {
            return self.stage.staged().is_empty()
                && self.done == self.len
                && !self.call().is_last();
        }
        let trailer = if self.call().is_last() {
            self.encoder.trailer(&mut [0; OWN_MAX]).unwrap_or_default()
        } else {
            0
        };
        usize::from(self.header) + self.len + trailer <= self.done
    }

    /// All of the call is written.
    #[inline]
    fn complete(&mut self, call: Call) {
        if call.left != 0 {
            // A piece that was put into the stage is part of the message, even if no byte of it was written.
            self.torn |= !E::PASSTHROUGH && call.len != 0;
            return;
        }
        (self.done, self.torn) = (0, false);
        self.at = match call.at {
            Phase::End | Phase::Ended => Phase::Ended,
            _ => Phase::Idle,
        };
    }

    #[inline]
    fn is_passthrough(&self) -> bool {
        E::PASSTHROUGH || self.encoder.is_passthrough()
    }

    fn unfinished(&self) -> Refusal {
        let left = self.left();
        Refusal::Unfinished { left }
    }

    /// Payload bytes of the message that are still to be sent.
    fn left(&self) -> u32 {
        if matches!(self.at, Phase::Idle | Phase::Ended) {
            return 0;
        }
        // Escaped payload has no header.
        let header = if E::GROUPS { 0 } else { self.header };
        let used = self.done.saturating_sub(usize::from(header));
        let unused = size_u32(self.len.saturating_sub(used));
        self.left.saturating_add(unused)
    }
}

impl<F: UnitFraming> Sender<F> {
    /// [`new`](Self::new) in a constant: see [`UnitFraming`].
    ///
    /// ```
    /// use framing_core::{Cobs, Sender};
    ///
    /// const SENDER: Sender<Cobs> = Sender::const_new(Cobs);
    /// # let _ = SENDER;
    /// ```
    pub const fn const_new(framing: F) -> Self {
        let _ = framing;
        Self::with(F::ENCODER, Stage::EMPTY)
    }
}

impl Call {
    /// Whether the message ends in this call, and its end is not staged yet.
    #[inline]
    fn is_last(&self) -> bool {
        self.left == 0 && matches!(self.at, Phase::First | Phase::Later)
    }
}

/// Memory for a header or an end mark: `HEADER_MAX` bytes.
#[inline]
fn own_spare<E: Encode>(own: &mut [u8; OWN_MAX]) -> &mut [u8] {
    own.get_mut(..E::HEADER_MAX).unwrap_or_default()
}
