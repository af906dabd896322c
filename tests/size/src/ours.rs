//! The framings of framing-core.

use framing_core::*;

#[cfg(not(feature = "async"))]
use framing_core::blocking::{Reader, Writer};
#[cfg(feature = "async")]
use framing_core::asynch::{Reader, Writer};

use crate::port::{Port, buffer, failed, message, messages, received};

macro_rules! framings {
    ($($feature:literal $framing:ty, $make:expr;)*) => { $(
        #[cfg(feature = $feature)]
        type Way = $framing;
        #[cfg(feature = $feature)]
        fn framing() -> Way {
            $make
        }
    )* };
}

framings! {
    "blocks" Blocks, Blocks;
    "stream" Stream, Stream;
    "fixed" Fixed, Fixed::new(core::num::NonZeroU32::new(240).unwrap_or(core::num::NonZeroU32::MIN));
    "lines" Lines, Lines;
    "delimited" Delimited, Delimited::new(b"\r\n\r\n").unwrap_or_else(|| loop {});
    "core-cobs" Cobs, Cobs;
    "cobs-crc16" CobsCrc16, CobsCrc16;
    "cobs-crc32" CobsCrc32, CobsCrc32;
    "length-u8" Length<U8>, Length::new();
    "length-u16" Length<U16>, Length::new();
    "length-u32" Length<U32>, Length::new();
    "varint" Varint, Varint;
    "netstring" Netstring, Netstring;
    "octet-counted" OctetCounted, OctetCounted;
}

/// Size of the state of a direction, without the caller's buffer and the transport.
#[cfg(feature = "receive")]
const STATE: usize = size_of::<Receiver<Way, [u8; 4]>>() - 4;
#[cfg(feature = "send")]
const STATE: usize = size_of::<Sender<Way>>();
#[used]
#[unsafe(link_section = ".state")]
static STATE_BYTES: [u8; STATE] = [0; STATE];

#[cfg(not(feature = "stream"))]
macro_rules! receive {
    ($($wait:tt)*) => {{
        let mut reader = Reader::new(Port::default(), framing(), buffer());
        loop {
            match reader.receive()$($wait)* {
                Ok(Received::Message(bytes)) => received(bytes),
                Ok(Received::End | Received::Closed) => break,
                Err(_) => failed(),
            }
        }
    }};
}

// A stream has no whole messages.
#[cfg(feature = "stream")]
macro_rules! receive {
    ($($wait:tt)*) => {{
        let mut reader = Reader::new(Port::default(), framing(), buffer());
        loop {
            match reader.receive_piece()$($wait)* {
                Ok(ReceivedPiece::Piece { bytes, .. }) => received(bytes),
                Ok(ReceivedPiece::End | ReceivedPiece::Closed) => break,
                Err(_) => failed(),
            }
        }
    }};
}

macro_rules! send {
    ($($wait:tt)*) => {{
        let mut writer = Writer::new(Port::default(), framing());
        for _ in 0..messages() {
            if writer.send(message())$($wait)*.is_err() {
                failed();
            }
        }
    }};
}

#[cfg(all(feature = "receive", not(feature = "async")))]
pub fn receive() {
    receive!();
}

#[cfg(all(feature = "receive", feature = "async"))]
pub async fn receive() {
    receive!(.await);
}

#[cfg(all(feature = "send", not(feature = "async")))]
pub fn send() {
    send!();
}

#[cfg(all(feature = "send", feature = "async"))]
pub async fn send() {
    send!(.await);
}
