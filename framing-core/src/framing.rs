//! What a framing consists of: a [`Decode`] for the bytes received and an [`Encode`] for the bytes sent.
//!
//! A [`Framing`] is a small description, such as [`Blocks`](crate::Blocks) or [`Lines`](crate::Lines). It makes the
//! state of each direction of a connection. Decoders and encoders are plain values: they do no I/O, store no payload
//! (except the group that `CobsPieces` is escaping), and read no clock.

use core::fmt::Debug;
use core::ops::Range;

use crate::fault::{Fault, Refusal};
use crate::payload::Payload;
use crate::sealed::Sealed;
use crate::stage::Stage;
use crate::window::Window;

/// A way of marking where a message ends.
///
/// Use it as a bound in functions that work with any framing. To add a framing with a header of its own, implement
/// [`Prefix`](crate::Prefix) instead.
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

/// A framing without parameters, so its readers and writers can be built in a `const` or a `static` by `const_new`.
///
/// `new` is not `const`, because stable Rust cannot call a trait method in a constant. [`Fixed`](crate::Fixed),
/// [`Delimited`](crate::Delimited), [`AnyFraming`](crate::AnyFraming) and implementations of
/// [`Prefix`](crate::Prefix) outside this crate are built at run time.
///
/// ```
/// use std::sync::Mutex;
///
/// use framing_core::Cobs;
/// use framing_core::blocking::Writer;
/// # use framing_core::embedded_io::{ErrorType, Write};
/// # struct Uart;
/// # impl ErrorType for Uart { type Error = core::convert::Infallible; }
/// # impl Write for Uart {
/// #     fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> { Ok(bytes.len()) }
/// #     fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
///
/// // A static console. On a microcontroller, use `critical_section::Mutex` with a `RefCell`.
/// static CONSOLE: Mutex<Writer<Uart, Cobs>> = Mutex::new(Writer::const_new(Uart, Cobs));
///
/// CONSOLE.lock().unwrap().send(b"started").unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be built in a constant",
    label = "this framing has parameters, or is not one of `framing-core`",
    note = "use `new` instead of `const_new`, and keep the result in an `Option` or a `StaticCell`"
)]
pub trait UnitFraming: Framing + Copy {
    #[doc(hidden)]
    const DECODER: Self::Decoder;
    #[doc(hidden)]
    const ENCODER: Self::Encoder;
}

/// The longest messages that a decoder delivers, and skips. There is no unlimited mode, except for skipping messages whose
/// framing declares no length, with a `skip_max` of [`u32::MAX`]: counts of bytes stop at that number.
///
/// Readers derive `block_max` from their buffer. Only callers of [`Decode`] build `Limits`.
///
/// ```
/// use framing_core::Limits;
///
/// const LIMITS: Limits = Limits { block_max: 1024, skip_max: Limits::SKIP_MAX };
/// assert_eq!(LIMITS.skip_max, 16 * 1024 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Longest message that is delivered whole, in bytes of payload.
    pub block_max: u32,
    /// Longest message that is skipped, in bytes. A longer one loses the framing ([`Fault::is_lost`],
    /// [`Decode::is_lost`]), so a damaged length does not silence a device for hours.
    pub skip_max: u32,
}

impl Limits {
    /// The default of [`Limits::skip_max`]: 16 MiB.
    pub const SKIP_MAX: u32 = 16 << 20;
}

/// The result of one scan of a window. Positions count from the window's first byte.
///
/// The variants are complete: a caller must handle each of them, so a new one would be a breaking change.
///
/// ```
/// use framing_core::{Decode, Framing, Limits, Netstring, Step};
///
/// let mut decoder = Netstring.decoder();
/// let limits = Limits { block_max: 80, skip_max: Limits::SKIP_MAX };
/// let step = decoder.scan::<false>(&mut *b"5:hel".to_vec(), &limits);
/// // The header is whole: drop its two bytes. Payload and comma are six bytes, three of which are in the window.
/// assert_eq!(step, Step::Skip { take: 2, want: 6 });
/// let step = decoder.scan::<false>(&mut *b"hel".to_vec(), &limits);
/// assert_eq!(step, Step::NeedMore { want: 3 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Step {
    /// The window ends too early. Keep its bytes, and scan again with more after them.
    NeedMore {
        /// How many bytes can be read without reading past the end of the message; at least 1.
        /// `usize::MAX` if the framing cannot know.
        want: usize,
    },
    /// The first `take` bytes belong to the framing, or to a refused message: drop them.
    Skip {
        /// Bytes to drop; at least 1.
        take: usize,
        /// As in [`Step::NeedMore`], if no bytes are left after the drop.
        want: usize,
    },
    /// `start..end` is payload. Drop `take` bytes after using it. A message is whole if `first && last`.
    Payload {
        /// First byte of the payload.
        start: usize,
        /// First byte after the payload.
        end: usize,
        /// Bytes to drop afterwards; at least 1, except for the empty last piece of a message.
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
    /// A message was refused. The decoder is ready for the next scan.
    Fault {
        /// Bytes to drop; may be 0.
        take: usize,
        /// The reason.
        fault: Fault,
    },
}

/// How far [`Decode::scan_all`] came.
///
/// ```
/// use framing_core::{Decode, Framing, Length, Limits, U8};
///
/// let mut decoder = Length::<U8>::new().decoder();
/// let limits = Limits { block_max: 80, skip_max: Limits::SKIP_MAX };
/// // A message of two bytes, and the first byte of one of three.
/// let scanned = decoder.scan_all::<false>(&mut *b"\x02on\x03o".to_vec(), &limits, |_, _| true);
/// // Keep the last byte. Two more can be read without reading past the message.
/// assert_eq!((scanned.used, scanned.want, scanned.ended), (4, 2, true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Scanned {
    /// Bytes that are done with, counted from the window's first. Keep the rest.
    pub used: usize,
    /// As in [`Step::NeedMore`]; 0 if the caller stopped the scan.
    pub want: usize,
    /// Whether a message (delivered or not) or a series ended within `used`. If not, the bytes after `used` belong to
    /// the message that was open at the beginning of the window.
    pub ended: bool,
}

/// Finds message boundaries in the unread bytes of a stream. Nothing else in this crate decides a boundary.
///
/// The caller keeps a *window*: the bytes that were received and not yet dropped, in order. It calls
/// [`scan`](Self::scan), does what the [`Step`] says, and repeats. At [`Step::NeedMore`] it appends the bytes that it
/// receives next. The steps with payload, end and fault depend on the bytes alone, not on how many of them were in the
/// window at once.
///
/// Only this crate implements the trait. [`Receiver`](crate::Receiver) and the readers call it for you.
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
/// // Keep the bytes of the third message, and append those that are received next.
/// assert_eq!(scanned.used, 7);
/// assert!(scanned.ended);
/// ```
pub trait Decode: Sealed {
    /// How a [`Receiver`](crate::Receiver) tracks its unread bytes: [`ExactWindow`](crate::ExactWindow) if
    /// [`Step::NeedMore`] always says exactly how much to read, so the window never holds bytes after a step.
    #[doc(hidden)]
    type Window: Window;

    /// Says what the window begins with. The window may be empty. Unescaping may rewrite its bytes.
    ///
    /// With `STREAMING`, payload is handed out as it arrives, and no message is too long. Without, each message is
    /// handed out once, whole. The choice may change at every call: a message that was just refused as too long is
    /// handed out if pieces are requested next, and the rest of a message is skipped if pieces of it were handed out
    /// and no more are requested. Framings that declare lengths apply [`Limits::block_max`] where they read the length.
    fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step;

    /// Ends the stream, with `unread` bytes left in the window. Returns [`Fault::Truncated`] if that cut a message or a
    /// series; `None` if it cut a message that was refused before. The decoder is then at the beginning of a stream.
    fn close(&mut self, unread: usize) -> Option<Fault>;

    /// The payload of an incomplete message that is in the window and was not handed out: positions in the `unread` bytes
    /// that are left after [`Step::NeedMore`]. Empty within a header, and within a message that was refused.
    ///
    /// Call it before [`close`](Self::close) to keep the bytes of a message that was cut.
    ///
    /// ```
    /// use framing_core::{Decode, Framing, Limits, Lines, Step};
    ///
    /// let mut decoder = Lines.decoder();
    /// let limits = Limits { block_max: 80, skip_max: Limits::SKIP_MAX };
    /// let mut window = *b"unfin";
    /// assert!(matches!(decoder.scan::<false>(&mut window, &limits), Step::NeedMore { .. }));
    /// assert_eq!(window[decoder.unfinished(window.len())], *b"unfin");
    /// ```
    fn unfinished(&self, unread: usize) -> Range<usize>;

    /// Whether the beginning of the next message is unknown, so everything is dropped until the stream ends. True after
    /// a fault that [is lost](Fault::is_lost), and if a message that was refused as too long could not be skipped.
    fn is_lost(&self) -> bool;

    /// Whether part of a message (its header, or pieces of it) has been dropped from the window. Bytes in the window
    /// after [`Step::NeedMore`] are part of a message, too.
    fn is_mid_block(&self) -> bool;

    /// The longest message, in bytes, that fits whole into a buffer of `len` bytes.
    fn block_max(&self, len: usize) -> u32;

    /// Whether the framing has message boundaries, so messages can be received whole. `false` for `stream` only.
    fn has_boundaries(&self) -> bool {
        true
    }

    /// Hands out the messages that end in a window, until [`scan`](Self::scan) is needed: the same steps in fewer
    /// instructions, and more code. Returns the number of bytes used, and whether `each` wants more.
    ///
    /// For [`scan_all`](Self::scan_all), and only for it, so firmware that receives whole messages does not contain it. A
    /// framing without a faster way hands out nothing.
    #[doc(hidden)]
    fn scan_run<const STREAMING: bool>(
        &mut self,
        window: &mut [u8],
        limits: &Limits,
        each: impl FnMut(usize, Step) -> bool,
    ) -> (usize, bool) {
        let _ = (window, limits, each);
        (0, true)
    }

    /// Scans until more bytes are needed or `each` returns `false`. `each` gets every step with payload, end or
    /// fault, and the position in the window that the step counts from.
    // `always`: what `each` counts stays in registers only if no call to it, or to this, is left.
    #[inline(always)]
    fn scan_all<const STREAMING: bool>(
        &mut self,
        window: &mut [u8],
        limits: &Limits,
        mut each: impl FnMut(usize, Step) -> bool,
    ) -> Scanned {
        let mut used = 0;
        let mut ended = false;
        loop {
            let rest = window.get_mut(used..).unwrap_or_default();
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

/// Writes message boundaries around payload: the counterpart of [`Decode`].
///
/// For each message, call [`check`](Self::check) on every part, then [`header`](Self::header), write the payload (as it
/// is, or through [`escape`](Self::escape)), and call [`trailer`](Self::trailer). [`Sender`](crate::Sender) does so for
/// transports, and [`encode`](crate::encode()) for messages in memory.
///
/// Only this crate implements the trait.
///
/// ```
/// use framing_core::{Encode, Framing, Netstring};
///
/// let mut encoder = Netstring.encoder();
/// let (mut header, mut trailer) = ([0; 12], [0; 12]);
/// encoder.check(b"hello", true, true)?;
/// let len = encoder.header(5, &mut header)?;
/// assert_eq!(header[..len], *b"5:");
/// let len = encoder.trailer(&mut trailer)?;
/// assert_eq!(trailer[..len], *b",");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
pub trait Encode: Sealed {
    /// Memory for the bytes that the framing writes itself, and for the payload that leaves with them: an array.
    #[doc(hidden)]
    type Stage: Stage + 'static;
    /// Whether payload is always sent as it is, and never through [`escape`](Self::escape).
    const PASSTHROUGH: bool;
    /// Most bytes that [`header`](Self::header) writes before a payload, and [`end`](Self::end) writes: at most 12.
    const HEADER_MAX: usize = 0;
    /// Most bytes that [`trailer`](Self::trailer) writes after a payload that is sent unchanged.
    const TRAILER_MAX: usize = 0;

    /// [`PASSTHROUGH`](Self::PASSTHROUGH), if that is known at run time only.
    fn is_passthrough(&self) -> bool {
        Self::PASSTHROUGH
    }

    /// Whether `piece` can be sent as the next payload of a message. `first` and `last` say where in the message it is.
    ///
    /// # Errors
    /// [`Refusal::Delimiter`] if the piece would move the boundary.
    fn check(&mut self, piece: &[u8], first: bool, last: bool) -> Result<(), Refusal> {
        let _ = (piece, first, last);
        Ok(())
    }

    /// Writes the header of a message of `len` bytes to the front of `out`; returns the header's length in bytes.
    ///
    /// # Errors
    /// [`Refusal::Empty`], [`Refusal::TooLong`] or [`Refusal::WrongLength`] if the framing cannot express such a
    /// message; [`Refusal::NoRoom`] if `out` is too short.
    fn header(&self, len: u32, out: &mut [u8]) -> Result<usize, Refusal>;

    /// Least bytes that [`header`](Self::header) writes. If every header has the same length, senders use this
    /// constant instead of a field.
    #[doc(hidden)]
    fn header_min(&self) -> usize {
        0
    }

    /// Begins a message whose payload goes through [`escape`](Self::escape), or is sent in groups.
    fn begin(&mut self) {}

    /// Whether payload is sent in groups, which begin with a code: through [`group`](Self::group), and never through
    /// [`escape`](Self::escape). Such an encoder sends whole messages only.
    #[doc(hidden)]
    const GROUPS: bool = false;

    /// Stages the next bytes of a message, of which `done` bytes of payload were staged or sent: codes and payload, until
    /// the stage is full, or a long group begins. Returns whether the end of the message is staged.
    #[doc(hidden)]
    fn group<P: Payload + ?Sized>(
        &mut self,
        payload: &P,
        done: &mut usize,
        stage: &mut Self::Stage,
    ) -> bool {
        let _ = (payload, done, stage);
        true
    }

    /// Payload bytes of the current group to send as they are, after those in the stage. `None` without groups.
    #[doc(hidden)]
    fn group_left(&mut self) -> Option<&mut u8> {
        None
    }

    /// Writes a whole message to the front of `out`; returns its length on the wire.
    ///
    /// # Errors
    /// As [`encode`](crate::encode()).
    #[doc(hidden)]
    fn encode_groups<P: Payload + ?Sized>(
        &self,
        payload: &P,
        out: &mut [u8],
    ) -> Result<usize, Refusal> {
        let _ = payload;
        Err(Refusal::NoRoom { len: out.len() })
    }

    /// Bytes that end a message sent in part, so the receiver does not take it for a whole one. The first `sent` bytes of
    /// those in the stage were sent.
    #[doc(hidden)]
    fn abandon_group(&self, staged: &[u8], sent: usize) -> &'static [u8] {
        let _ = (staged, sent);
        &[]
    }

    /// Escapes payload into the stage. Returns how many bytes of payload were taken, and how many bytes at the front of
    /// the stage to send before the next call (0: none yet).
    fn escape(&mut self, piece: &[u8], stage: &mut [u8]) -> (usize, usize) {
        let _ = (piece, stage);
        (0, 0)
    }

    /// Length of the checksum that is escaped after the payload, in bytes; 0 if the framing has none.
    #[doc(hidden)]
    fn checksum_len(&self) -> usize {
        0
    }

    /// Escapes the rest of the checksum, of which `done` bytes were escaped. Returns as [`escape`](Self::escape).
    #[doc(hidden)]
    fn escape_checksum(&mut self, done: usize, stage: &mut [u8]) -> (usize, usize) {
        let _ = (done, stage);
        (0, 0)
    }

    /// Writes the end of a message; returns how many bytes at the front of the stage to send.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`] if the stage is shorter than [`TRAILER_MAX`](Self::TRAILER_MAX).
    fn trailer(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
        let _ = stage;
        Ok(0)
    }

    /// Writes bytes after which the receiver finds the next message, although only part of a message was sent;
    /// returns their number. `None` if the framing cannot resynchronise, or not with these parameters.
    ///
    /// `sent` is how many bytes at the front of the stage were sent. Where payload is sent as it is, the
    /// [`trailer`](Self::trailer) is written.
    fn abandon(&self, sent: usize, stage: &mut [u8]) -> Option<usize> {
        let _ = (sent, stage);
        None
    }

    /// Writes the mark that ends a series; returns its length in bytes, 0 if the framing has none.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`] if the stage is too short.
    fn end(&self, stage: &mut [u8]) -> Result<usize, Refusal> {
        let _ = stage;
        Ok(0)
    }
}
