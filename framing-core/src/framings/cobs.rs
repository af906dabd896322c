//! `cobs`: a zero byte after each message, and no zero in it.
//!
//! The payload is cut at its zeros into groups, and each group is written after a code byte: its length plus one. A code
//! of 255 stands for 254 bytes that no zero follows.
//!
//! ```text
//! 11 22 00 33   ->   03 11 22 02 33 00
//! ```

mod decoder;
mod encoder;
mod fast;
mod pieces;

pub use self::decoder::CobsDecoder;
pub use self::encoder::CobsEncoder;
pub use self::pieces::CobsPiecesEncoder;
use super::Named;
use crate::framing::{Framing, UnitFraming};

/// Any bytes, escaped so that a zero byte can end each message. The receiver finds the next message after any damage.
///
/// Consistent Overhead Byte Stuffing, by Cheshire and Baker, [IEEE/ACM Transactions on Networking 7(2),
/// 1999](https://doi.org/10.1109/90.769765). A message has 0 to 2³²−1 bytes. The overhead is two bytes, and one more for
/// each 254 bytes.
///
/// A zero between messages is skipped, so a sender may begin with one. A damaged message is reported
/// ([`Fault::EarlyEnd`](crate::Fault::EarlyEnd)) or arrives with wrong bytes: let the payload carry a checksum.
///
/// The code of a group is sent before the group, so a sender must see all of it. This framing looks ahead in the payload of
/// the caller, and sends whole messages, of one or several parts. Use [`CobsPieces`] to send a message in pieces.
///
/// ```
/// use framing_core::{Cobs, Framing, encode};
///
/// let mut out = [0; 16];
/// let len = encode(&mut Cobs.encoder(), b"\x11\x22\0\x33", &mut out)?;
/// assert_eq!(&out[..len], b"\x03\x11\x22\x02\x33\0");
/// # Ok::<(), framing_core::Refusal>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Cobs;

/// Most payload bytes of a group.
const GROUP: usize = 254;
/// The code of a full group, which no zero follows.
const CODE_FULL: u8 = 255;

impl Cobs {
    /// Most bytes on the wire of a message of `len` bytes.
    ///
    /// ```
    /// use framing_core::Cobs;
    ///
    /// assert_eq!(Cobs::wire_len(5), 7);
    /// ```
    #[must_use]
    pub const fn wire_len(len: usize) -> usize {
        len.saturating_add(len / GROUP).saturating_add(2)
    }

    /// Length of a buffer that receives messages of up to `len` bytes whole.
    ///
    /// ```
    /// use framing_core::Cobs;
    ///
    /// assert_eq!(Cobs::buffer_len(5), 7);
    /// ```
    #[must_use]
    pub const fn buffer_len(len: usize) -> usize {
        Self::wire_len(len)
    }
}

impl Framing for Cobs {
    type Decoder = CobsDecoder;
    type Encoder = CobsEncoder;

    fn decoder(&self) -> CobsDecoder {
        Self::DECODER
    }

    fn encoder(&self) -> CobsEncoder {
        Self::ENCODER
    }
}

impl UnitFraming for Cobs {
    const DECODER: CobsDecoder = CobsDecoder::new();
    const ENCODER: CobsEncoder = CobsEncoder::new();
}

impl Named for Cobs {
    const SPEC: &'static str = "cobs";
    const PLAIN: Option<Self> = Some(Self);
}

/// [`Cobs`], whose sender also takes messages in pieces ([`Sender::begin`](crate::Sender::begin)).
///
/// It holds the open group back until its code is known, in 256 bytes of memory. The bytes on the wire, the receiver, and
/// the lengths of buffers are those of [`Cobs`].
///
/// ```
/// use framing_core::blocking::Writer;
/// use framing_core::{CobsPieces, SendError};
///
/// let mut writer = Writer::new(Vec::new(), CobsPieces);
/// writer.begin(8)?;
/// writer.send_piece(b"pres")?;
/// writer.send_piece(b"sure")?;
/// assert_eq!(writer.into_io(), b"\x09pressure\0");
/// # Ok::<(), SendError<core::convert::Infallible>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CobsPieces;

impl Framing for CobsPieces {
    type Decoder = CobsDecoder;
    type Encoder = CobsPiecesEncoder;

    fn decoder(&self) -> CobsDecoder {
        Self::DECODER
    }

    fn encoder(&self) -> CobsPiecesEncoder {
        Self::ENCODER
    }
}

impl UnitFraming for CobsPieces {
    const DECODER: CobsDecoder = CobsDecoder::new();
    const ENCODER: CobsPiecesEncoder = CobsPiecesEncoder::new();
}

impl From<Cobs> for CobsPieces {
    fn from(_: Cobs) -> Self {
        Self
    }
}

/// Whether bytes on the wire, which begin with a group, end between two groups.
fn is_between_groups(wire: &[u8]) -> bool {
    let mut group = 0;
    while let Some(&code) = wire.get(group) {
        group += usize::from(code).max(1);
    }
    group == wire.len()
}
