//! How far one sending direction has come.

use crate::encode::check_whole;
use crate::fault::Refusal;
use crate::framing::{Encode, Framing};
use crate::payload::Payload;
use crate::size::size_u32;
use crate::stage::Stage;

mod abandon;
mod fmt;

/// Most bytes that a framing puts in front of a payload, or behind one that is sent as it is.
pub(crate) const OWN_MAX: usize = 12;

/// How many bytes of a message that does not fit into the stage leave with its header, which counts.
const LONG_JOINED: usize = 16;

/// What earlier calls wrote of a message stands before the payload of a later one, as so many bytes.
const BEFORE: u8 = 1;

/// The sending state without I/O: an encoder with its position. For poll loops and interrupt handlers, where the bytes
/// go elsewhere than to a `Write`.
///
/// All progress is kept here. Begin a message with [`begin_whole`](Self::begin_whole), or with
/// [`begin`](Self::begin) and [`begin_piece`](Self::begin_piece). Then write what [`chunk`](Self::chunk) gives
/// and call [`advance`](Self::advance), until the chunk is empty. Payload is not kept: the same is given at every
/// call until then.
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
    /// Payload bytes of the present call: of a message, or of a piece of one.
    len: usize,
    /// How many bytes of the call are done with: written ones, with what stands around the payload; where payload
    /// is escaped, payload bytes that the stage took.
    done: usize,
    /// Payload bytes of the message that later calls will give.
    left: u32,
    /// Bytes in front of the payload of the present call: a header, or the end mark, or [`BEFORE`].
    header: u8,
    at: Phase,
    /// Of escaped payload: a byte is on the wire, or was taken by an earlier call.
    torn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between messages.
    Idle,
    /// Before the first piece of a message.
    Begun,
    /// In a message, or in its first piece.
    First,
    /// In a later piece.
    Later,
    /// Behind the last piece, whose end is in the stage (of escaped payload).
    Last,
    /// In the mark that ends a series.
    End,
    /// The mark is written, and may not be flushed.
    Ended,
}

/// What is under way: of a [`Sender`], all but how far it has come.
#[derive(Clone, Copy)]
struct Call {
    at: Phase,
    header: usize,
    len: usize,
    left: u32,
}

impl<F: Framing<Encoder = E>, E: Encode> Sender<F> {
    /// A sender at the beginning of a stream.
    pub fn new(framing: F) -> Self {
        Self::of(&framing)
    }

    /// [`new`](Self::new), for a framing that is used once more.
    #[inline]
    pub(crate) fn of(framing: &F) -> Self {
        const {
            assert!(E::HEADER_MAX <= OWN_MAX, "a header has at most 12 bytes");
            assert!(E::TRAILER_MAX <= OWN_MAX, "a trailer has at most 12 bytes");
        };
        Self {
            encoder: framing.encoder(),
            stage: E::Stage::new(),
            len: 0,
            done: 0,
            left: 0,
            header: 0,
            at: Phase::Idle,
            torn: false,
        }
    }

    /// Begins a message. One before, of which no byte was written, is forgotten.
    ///
    /// # Errors
    /// Any [`Refusal`] but [`Refusal::Overrun`]; nothing is changed then.
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

    /// Begins a message of `total` bytes, to be given in pieces. A message before, of which no byte was written,
    /// is forgotten.
    ///
    /// # Errors
    /// A [`Refusal`] that speaks of a length, or [`Refusal::Unfinished`]; nothing is changed then.
    pub fn begin(&mut self, total: u32) -> Result<(), Refusal> {
        if self.is_mid_block() {
            return Err(self.unfinished());
        }
        self.start(total)
    }

    /// Begins the next piece of a message. An empty message has one empty piece.
    ///
    /// # Errors
    /// [`Refusal::Overrun`], [`Refusal::Delimiter`], or [`Refusal::Unfinished`] where the piece before is not
    /// written; nothing is changed then.
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

    /// Goes on with a payload that was begun: the same as before.
    ///
    /// # Errors
    /// [`Refusal::Overrun`] where the payload is of another length, or there is nothing to go on with.
    pub fn resume(&self, payload: &(impl Payload + ?Sized)) -> Result<(), Refusal> {
        let len = payload.len();
        if matches!(self.at, Phase::Idle | Phase::Ended) || len != self.len {
            let left = self.left();
            return Err(Refusal::Overrun { len, left });
        }
        Ok(())
    }

    /// Begins the mark that ends a series; goes on with it where it has been begun. Until
    /// [`flushed`](Self::flushed), or the next message, it is the same mark: written once.
    ///
    /// # Errors
    /// [`Refusal::Unfinished`] where a message is.
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

    /// The transport was flushed: an end mark that is begun from now on is another one.
    pub fn flushed(&mut self) {
        if self.at == Phase::Ended {
            self.at = Phase::Idle;
        }
    }

    /// The next bytes to write, or none where the payload is done with.
    #[inline]
    pub fn chunk<'a>(&'a mut self, payload: &'a (impl Payload + ?Sized)) -> &'a [u8] {
        self.chunk_of::<false, _>(payload)
    }

    /// [`chunk`](Self::chunk); `WHOLE` where a whole message is known to be under way.
    #[inline]
    pub(crate) fn chunk_of<'a, const WHOLE: bool, P: Payload + ?Sized>(
        &'a mut self,
        payload: &'a P,
    ) -> &'a [u8] {
        if self.is_passthrough() {
            self.chunk_passthrough::<WHOLE, P>(payload)
        } else {
            self.chunk_escaped(payload)
        }
    }

    /// So many bytes of the [`chunk`](Self::chunk) were written.
    pub fn advance(&mut self, len: usize) {
        self.wrote(len);
        if self.at != Phase::Begun && self.is_written() {
            self.complete(self.call());
        }
    }

    /// [`advance`](Self::advance), for who asks for the next chunk before anything else.
    #[inline]
    pub(crate) fn wrote(&mut self, len: usize) {
        if self.is_passthrough() {
            self.done += len;
        } else {
            self.torn |= len != 0;
            self.stage.sent(len);
        }
    }

    /// Whether a message, or the end mark, is on the wire in part.
    #[inline]
    pub fn is_mid_block(&self) -> bool {
        if self.is_passthrough() {
            self.done != 0
        } else {
            self.torn
        }
    }

    #[inline]
    fn chunk_passthrough<'a, const WHOLE: bool, P: Payload + ?Sized>(
        &'a mut self,
        payload: &'a P,
    ) -> &'a [u8] {
        let whole = WHOLE.then(|| self.whole(payload.len()));
        let call = whole.unwrap_or_else(|| self.call());
        if matches!(call.at, Phase::Idle | Phase::Begun | Phase::Ended) {
            // Nothing is begun, or before its first piece.
            return &[];
        }
        // A small message leaves in one write, whatever parts it lies in, with what stands around it.
        let is_small = (E::TRAILER_MAX != 0 || E::HEADER_MAX == 0 && P::PARTS)
            && call.at == Phase::First
            && call.left == 0
            && call.header + call.len <= E::Stage::LEN - E::TRAILER_MAX;
        if (E::HEADER_MAX != 0 && self.done < call.header) || is_small {
            self.join(call, payload, is_small);
            if self.done < self.stage.bytes().len() {
                return self.stage.bytes().get(self.done..).unwrap_or_default();
            }
        }
        let used = self.done - call.header;
        if !payload.rest(used).is_empty() {
            return payload.rest(used);
        }
        if used < call.len {
            // Less is given than was begun: not the same.
            return &[];
        }
        if E::TRAILER_MAX != 0 && call.is_last() {
            self.stage.clear();
            let trailer = self.put_trailer();
            let used = used - call.len;
            if used < trailer {
                return self.stage.bytes().get(used..).unwrap_or_default();
            }
        }
        self.complete(call);
        &[]
    }

    /// Stages a header and payload behind it, so that they leave in one write; of a small message all, with what must
    /// stand behind it.
    #[inline]
    fn join(&mut self, call: Call, payload: &(impl Payload + ?Sized), with_trailer: bool) {
        match E::HEADER_MAX {
            0 => self.stage.clear(),
            // Copied as a word, whatever its length: that takes half the code.
            1..=4 => {
                let mut own = [0; 4];
                self.write_header(call, &mut own);
                self.stage.set(own, call.header);
            }
            _ => {
                let mut own = [0; OWN_MAX];
                self.write_header(call, &mut own);
                self.stage.clear();
                self.stage
                    .extend(own.get(..call.header).unwrap_or_default());
            }
        }
        let mut spare = E::Stage::LEN - E::TRAILER_MAX;
        if spare < call.header + call.len {
            spare = spare.min(LONG_JOINED);
        }
        let _ = payload.try_each(|part| {
            let left = spare.saturating_sub(self.stage.bytes().len());
            self.stage.extend(part.get(..left).unwrap_or(part));
            Ok::<(), ()>(())
        });
        if with_trailer {
            self.put_trailer();
        }
    }

    /// Writes the header of the message, or the end mark.
    #[inline]
    fn write_header(&self, call: Call, out: &mut [u8]) {
        // It was not refused when it was begun.
        let _ = match call.at {
            Phase::End => self.encoder.end(out),
            _ => self.encoder.header(call.left + size_u32(call.len), out),
        };
    }

    /// Stages what must stand behind a message; returns its length.
    #[inline]
    fn put_trailer(&mut self) -> usize {
        let mut own = [0; OWN_MAX];
        let len = self.encoder.trailer(&mut own).unwrap_or_default();
        self.stage.extend(own.get(..len).unwrap_or_default());
        len
    }

    fn chunk_escaped<'a>(&'a mut self, payload: &'a (impl Payload + ?Sized)) -> &'a [u8] {
        while self.stage.staged().is_empty() {
            match self.at {
                Phase::First | Phase::Later => {}
                Phase::Idle | Phase::Begun | Phase::Ended => break,
                Phase::Last | Phase::End => {
                    self.complete(self.call());
                    break;
                }
            }
            let piece = payload.rest(self.done);
            if !piece.is_empty() {
                let (used, staged) = self.encoder.escape(piece, self.stage.spare());
                self.stage.stage(staged);
                self.done += used;
            } else if self.done < self.len {
                // Less is given than was begun: not the same.
                break;
            } else if self.left == 0 {
                let staged = self.encoder.trailer(self.stage.spare()).unwrap_or_default();
                self.stage.stage(staged);
                self.at = Phase::Last;
            } else {
                self.complete(self.call());
                break;
            }
        }
        self.stage.staged()
    }

    /// Begins a message of `total` bytes, unless it is refused.
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

    /// Takes up the payload of a call.
    #[inline]
    fn give(&mut self, len: usize) {
        if self.at == Phase::Begun && !self.is_passthrough() {
            self.stage.clear();
            self.encoder.begin();
        }
        // Of a first piece that was empty there may be nothing on the wire.
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

    /// [`call`](Self::call), where it is known to be a whole message of so many bytes: little of it is looked up.
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
            // A piece that was taken is not forgotten, even if none of it is written.
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

    /// Payload bytes of the message that are not done with.
    fn left(&self) -> u32 {
        if matches!(self.at, Phase::Idle | Phase::Ended) {
            return 0;
        }
        // Where payload is escaped there is no header.
        let used = self.done.saturating_sub(usize::from(self.header));
        let unused = size_u32(self.len.saturating_sub(used));
        self.left.saturating_add(unused)
    }
}

impl Call {
    /// Whether the message ends in it, and its end is not staged for good.
    #[inline]
    fn is_last(&self) -> bool {
        self.left == 0 && matches!(self.at, Phase::First | Phase::Later)
    }
}

/// Memory for a header or an end mark: as much as the framing says that it needs.
#[inline]
fn own_spare<E: Encode>(own: &mut [u8; OWN_MAX]) -> &mut [u8] {
    own.get_mut(..E::HEADER_MAX).unwrap_or_default()
}
