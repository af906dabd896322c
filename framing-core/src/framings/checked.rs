//! `cobs-crc16` and `cobs-crc32`: `cobs`, with a checksum after each payload.
//!
//! ```text
//! cobs(payload, checksum of the payload: 2 or 4 bytes, big-endian), 00
//! ```
//!
//! Both sides wrap those of [`Cobs`], and use nothing of them but [`Decode`] and [`Encode`].

mod crc;
mod decoder;
mod encoder;

pub use self::crc::{Checksum, Crc16, Crc32};
pub use self::decoder::CheckedDecoder;
pub use self::encoder::{CheckedEncoder, CheckedPiecesEncoder};
use super::{Cobs, Named};
use crate::framing::{Framing, UnitFraming};

/// Generates a framing for each checksum.
macro_rules! checked {
    ($($(#[$attr:meta])* $name:ident, $pieces:ident, $crc:ty, $spec:literal, $wire_len:literal;)*) => { $(
        $(#[$attr])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub struct $name;

        impl $name {
            /// Most bytes on the wire of a message of `len` bytes.
            ///
            /// ```
            #[doc = concat!("use framing_core::", stringify!($name), ";")]
            ///
            #[doc = concat!("assert_eq!(", stringify!($name), "::wire_len(5), ", $wire_len, ");")]
            /// ```
            #[must_use]
            pub const fn wire_len(len: usize) -> usize {
                Cobs::wire_len(len.saturating_add(<$crc as Checksum>::LEN))
            }

            /// Length of a buffer that receives messages of up to `len` bytes whole.
            ///
            /// ```
            #[doc = concat!("use framing_core::", stringify!($name), ";")]
            ///
            #[doc = concat!("assert_eq!(", stringify!($name), "::buffer_len(5), ", $wire_len, ");")]
            /// ```
            #[must_use]
            pub const fn buffer_len(len: usize) -> usize {
                Cobs::buffer_len(len.saturating_add(<$crc as Checksum>::LEN))
            }
        }

        impl Framing for $name {
            type Decoder = CheckedDecoder<$crc>;
            type Encoder = CheckedEncoder<$crc>;

            fn decoder(&self) -> Self::Decoder {
                CheckedDecoder::new()
            }

            fn encoder(&self) -> Self::Encoder {
                Self::ENCODER
            }
        }

        impl UnitFraming for $name {
            const DECODER: Self::Decoder = CheckedDecoder::new();
            const ENCODER: Self::Encoder = CheckedEncoder::NEW;
        }

        #[doc = concat!("[`", stringify!($name), "`], whose sender also takes messages in pieces")]
        /// ([`Sender::begin`](crate::Sender::begin)).
        ///
        #[doc = concat!("It holds the open group back, as [`CobsPieces`](crate::CobsPieces) does. The receiver is that of [`", stringify!($name), "`].")]
        ///
        /// ```
        /// use framing_core::blocking::Writer;
        #[doc = concat!("use framing_core::{", stringify!($name), ", ", stringify!($pieces), ", SendError};")]
        ///
        #[doc = concat!("let mut writer = Writer::new(Vec::new(), ", stringify!($pieces), ");")]
        /// writer.begin(8)?;
        /// writer.send_piece(b"pres")?;
        /// writer.send_piece(b"sure")?;
        #[doc = concat!("let mut whole = Writer::new(Vec::new(), ", stringify!($name), ");")]
        /// whole.send(b"pressure")?;
        /// assert_eq!(writer.into_io(), whole.into_io());
        /// # Ok::<(), SendError<core::convert::Infallible>>(())
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub struct $pieces;

        impl Framing for $pieces {
            type Decoder = CheckedDecoder<$crc>;
            type Encoder = CheckedPiecesEncoder<$crc>;

            fn decoder(&self) -> Self::Decoder {
                CheckedDecoder::new()
            }

            fn encoder(&self) -> Self::Encoder {
                Self::ENCODER
            }
        }

        impl UnitFraming for $pieces {
            const DECODER: Self::Decoder = CheckedDecoder::new();
            const ENCODER: Self::Encoder = CheckedPiecesEncoder::NEW;
        }

        impl From<$name> for $pieces {
            fn from(_: $name) -> Self {
                Self
            }
        }

        impl Named for $name {
            const SPEC: &'static str = $spec;
            const PLAIN: Option<Self> = Some(Self);
        }
    )* };
}

checked! {
    /// [`Cobs`] with a checksum of two bytes after each payload: for serial lines and radios that lose or damage bytes.
    ///
    /// The checksum is CRC-16/XMODEM (polynomial `0x1021`, first value 0, not reflected; its check value, that of the
    /// text `123456789`, is `0x31c3`). It is sent big-endian, escaped as part of the message, before the delimiter. A message
    /// whose checksum does not match, or that is shorter than a checksum, is refused
    /// ([`Fault::BadChecksum`](crate::Fault::BadChecksum)); the next one is delivered.
    ///
    /// Prefer [`CobsCrc32`], which takes two bytes more. This checksum is 0 at the beginning of a message, and again after a
    /// message with its checksum. So it detects neither that a delimiter is lost, which joins two messages, nor that zeros in
    /// front of a message are. Of other damage, one message in 65,536 passes; of `CobsCrc32`, one in four billion.
    ///
    /// A message has 0 to 2³²−3 bytes; the limits of lengths count the payload without the checksum. If a message is
    /// received in pieces, the checksum is verified at its end: do not act on earlier pieces before.
    ///
    /// ```
    /// use framing_core::{CobsCrc16, Framing, encode};
    ///
    /// let mut out = [0; 16];
    /// let len = encode(&mut CobsCrc16.encoder(), b"123456789", &mut out)?;
    /// assert_eq!(&out[..len], b"\x0c123456789\x31\xc3\0");
    /// # Ok::<(), framing_core::Refusal>(())
    /// ```
    CobsCrc16, CobsCrc16Pieces, Crc16, "cobs-crc16", 9;

    /// [`Cobs`] with a checksum of four bytes after each payload: for serial lines and radios that lose or damage bytes.
    ///
    /// The checksum is CRC-32/ISO-HDLC, the one of Ethernet, gzip and PNG (polynomial `0x04c11db7`, reflected, first
    /// value and last XOR `0xffff_ffff`; its check value, that of the text `123456789`, is `0xcbf4_3926`). It is sent
    /// big-endian, escaped as part of the message, before the delimiter. A message whose checksum does not match, or that is
    /// shorter than a checksum, is refused ([`Fault::BadChecksum`](crate::Fault::BadChecksum)); the next one is delivered.
    ///
    /// A message has 0 to 2³²−5 bytes; the limits of lengths count the payload without the checksum. If a message is
    /// received in pieces, the checksum is verified at its end: do not act on earlier pieces before.
    ///
    /// ```
    /// use framing_core::blocking::Reader;
    /// use framing_core::{CobsCrc32, Fault, ReceiveError, Received};
    ///
    /// let wire = b"\x0e123456789\xcb\xf4\x39\x26\0\x0e123456780\xcb\xf4\x39\x26\0";
    /// let mut reader = Reader::new(&wire[..], CobsCrc32, [0; CobsCrc32::buffer_len(9)]);
    /// assert_eq!(reader.receive(), Ok(Received::Message(b"123456789")));
    /// // The last byte of the second message was damaged.
    /// let fault = Fault::BadChecksum { want: 0xb228_8182, found: Some(0xcbf4_3926) };
    /// assert_eq!(reader.receive(), Err(ReceiveError::Fault(fault)));
    /// ```
    CobsCrc32, CobsCrc32Pieces, Crc32, "cobs-crc32", 11;
}
