//! The contract of a framing: what it says of bytes received, and what it puts around bytes sent.
//!
//! A [`Framing`] is a small description, such as [`Blocks`](crate::Blocks) or [`Lines`](crate::Lines). It makes the
//! state for each direction of a connection: a [`Decode`] and an [`Encode`]. Both are plain values. They do no
//! I/O, hold no payload (but for the group that `cobs` is escaping), and never look at a clock.

use core::fmt::Debug;

use crate::fault::{Fault, Refusal};
use crate::stage::Stage;
use crate::window::Window;

/// A way of marking where a message ends. A generic function takes any of them.
///
/// ```
/// use framing_core::blocking::Writer;
/// use framing_core::embedded_io::Write;
/// use framing_core::{Cobs, Framing, Lines, SendError};
///
/// fn greet<W: Write, F: Framing>(link: W, framing: F) -> Result<W, SendError<W::Error>> {
///     let mut writer = Writer::new(link, framing);
///     writer.send(b"hello")?;
///     Ok(writer.into_io())
/// }
///
/// assert_eq!(greet(Vec::new(), Lines)?, b"hello\n");
/// assert_eq!(greet(Vec::new(), Cobs)?, b"\x06hello\0");
/// # Ok::<(), SendError<core::convert::Infallible>>(())
/// ```
pub trait Framing {
    /// Finds message boundaries.
    type Decoder: Decode + Debug;
    /// Writes message boundaries.
    type Encoder: Encode + Debug;

    /// A decoder at the beginning of a stream.
    fn decoder(&self) -> Self::Decoder;
    /// An encoder at the beginning of a stream.
    fn encoder(&self) -> Self::Encoder;
}

/// How much a decoder lets pass. There is no unlimited mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Longest message, in bytes of payload, that is delivered whole.
    pub block_max: u32,
    /// Longest message, in bytes, that is skipped in order to go on behind it. One that is longer loses the
    /// framing ([`Fault::is_lost`]), since a damaged length must not silence a device for hours.
    pub skip_max: u32,
}

impl Limits {
    /// What [`Limits::skip_max`] is unless chosen: 16 MiB.
    pub const SKIP_MAX: u32 = 16 << 20;
}

/// What a decoder says of a window. Positions count from the window's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Step {
    /// Nothing more can be said of these bytes: keep them and come back with more behind them.
    NeedMore {
        /// How many bytes may be read without reading past the end of the message; at least 1.
        /// `usize::MAX` where the framing cannot know.
        want: usize,
    },
    /// The first `take` bytes are framing, or part of a refused message: drop them.
    Skip {
        /// Bytes to drop; at least 1.
        take: usize,
        /// As in [`Step::NeedMore`], where nothing is left unread then.
        want: usize,
    },
    /// `start..end` is payload; drop `take` bytes when done with it. A message is whole if `first && last`.
    Payload {
        /// First byte of the payload.
        start: usize,
        /// First byte behind it.
        end: usize,
        /// Bytes to drop afterwards; at least 1, unless this is the empty last piece of a message.
        take: usize,
        /// The message begins here.
        first: bool,
        /// The message ends here.
        last: bool,
    },
    /// The mark that ends a series.
    End {
        /// Bytes to drop.
        take: usize,
    },
    /// A message was refused; the decoder already knows how to go on.
    Fault {
        /// Bytes to drop; may be 0.
        take: usize,
        /// Why.
        fault: Fault,
    },
}

/// How far [`Decode::scan_all`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Scanned {
    /// Bytes dealt with, from the window's first; the rest is to be kept.
    pub used: usize,
    /// As in [`Step::NeedMore`]; 0 where the caller stopped the scan.
    pub want: usize,
    /// Whether a message ended in what was used, delivered or not, or a series. If not, what is unread behind it
    /// belongs to the message that the window began in.
    pub ended: bool,
}

/// Finds boundaries in the unread bytes of a stream: the only place in which a boundary is decided.
///
/// The caller keeps a *window*: the bytes that were received and not yet dropped, in order. It calls
/// [`scan`](Self::scan), obeys the [`Step`], and repeats; at [`Step::NeedMore`] it appends what it receives next.
/// The steps with payload, end and fault depend on the bytes alone, not on how many were in the window at once.
///
/// ```
/// use framing_core::{Decode, Framing, Limits, Lines, Step};
///
/// let mut decoder = Lines.decoder();
/// let limits = Limits { block_max: 80, skip_max: Limits::SKIP_MAX };
/// let mut window = *b"on\noff\nunfin";
/// let mut messages = Vec::new();
/// let scanned = decoder.scan_all::<false>(&mut window, &limits, |at, step| {
///     if let Step::Payload { start, end, .. } = step {
///         messages.push(at + start..at + end);
///     }
///     true
/// });
/// assert_eq!(messages, [0..2, 3..6]);
/// // The bytes of the third message are kept, with what is received next after them.
/// assert_eq!(scanned.used, 7);
/// ```
pub trait Decode {
    /// What a [`Receiver`](crate::Receiver) remembers of its buffer: [`ExactWindow`](crate::ExactWindow) where
    /// [`Step::NeedMore`] always says exactly how much to read, so that nothing behind a step is ever in the window.
    type Window: Window;

    /// Says what the window begins with. The window may be empty. Bytes of it may be rewritten (unescaping).
    ///
    /// With `STREAMING`, payload is handed out as it comes, and no message is too long; else each message is
    /// handed out once, whole. The choice may change at every call: a message that was just refused as too long
    /// is handed out if pieces are asked for next, and the rest of a message of which pieces were handed out is
    /// skipped if they no longer are. Of a framing that declares lengths, [`Limits::block_max`] counts where the
    /// length is read.
    fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step;

    /// The stream has ended, with so many bytes left unread. Says whether that cut a message, and starts afresh.
    fn close(&mut self, unread: usize) -> Option<Fault>;

    /// Whether part of a message has been dropped from the window already (its header, or pieces of it). A
    /// non-empty window after [`Step::NeedMore`] is part of a message too.
    fn is_mid_block(&self) -> bool;

    /// The longest message, in bytes, that fits whole into a buffer of `len` bytes.
    fn block_max(&self, len: usize) -> u32;

    /// Whether the framing has message boundaries, so that messages can be received whole. `false` for `stream` only.
    fn has_boundaries(&self) -> bool {
        true
    }

    /// Hands out the whole messages that a window begins with, up to where [`scan`](Self::scan) must say more: the
    /// same steps in fewer instructions. Returns how many bytes were dealt with, and whether `each` wants more.
    ///
    /// For [`scan_all`](Self::scan_all). A framing that has no shorter way hands out nothing.
    #[doc(hidden)]
    fn scan_run<const STREAMING: bool>(
        &mut self,
        window: &[u8],
        limits: &Limits,
        each: impl FnMut(usize, Step) -> bool,
    ) -> (usize, bool) {
        let _ = (window, limits, each);
        (0, true)
    }

    /// Scans until more bytes are needed or `each` returns `false`. `each` gets every step with payload, end or
    /// fault, with the position that the step counts from.
    fn scan_all<const STREAMING: bool>(
        &mut self,
        window: &mut [u8],
        limits: &Limits,
        mut each: impl FnMut(usize, Step) -> bool,
    ) -> Scanned {
        let mut used = 0;
        let mut ended = false;
        loop {
            let rest = window.get(used..).unwrap_or_default();
            let (run, goes_on) =
                self.scan_run::<STREAMING>(rest, limits, |at, step| each(used + at, step));
            used += run;
            ended |= run != 0;
            if !goes_on {
                let want = 0;
                return Scanned { used, want, ended };
            }
            let rest = window.get_mut(used..).unwrap_or_default();
            let step = self.scan::<STREAMING>(rest, limits);
            let (take, reported) = match step {
                Step::NeedMore { want } => return Scanned { used, want, ended },
                Step::Skip { take, .. } => {
                    // A header, or the rest of a message that is skipped.
                    ended |= !self.is_mid_block();
                    (take, false)
                }
                Step::Payload { take, last, .. } => {
                    ended |= last;
                    (take, true)
                }
                Step::End { take } => {
                    ended = true;
                    (take, true)
                }
                Step::Fault { take, .. } => {
                    ended |= take != 0 && !self.is_mid_block();
                    (take, true)
                }
            };
            let at = used;
            used += take;
            if reported && !each(at, step) {
                let want = 0;
                return Scanned { used, want, ended };
            }
        }
    }
}

/// Puts boundaries around payload: the mirror of [`Decode`].
///
/// For each message: [`check`](Self::check) on every part, [`header`](Self::header), the payload (as it is, or
/// through [`escape`](Self::escape)), [`trailer`](Self::trailer). [`Sender`](crate::Sender) does it in this order,
/// and [`encode`](crate::encode()) for messages in memory.
pub trait Encode {
    /// Room for what the framing writes itself, with the payload that leaves together with it: an array.
    type Stage: Stage + 'static;
    /// Whether payload is always sent as it is, and never through [`escape`](Self::escape).
    const PASSTHROUGH: bool;
    /// Most bytes that [`header`](Self::header) puts in front of a payload, and that [`end`](Self::end) writes: at most
    /// 12.
    const HEADER_MAX: usize = 0;
    /// Most bytes that [`trailer`](Self::trailer) puts behind a payload that is sent as it is.
    const TRAILER_MAX: usize = 0;

    /// [`PASSTHROUGH`](Self::PASSTHROUGH), where that is known at run time only.
    fn is_passthrough(&self) -> bool {
        Self::PASSTHROUGH
    }

    /// Whether `piece` may be sent as the next payload of a message; `first` and `last` say where it stands.
    ///
    /// # Errors
    /// [`Refusal::Delimiter`] where the piece would change the boundary.
    fn check(&mut self, piece: &[u8], first: bool, last: bool) -> Result<(), Refusal> {
        let _ = (piece, first, last);
        Ok(())
    }

    /// Writes what stands before a message of `len` bytes; returns how many bytes that is.
    ///
    /// # Errors
    /// Whether such a message can be sent at all: the variants of [`Refusal`] that speak of a length.
    fn header(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal>;

    #[doc(hidden)]
    /// Least bytes that [`header`](Self::header) puts in front of a payload: where they are always as many, senders
    /// need not look them up.
    fn header_min(&self) -> usize {
        0
    }

    /// A message begins, whose payload goes through [`escape`](Self::escape).
    fn begin(&mut self) {}

    /// Takes payload into the stage, escaped. Returns how many bytes were taken, and how many at the front of
    /// the stage must be sent before the next call (0: none yet).
    fn escape(&mut self, piece: &[u8], stage: &mut [u8]) -> (usize, usize) {
        let _ = (piece, stage);
        (0, 0)
    }

    /// Writes what stands behind a message; returns how many bytes at the front of the stage are to be sent.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`] where the stage is too short: see [`TRAILER_MAX`](Self::TRAILER_MAX).
    fn trailer(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
        let _ = stage;
        Ok(0)
    }

    /// Writes bytes after which the receiver finds the next message, although only part of a message is on the wire;
    /// returns how many bytes that is. `None` if the framing cannot resynchronise, or not with this configuration.
    ///
    /// `sent` is how many bytes at the front of the stage are on the wire. Where payload is sent as it is, the
    /// [`trailer`](Self::trailer) is written.
    fn abandon(&self, sent: usize, stage: &mut [u8]) -> Option<usize> {
        let _ = (sent, stage);
        None
    }

    /// Writes the mark that ends a series, if the framing has one; returns how many bytes that is.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`] where the stage is too short.
    fn end(&self, stage: &mut [u8]) -> Result<usize, Refusal> {
        let _ = stage;
        Ok(0)
    }
}
