#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![warn(clippy::std_instead_of_core, clippy::alloc_instead_of_core)]

pub mod asynch;
pub mod blocking;
pub mod session;

mod bytes;
mod encode;
mod fault;
mod framing;
mod framings;
mod kept;
mod payload;
mod received;
mod receiver;
mod sealed;
mod sender;
mod size;
mod stage;
mod window;

pub use embedded_io;
pub use embedded_io_async;

pub use self::encode::encode;
pub use self::fault::{Fault, Part, ReceiveError, Refusal, SendError};
pub use self::framing::{Decode, Encode, Framing, Limits, Scanned, Step, UnitFraming};
pub use self::framings::{
    AnyFraming, Blocks, Cobs, CobsCrc16, CobsCrc16Pieces, CobsCrc32, CobsCrc32Pieces, CobsPieces,
    Delimited, Fixed, Length, Lines, Netstring, OctetCounted, Parsed, Prefix, SpecError, Stream,
    U8, U16, U16Le, U32, U32Le, Varint, Width,
};
pub use self::payload::Payload;
pub use self::received::{Received, ReceivedPiece};
pub use self::receiver::{Buffer, Polled, Receiver};
pub use self::sender::Sender;

// Types that occur in signatures, and that programs do not name.
#[doc(hidden)]
pub use self::framings::{
    AnyDecoder, AnyEncoder, CheckedDecoder, CheckedEncoder, CheckedPiecesEncoder, Checksum,
    CobsDecoder, CobsEncoder, CobsPiecesEncoder, CountedDecoder, CountedEncoder, Crc16, Crc32,
    DelimitedDecoder, DelimitedEncoder, StreamDecoder, StreamEncoder,
};
#[doc(hidden)]
pub use self::kept::{KeepTruncated, SkipMax};
#[doc(hidden)]
pub use self::stage::{Escaped, Stage};
#[doc(hidden)]
pub use self::window::{ExactWindow, SlidingWindow, Window};
