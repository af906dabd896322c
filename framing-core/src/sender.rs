//! How far one sending direction has come.

use core::fmt;

use crate::bytes::copy;
use crate::fault::Refusal;
use crate::framing::{Encode, Framing};

/// An encoder with its position: pure, driven by the writers of [`blocking`](crate::blocking) and
/// [`nonblocking`](crate::nonblocking), or by hand where bytes go elsewhere.
///
/// All progress lives here. Begin a message with [`begin_whole`](Self::begin_whole), or with
/// [`begin`](Self::begin) and [`begin_piece`](Self::begin_piece). Then write what [`chunk`](Self::chunk) gives
/// and tell [`advance`](Self::advance), until the chunk is empty. Payload is not kept: the same parts are given
/// at every call until then.
#[derive(Clone)]
pub struct Sender<E: Encode> {
    encoder: E,
    stage: E::Stage,
    /// Bytes at the stage's front that are to be written …
    staged: usize,
    /// … and how many of them are.
    sent: usize,
    /// Payload bytes of the present parts that are staged or written …
    used: usize,
    /// … and that are not.
    ahead: usize,
    /// Payload bytes of the message that are neither staged nor written.
    left: u32,
    at: At,
    /// A byte of the message, or of the end mark, is on the wire, or a piece of the message was taken.
    torn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Between messages.
    Idle,
    /// The header is staged, and payload may be staged with it.
    Header,
    Payload,
    /// The last bytes of the message are staged.
    Last,
    /// The end mark is staged.
    End,
    /// The end mark is written, and may not be flushed.
    Ended,
}

/// Where the next bytes are to be written from.
enum Source {
    Stage,
    Part,
    Nowhere,
}

impl<E: Encode> Sender<E> {
    /// A sender at the beginning of a stream.
    pub fn new(framing: impl Framing<Encoder = E>) -> Self {
        Self {
            encoder: framing.encoder(),
            stage: E::STAGE,
            staged: 0,
            sent: 0,
            used: 0,
            ahead: 0,
            left: 0,
            at: At::Idle,
            torn: false,
        }
    }

    /// Begins a message of these parts, one behind the other. A message before, of which no byte was written,
    /// is forgotten.
    ///
    /// # Errors
    /// Any [`Refusal`] but [`Refusal::Overrun`]; nothing is changed then.
    pub fn begin_whole(&mut self, parts: &[&[u8]]) -> Result<(), Refusal> {
        self.idle()?;
        let total = parts_len(parts);
        check_parts(&mut self.encoder, parts)?;
        self.begin(message_len(total)?)?;
        self.ahead = total;
        Ok(())
    }

    /// Begins a message of `total` bytes, to be given in pieces. A message before, of which no byte was written,
    /// is forgotten.
    ///
    /// # Errors
    /// A [`Refusal`] that speaks of a length, or [`Refusal::Unfinished`]; nothing is changed then.
    pub fn begin(&mut self, total: u32) -> Result<(), Refusal> {
        self.idle()?;
        self.staged = self.encoder.head(total, self.stage.as_mut())?;
        (self.sent, self.used, self.ahead) = (0, 0, 0);
        self.left = total;
        self.at = At::Header;
        Ok(())
    }

    /// Begins the next piece of a message. An empty message has one empty piece.
    ///
    /// # Errors
    /// [`Refusal::Overrun`], [`Refusal::Delimiter`], or [`Refusal::Unfinished`] where the piece before is not
    /// written; nothing is changed then.
    pub fn begin_piece(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let left = self.left;
        let overrun = Refusal::Overrun {
            len: piece.len(),
            left,
        };
        if self.at != At::Header && (self.at != At::Payload || self.is_pending()) {
            return Err(if matches!(self.at, At::Idle | At::Ended) {
                overrun
            } else {
                Refusal::Unfinished { left }
            });
        }
        let len = u32::try_from(piece.len())
            .ok()
            .filter(|&len| len <= left)
            .ok_or(overrun)?;
        self.encoder
            .check(piece, self.at == At::Header, len == left)?;
        (self.used, self.ahead) = (0, piece.len());
        Ok(())
    }

    /// Goes on with parts that were begun: the same as before.
    ///
    /// # Errors
    /// [`Refusal::Overrun`] where the parts are of another length, or there is nothing to go on with.
    pub fn resume(&self, parts: &[&[u8]]) -> Result<(), Refusal> {
        let len = parts_len(parts);
        if matches!(self.at, At::Idle | At::Ended) || len != self.used.saturating_add(self.ahead) {
            return Err(Refusal::Overrun {
                len,
                left: self.left,
            });
        }
        Ok(())
    }

    /// Begins the mark that ends a series; goes on with it where it has been begun. Until
    /// [`flushed`](Self::flushed), or the next message, it is the same mark: written once.
    ///
    /// # Errors
    /// [`Refusal::Unfinished`] where a message is.
    pub fn begin_end(&mut self) -> Result<(), Refusal> {
        if matches!(self.at, At::End | At::Ended) {
            return Ok(());
        }
        self.idle()?;
        self.staged = self.encoder.end(self.stage.as_mut())?;
        (self.sent, self.used, self.ahead, self.left) = (0, 0, 0, 0);
        self.at = At::End;
        Ok(())
    }

    /// The transport was flushed: an end mark that is begun from now on is another one.
    pub fn flushed(&mut self) {
        if self.at == At::Ended {
            self.at = At::Idle;
        }
    }

    /// The next bytes to write, or none where the parts are done with.
    pub fn chunk<'a>(&'a mut self, parts: &[&'a [u8]]) -> &'a [u8] {
        match self.source(parts) {
            Source::Stage => self
                .stage
                .as_ref()
                .get(self.sent..self.staged)
                .unwrap_or_default(),
            Source::Part => rest(parts, self.used),
            Source::Nowhere => &[],
        }
    }

    /// So many bytes of the [`chunk`](Self::chunk) were written.
    pub fn advance(&mut self, len: usize) {
        self.torn |= len != 0;
        if self.sent < self.staged {
            self.sent = self.sent.saturating_add(len).min(self.staged);
        } else {
            self.take(len);
        }
        if matches!(self.at, At::Last | At::End) && self.sent == self.staged {
            self.complete();
        }
    }

    /// Whether a message, or the end mark, is on the wire in part.
    pub const fn is_mid_block(&self) -> bool {
        self.torn
    }

    fn source(&mut self, parts: &[&[u8]]) -> Source {
        loop {
            if self.at == At::Header {
                self.at = At::Payload;
                self.top_up(parts);
            }
            if self.sent < self.staged {
                return Source::Stage;
            }
            match self.at {
                At::Payload if self.left == 0 => {
                    // The stage always has room: `Encode::TAIL_MAX`, or what `quote` leaves.
                    self.staged = self.encoder.tail(self.stage.as_mut()).unwrap_or_default();
                    self.sent = 0;
                    self.at = At::Last;
                }
                At::Payload => {
                    let piece = rest(parts, self.used);
                    if piece.is_empty() {
                        // A piece that was taken is not forgotten, even if all of it is still staged.
                        self.torn |= self.used != 0;
                        return Source::Nowhere;
                    }
                    if E::VERBATIM || self.encoder.is_verbatim() {
                        return Source::Part;
                    }
                    let (used, staged) = self.encoder.quote(piece, self.stage.as_mut());
                    (self.staged, self.sent) = (staged, 0);
                    self.take(used);
                }
                At::Idle | At::Header | At::Last | At::End | At::Ended => {
                    self.complete();
                    return Source::Nowhere;
                }
            }
        }
    }

    /// Stages payload behind the header, and the tail behind that, so that they leave in one write.
    fn top_up(&mut self, parts: &[&[u8]]) {
        if !E::VERBATIM && !self.encoder.is_verbatim() {
            return;
        }
        loop {
            let stage = self.stage.as_mut();
            let room = stage.len().saturating_sub(E::TAIL_MAX);
            let space = stage.get_mut(self.staged..room).unwrap_or_default();
            let mut len = 0;
            for (to, from) in space.iter_mut().zip(rest(parts, self.used)) {
                *to = *from;
                len += 1;
            }
            if len == 0 {
                break;
            }
            self.staged += len;
            self.take(len);
        }
        let behind = self
            .stage
            .as_mut()
            .get_mut(self.staged..)
            .unwrap_or_default();
        if self.left == 0
            && let Ok(len) = self.encoder.tail(behind)
        {
            self.staged += len;
            self.at = At::Last;
        }
    }

    /// All of the message, or of the end mark, is written.
    fn complete(&mut self) {
        self.at = match self.at {
            At::End | At::Ended => At::Ended,
            _ => At::Idle,
        };
        self.torn = false;
    }

    /// So many payload bytes are staged or written.
    fn take(&mut self, len: usize) {
        self.used = self.used.saturating_add(len);
        self.ahead = self.ahead.saturating_sub(len);
        self.left = self
            .left
            .saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Whether something is left to write of the present parts.
    fn is_pending(&self) -> bool {
        self.ahead != 0 || self.sent < self.staged
    }

    fn idle(&self) -> Result<(), Refusal> {
        if self.torn {
            Err(Refusal::Unfinished { left: self.left })
        } else {
            Ok(())
        }
    }
}

impl<E: Encode + fmt::Debug> fmt::Debug for Sender<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("encoder", &self.encoder)
            .field("at", &self.at)
            .field("left", &self.left)
            .field("torn", &self.torn)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<E: Encode + defmt::Format> defmt::Format for Sender<E> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Sender({}, left {}, torn {})",
            self.encoder,
            self.left,
            self.torn
        );
    }
}

/// Writes a whole message of these parts, one behind the other, to the front of `out`; returns its length on
/// the wire. `wire_len` of each framing says how much room is enough.
///
/// ```
/// use framing_core::{Blocks, Framing, encode};
///
/// let mut out = [0; Blocks::wire_len(5)];
/// let len = encode(&mut Blocks.encoder(), &[b"hel", b"lo"], &mut out)?;
/// assert_eq!(&out[..len], b"\0\0\0\x05hello");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
///
/// # Errors
/// Any [`Refusal`] but [`Refusal::Unfinished`] and [`Refusal::Overrun`]; what `out` holds then is of no use.
pub fn encode<E: Encode>(
    encoder: &mut E,
    parts: &[&[u8]],
    out: &mut [u8],
) -> Result<usize, Refusal> {
    let no_room = Refusal::NoRoom { len: out.len() };
    check_parts(encoder, parts)?;
    let total = message_len(parts_len(parts))?;
    let mut len = encoder.head(total, out)?;
    if !E::VERBATIM && !encoder.is_verbatim() {
        for &part in parts {
            if encoder.quote(part, out) != (part.len(), 0) {
                return Err(no_room);
            }
        }
        return encoder.tail(out);
    }
    for &part in parts {
        let end = len.checked_add(part.len()).ok_or(no_room)?;
        copy(part, out.get_mut(len..end).ok_or(no_room)?);
        len = end;
    }
    let rest = out.get_mut(len..).unwrap_or_default();
    let tail = encoder.tail(rest).map_err(|_| no_room)?;
    Ok(len + tail)
}

fn check_parts<E: Encode>(encoder: &mut E, parts: &[&[u8]]) -> Result<(), Refusal> {
    encoder.check(&[], true, false)?;
    let mut offset = 0;
    for part in parts {
        encoder
            .check(part, false, false)
            .map_err(|refusal| shifted(refusal, offset))?;
        offset += part.len();
    }
    encoder
        .check(&[], false, true)
        .map_err(|refusal| shifted(refusal, offset))
}

/// A refusal in a part as one in the message.
fn shifted(refusal: Refusal, by: usize) -> Refusal {
    match refusal {
        Refusal::Delimiter { offset } => Refusal::Delimiter {
            offset: offset + by,
        },
        other => other,
    }
}

fn message_len(total: usize) -> Result<u32, Refusal> {
    u32::try_from(total).map_err(|_| Refusal::TooLong {
        len: u32::MAX,
        max: u32::MAX,
    })
}

fn parts_len(parts: &[&[u8]]) -> usize {
    parts
        .iter()
        .fold(0, |len: usize, part| len.saturating_add(part.len()))
}

/// The unused bytes of the part that the first `used` bytes end in.
fn rest<'a>(parts: &[&'a [u8]], used: usize) -> &'a [u8] {
    let mut skip = used;
    for &part in parts {
        match part.get(skip..) {
            Some(rest) if !rest.is_empty() => return rest,
            _ => skip = skip.saturating_sub(part.len()),
        }
    }
    &[]
}
