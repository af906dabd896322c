//! `stream`: bytes until the peer closes.
//!
//! From `streamer.py` in *Foundations of Python Network Programming*.
//!
//! ```text
//! | bytes … | close |
//! ```

use core::ops::Range;

use super::Named;
use crate::fault::{Fault, Refusal};
use crate::framing::{Decode, Encode, Framing, Limits, Step, UnitFraming};
use crate::sealed::Sealed;
use crate::size::size_u32;
use crate::stage::Joined;
use crate::window::ExactWindow;

/// No framing: the whole stream is one message, which ends when the peer closes.
///
/// Receive it with `receive_piece`, which returns the bytes as they arrive. Its length is not limited, since it is never
/// stored, and it has no faults.
///
/// ```
/// use framing_core::blocking::Reader;
/// use framing_core::{ReceivedPiece, Stream};
///
/// let mut reader = Reader::new(&b"all of it"[..], Stream, [0; 4]);
/// let mut all = Vec::new();
/// while let ReceivedPiece::Piece { bytes, .. } = reader.receive_piece()? {
///     all.extend_from_slice(bytes);
/// }
/// assert_eq!(all, b"all of it");
/// # Ok::<(), framing_core::ReceiveError<core::convert::Infallible>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stream;

impl Stream {
    /// Bytes on the wire of `len` bytes.
    ///
    /// ```
    /// use framing_core::Stream;
    ///
    /// assert_eq!(Stream::wire_len(5), 5);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len
    }

    /// Length of the smallest buffer that receives pieces of up to `len` bytes.
    ///
    /// ```
    /// use framing_core::Stream;
    ///
    /// assert_eq!(Stream::buffer_len(5), 5);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        len
    }
}

impl Framing for Stream {
    type Decoder = StreamDecoder;
    type Encoder = StreamEncoder;

    fn decoder(&self) -> StreamDecoder {
        Self::DECODER
    }

    fn encoder(&self) -> StreamEncoder {
        Self::ENCODER
    }
}

impl UnitFraming for Stream {
    const DECODER: StreamDecoder = StreamDecoder { open: false };
    const ENCODER: StreamEncoder = StreamEncoder;
}

impl Named for Stream {
    const SPEC: &'static str = "stream";
    const PLAIN: Option<Self> = Some(Self);
}

/// Decoder of [`Stream`].
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StreamDecoder {
    /// Bytes were received.
    open: bool,
}

impl Sealed for StreamDecoder {}

impl Decode for StreamDecoder {
    type Window = ExactWindow;

    fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], _limits: &Limits) -> Step {
        let end = window.len();
        if end == 0 {
            return Step::NeedMore { want: usize::MAX };
        }
        let first = !self.open;
        self.open = true;
        Step::Payload {
            start: 0,
            end,
            take: end,
            first,
            last: false,
        }
    }

    fn close(&mut self, _unread: usize) -> Option<Fault> {
        self.open = false;
        None
    }

    fn unfinished(&self, _unread: usize) -> Range<usize> {
        0..0
    }

    fn is_lost(&self) -> bool {
        false
    }

    fn is_mid_block(&self) -> bool {
        self.open
    }

    fn block_max(&self, len: usize) -> u32 {
        size_u32(len)
    }

    fn has_boundaries(&self) -> bool {
        false
    }
}

/// Encoder of [`Stream`].
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StreamEncoder;

impl Sealed for StreamEncoder {}

impl Encode for StreamEncoder {
    type Stage = Joined<0>;
    const PASSTHROUGH: bool = true;

    fn header(&self, _len: u32, _stage: &mut [u8]) -> Result<usize, Refusal> {
        Ok(0)
    }
}
