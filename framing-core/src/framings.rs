//! The list of framings, and the choice of one at run time: [`AnyFraming`].

mod blocks;
mod checked;
mod cobs;
mod counted;
mod decimal;
mod delimited;
mod fixed;
mod length;
mod prefix;
mod stream;

use core::fmt;
use core::ops::Range;
use core::str::FromStr;

pub use self::blocks::Blocks;
pub use self::checked::{
    CheckedDecoder, CheckedEncoder, CheckedPiecesEncoder, Checksum, CobsCrc16, CobsCrc16Pieces,
    CobsCrc32, CobsCrc32Pieces, Crc16, Crc32,
};
pub use self::cobs::{Cobs, CobsDecoder, CobsEncoder, CobsPieces, CobsPiecesEncoder};
pub use self::counted::{CountedDecoder, CountedEncoder};
pub use self::decimal::{Netstring, OctetCounted};
pub use self::delimited::{Delimited, DelimitedDecoder, DelimitedEncoder, Lines};
pub use self::fixed::Fixed;
pub use self::length::{Length, U8, U16, U16Le, U32, U32Le, Varint, Width};
pub use self::prefix::{Parsed, Prefix};
pub use self::stream::{Stream, StreamDecoder, StreamEncoder};

use crate::fault::{Fault, Refusal};
use crate::framing::{Decode, Encode, Framing, Limits, Scanned, Step};
use crate::sealed::Sealed;
use crate::stage::Escaped;
use crate::window::SlidingWindow;

/// A framing that can be chosen by its name.
trait Named: Sized {
    /// The name, as it is typed in a configuration.
    const SPEC: &'static str;

    /// The framing, if its name has no argument.
    const PLAIN: Option<Self> = None;

    /// Parses a name with its argument; `None` for the name of another framing.
    fn parse_spec(spec: &str) -> Option<Result<Self, SpecError>> {
        if spec == Self::SPEC {
            Self::PLAIN.map(Ok)
        } else {
            None
        }
    }

    /// Writes the name with its argument.
    fn fmt_spec(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::SPEC)
    }
}

/// A text is not the name of a framing.
///
/// ```
/// use framing_core::{AnyFraming, SpecError};
///
/// assert_eq!("fixed:0".parse::<AnyFraming>(), Err(SpecError::BadLength));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SpecError {
    /// No framing has this name.
    Unknown,
    /// `fixed:` must be followed by a length of 1 to 4294967295.
    BadLength,
    /// `delimited:` must be followed by 1 to 8 bytes in hexadecimal.
    BadDelimiter,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("no such framing; there are ")?;
                for (index, spec) in AnyFraming::SPECS.iter().enumerate() {
                    write!(f, "{}{spec}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::BadLength => {
                f.write_str("fixed:N needs a length from 1 to 4294967295, as in fixed:16")
            }
            Self::BadDelimiter => {
                f.write_str("delimited:HEX needs 1 to 8 bytes in hexadecimal, as in delimited:0d0a")
            }
        }
    }
}

impl core::error::Error for SpecError {}

/// The framing whose encoder is used: the second one, if there is one.
macro_rules! sending {
    ($framing:ty) => {
        $framing
    };
    ($framing:ty, $sending:ty) => {
        $sending
    };
}

/// Generates the run-time choice from the list of framings.
macro_rules! framings {
    ($dollar:tt $($name:ident: $framing:ty $(, sent by $sending:ty)?;)*) => {
        /// Calls a macro with the list of framings, after some tokens: `callback! { tokens Blocks: Blocks, ... }`.
        /// For the tests of this repository.
        #[doc(hidden)]
        #[macro_export]
        macro_rules! with_framings {
            ($dollar($dollar callback:ident)::+! { $dollar($dollar tokens:tt)* }) => {
                $dollar($dollar callback)::+! { $dollar($dollar tokens)* $($name: $framing,)* }
            };
        }

        /// A framing chosen at run time, by its name: `"length:u16le".parse::<AnyFraming>()`.
        ///
        /// For programs. Firmware names the type of one framing, so the others take no flash.
        ///
        /// ```
        /// use framing_core::blocking::Reader;
        /// use framing_core::{AnyFraming, Received};
        ///
        /// let framing: AnyFraming = "length:u16le".parse()?;
        /// let mut reader = Reader::new(&b"\x05\0hello"[..], framing, [0; 16]);
        /// assert_eq!(reader.receive(), Ok(Received::Message(b"hello")));
        /// assert_eq!(framing.to_string(), "length:u16le");
        /// # Ok::<(), framing_core::SpecError>(())
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum AnyFraming {
            $(#[doc = concat!("`", stringify!($framing), "`")] $name($framing),)*
        }

        /// Decoder of [`AnyFraming`].
        #[derive(Clone, Copy, Debug)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum AnyDecoder {
            $(#[doc = concat!("`", stringify!($framing), "`")] $name(<$framing as Framing>::Decoder),)*
        }

        /// Encoder of [`AnyFraming`].
        #[derive(Debug)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum AnyEncoder {
            $(#[doc = concat!("`", stringify!($framing), "`")] $name(<sending!($framing $(, $sending)?) as Framing>::Encoder),)*
        }

        impl AnyFraming {
            /// The names that can be parsed. `N` and `HEX` stand for an argument.
            ///
            /// ```
            /// use framing_core::AnyFraming;
            ///
            /// assert!(AnyFraming::SPECS.contains(&"length:u16le"));
            /// assert!(AnyFraming::SPECS.contains(&"fixed:N"));
            /// assert!("fixed:16".parse::<AnyFraming>().is_ok());
            /// ```
            pub const SPECS: &'static [&'static str] = &[$(<$framing as Named>::SPEC,)*];
        }

        impl FromStr for AnyFraming {
            type Err = SpecError;

            fn from_str(spec: &str) -> Result<Self, SpecError> {
                $(if let Some(framing) = <$framing as Named>::parse_spec(spec) {
                    return framing.map(Self::$name);
                })*
                Err(SpecError::Unknown)
            }
        }

        impl fmt::Display for AnyFraming {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$name(framing) => framing.fmt_spec(f),)* }
            }
        }

        impl Framing for AnyFraming {
            type Decoder = AnyDecoder;
            type Encoder = AnyEncoder;

            fn decoder(&self) -> AnyDecoder {
                match self { $(Self::$name(framing) => AnyDecoder::$name(framing.decoder()),)* }
            }

            fn encoder(&self) -> AnyEncoder {
                match *self {
                    $(Self::$name(framing) => {
                        let sending: sending!($framing $(, $sending)?) = framing.into();
                        AnyEncoder::$name(sending.encoder())
                    })*
                }
            }
        }

        impl Sealed for AnyDecoder {}

        impl Decode for AnyDecoder {
            type Window = SlidingWindow;

            fn scan<const STREAMING: bool>(&mut self, window: &mut [u8], limits: &Limits) -> Step {
                match self { $(Self::$name(decoder) => decoder.scan::<STREAMING>(window, limits),)* }
            }

            fn close(&mut self, unread: usize) -> Option<Fault> {
                match self { $(Self::$name(decoder) => decoder.close(unread),)* }
            }

            fn unfinished(&self, unread: usize) -> Range<usize> {
                match self { $(Self::$name(decoder) => decoder.unfinished(unread),)* }
            }

            fn is_lost(&self) -> bool {
                match self { $(Self::$name(decoder) => decoder.is_lost(),)* }
            }

            fn is_mid_block(&self) -> bool {
                match self { $(Self::$name(decoder) => decoder.is_mid_block(),)* }
            }

            fn block_max(&self, len: usize) -> u32 {
                match self { $(Self::$name(decoder) => decoder.block_max(len),)* }
            }

            fn has_boundaries(&self) -> bool {
                match self { $(Self::$name(decoder) => decoder.has_boundaries(),)* }
            }

            /// Selects the framing once for each window, not once for each step.
            #[inline(always)]
            fn scan_all<const STREAMING: bool>(
                &mut self,
                window: &mut [u8],
                limits: &Limits,
                each: impl FnMut(usize, Step) -> bool,
            ) -> Scanned {
                match self { $(Self::$name(decoder) => decoder.scan_all::<STREAMING>(window, limits, each),)* }
            }
        }

        impl Sealed for AnyEncoder {}

        impl Encode for AnyEncoder {
            type Stage = Escaped<512>;
            const PASSTHROUGH: bool = false;
            const HEADER_MAX: usize = crate::sender::OWN_MAX;
            const TRAILER_MAX: usize = Delimited::LEN_MAX;

            fn check(&mut self, piece: &[u8], first: bool, last: bool) -> Result<(), Refusal> {
                match self { $(Self::$name(encoder) => encoder.check(piece, first, last),)* }
            }

            fn header(&self, len: u32, stage: &mut [u8]) -> Result<usize, Refusal> {
                match self { $(Self::$name(encoder) => encoder.header(len, stage),)* }
            }

            fn begin(&mut self) {
                match self { $(Self::$name(encoder) => encoder.begin(),)* }
            }

            fn is_passthrough(&self) -> bool {
                match self { $(Self::$name(encoder) => encoder.is_passthrough(),)* }
            }

            fn escape(&mut self, piece: &[u8], stage: &mut [u8]) -> (usize, usize) {
                match self { $(Self::$name(encoder) => encoder.escape(piece, stage),)* }
            }

            fn checksum_len(&self) -> usize {
                match self { $(Self::$name(encoder) => encoder.checksum_len(),)* }
            }

            fn escape_checksum(&mut self, done: usize, stage: &mut [u8]) -> (usize, usize) {
                match self { $(Self::$name(encoder) => encoder.escape_checksum(done, stage),)* }
            }

            fn trailer(&mut self, stage: &mut [u8]) -> Result<usize, Refusal> {
                match self { $(Self::$name(encoder) => encoder.trailer(stage),)* }
            }

            fn abandon(&self, sent: usize, stage: &mut [u8]) -> Option<usize> {
                match self { $(Self::$name(encoder) => encoder.abandon(sent, stage),)* }
            }

            fn end(&self, stage: &mut [u8]) -> Result<usize, Refusal> {
                match self { $(Self::$name(encoder) => encoder.end(stage),)* }
            }
        }
    };
}

// To add a framing: its file, and its line here. `AnyFraming` sends messages in pieces too, so it may use another encoder.
framings! {
    $
    Blocks: Blocks;
    Stream: Stream;
    Fixed: Fixed;
    Lines: Lines;
    Delimited: Delimited;
    Cobs: Cobs, sent by CobsPieces;
    CobsCrc16: CobsCrc16, sent by CobsCrc16Pieces;
    CobsCrc32: CobsCrc32, sent by CobsCrc32Pieces;
    LengthU8: Length<U8>;
    LengthU16: Length<U16>;
    LengthU16Le: Length<U16Le>;
    LengthU32: Length<U32>;
    LengthU32Le: Length<U32Le>;
    LengthVarint: Varint;
    Netstring: Netstring;
    OctetCounted: OctetCounted;
}
