//! The frames of a session: payloads of [`Blocks`](crate::Blocks) messages, all integers big-endian.
//!
//! Up, from the device: [`Hello`], then series of messages, each opened by a [`Cont`]. Down, from the host: [`Welcome`],
//! [`Ack`], [`Closing`]. A frame down begins with its type in the highest byte of a word, and a number in the other 56 bits.
//!
//! ```
//! use framing_core::session::wire::{Ack, Down};
//!
//! let frame = Ack { acked: 3, time_ns: None };
//! let (bytes, len) = frame.encode();
//! assert_eq!(&bytes[..len], [0, 0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 3]);
//! assert_eq!(Down::parse(&bytes[4..len]), Ok(Down::Ack(frame)));
//! ```

mod extensions;
mod frame_error;
mod hello;

use super::words::{long, word};
use crate::bytes::copy;

pub use self::extensions::Extensions;
pub use self::frame_error::FrameError;
pub use self::hello::{Hello, Opening};

/// The first eight bytes of a HELLO. `FF` occurs in no UTF-8 and begins no JSON and no well-formed CBOR item.
pub const MAGIC: [u8; 8] = *b"\xff\xc1blkack";
/// The version of the protocol.
pub const VERSION: u8 = 1;
/// The largest number of a message. Numbers never wrap.
pub const NUMBER_MAX: u64 = (1 << 56) - 1;
/// Length of a HELLO before the device id.
pub const HELLO_LEN: usize = 48;
/// Longest payload of a HELLO.
pub const HELLO_MAX: usize = 4096;
/// Longest device id.
pub const DEVICE_MAX: usize = 64;
/// Longest HELLO without extensions, with its header.
pub const HELLO_WIRE_MAX: usize = 4 + HELLO_LEN + DEVICE_MAX;
/// Length of a CONT without extensions.
pub const CONT_LEN: usize = 24;
/// Longest payload of a CONT.
pub const CONT_MAX: usize = 255;
/// Longest frame down: the buffer of a sender has this length, and longer frames are skipped.
pub const DOWN_MAX: usize = 44;
/// Flag of a HELLO: each ACK has the host's time.
pub const TIME: u8 = 1 << 1;
/// The flags of a HELLO that a host must understand: others can be ignored.
pub const MUST_FLAGS: u8 = 0xf0;
/// Extensions of this type and above must be understood.
pub const MUST_EXTENSION: u8 = 0x80;
/// Heartbeat wish: the host's choice.
pub const HEARTBEAT_HOST: u8 = 0;
/// Heartbeat wish: none.
pub const HEARTBEAT_NONE: u8 = 255;
/// Flag of a WELCOME: the host's clock is synchronised.
pub const SYNCED: u16 = 1 << 0;
/// Flag of a WELCOME: HELLO had a session, and this is another.
pub const NEW: u16 = 1 << 1;
/// Types of frames down.
pub(super) const TYPE_WELCOME: u8 = 1;
pub(super) const TYPE_ACK: u8 = 2;
pub(super) const TYPE_CONT: u8 = 3;
pub(super) const TYPE_CLOSING: u8 = 15;
/// A type down that is unknown can be ignored if it is below this.
pub(super) const TYPE_MUST: u8 = 0x80;

/// What opens a series: CONT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Cont<'a> {
    /// Number of the next message.
    pub number: u64,
    /// The session.
    pub session: u64,
    /// The sender's clock in µs; 0: unknown.
    pub uptime_us: u64,
    /// Extensions.
    pub extensions: Extensions<'a>,
}

/// The answer to a HELLO: WELCOME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Welcome {
    /// All messages below are durable, refused or known to be lost.
    pub acked: u64,
    /// Number of the next message that the host needs.
    pub resume: u64,
    /// The session.
    pub session: u64,
    /// The host's clock, in ns since 1970.
    pub time_ns: u64,
    /// Longest message that the host takes, in bytes.
    pub block_max: u32,
    /// A frame comes down at least every so many seconds; 0: never.
    pub heartbeat_s: u16,
    /// [`SYNCED`] and [`NEW`].
    pub flags: u16,
    /// CRC-32 of message `resume - 1`; 0: unknown.
    pub check: u32,
}

/// A cumulative acknowledgement: ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ack {
    /// All messages below are durable, refused or known to be lost.
    pub acked: u64,
    /// The host's clock, in ns since 1970.
    pub time_ns: Option<u64>,
}

/// The last frame of a host: CLOSING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Closing<'a> {
    /// Why: a [`ClosingCode`], or one of a later version.
    pub code: u8,
    /// When to connect again, in s, at the earliest.
    pub retry_s: u16,
    /// With [`ClosingCode::Version`], the highest version that the host speaks; else 0.
    pub number: u64,
    /// A text of up to 28 bytes.
    pub text: &'a [u8],
}

/// Why a host closes a session's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
#[repr(u8)]
pub enum ClosingCode {
    /// The host does not speak this version.
    Version = 1,
    /// The HELLO is malformed.
    BadHello = 2,
    /// The device may not connect.
    Forbidden = 3,
    /// The host has too many connections or sessions.
    Full = 4,
    /// Another connection continues the session.
    Superseded = 5,
    /// The host does not understand a flag or an extension that it must understand.
    Unsupported = 6,
    /// Messages were lost on the host's disk, in a failed sync or by damage: connect again at once.
    Again = 7,
    /// The host stops.
    Shutdown = 8,
    /// The sender broke the protocol.
    Protocol = 9,
    /// The host has no sessions here.
    NoSession = 10,
}

/// Any frame down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Down<'a> {
    /// WELCOME.
    Welcome(Welcome),
    /// ACK.
    Ack(Ack),
    /// CLOSING.
    Closing(Closing<'a>),
    /// A type that this version does not know, below 128.
    Unknown {
        /// The type.
        kind: u8,
    },
}

impl<'a> Cont<'a> {
    /// Parses the first message of a series.
    ///
    /// # Errors
    /// [`FrameError::Kind`] if it is no CONT, and others of its extensions.
    pub fn parse(payload: &'a [u8]) -> Result<Self, FrameError> {
        let bad_len = FrameError::Length {
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        let kind = *payload.first().ok_or(bad_len)?;
        if kind != TYPE_CONT {
            return Err(FrameError::Kind { kind });
        }
        let (fixed, rest) = payload.split_first_chunk::<CONT_LEN>().ok_or(bad_len)?;
        if CONT_MAX < payload.len() {
            return Err(bad_len);
        }
        let extensions = Extensions(rest);
        extensions.check()?;
        Ok(Self {
            number: long::<0>(fixed) & NUMBER_MAX,
            session: long::<8>(fixed),
            uptime_us: long::<16>(fixed),
            extensions,
        })
    }

    /// The payload, without extensions.
    #[must_use]
    pub fn encode(&self) -> [u8; CONT_LEN] {
        let mut bytes = [0; CONT_LEN];
        let mut out = Out {
            to: &mut bytes,
            at: 0,
        };
        out.put(&typed(TYPE_CONT, self.number));
        out.put(&self.session.to_be_bytes());
        out.put(&self.uptime_us.to_be_bytes());
        bytes
    }
}

impl Welcome {
    /// The frame with its header.
    #[must_use]
    pub fn encode(&self) -> [u8; 4 + DOWN_MAX] {
        let mut bytes = [0; 4 + DOWN_MAX];
        let mut out = Out {
            to: &mut bytes,
            at: 0,
        };
        out.put(&[0, 0, 0, 44]);
        out.put(&typed(TYPE_WELCOME, self.acked));
        out.put(&self.resume.to_be_bytes());
        out.put(&self.session.to_be_bytes());
        out.put(&self.time_ns.to_be_bytes());
        out.put(&self.block_max.to_be_bytes());
        out.put(&self.heartbeat_s.to_be_bytes());
        out.put(&self.flags.to_be_bytes());
        out.put(&self.check.to_be_bytes());
        bytes
    }
}

impl Ack {
    /// The frame with its header, in the first bytes of the array, and its length.
    #[must_use]
    pub fn encode(&self) -> ([u8; 20], usize) {
        let mut bytes = [0; 20];
        let len = if self.time_ns.is_some() { 16 } else { 8 };
        let mut out = Out {
            to: &mut bytes,
            at: 0,
        };
        out.put(&[0, 0, 0, len]);
        out.put(&typed(TYPE_ACK, self.acked));
        out.put(&self.time_ns.unwrap_or_default().to_be_bytes());
        (bytes, 4 + usize::from(len))
    }
}

impl Closing<'_> {
    /// The frame with its header, in the first bytes of the array, and its length. A text of more than 28 bytes is cut.
    #[must_use]
    pub fn encode(&self) -> ([u8; 4 + DOWN_MAX], usize) {
        let mut bytes = [0; 4 + DOWN_MAX];
        let text = self.text.get(..DOWN_MAX - 16).unwrap_or(self.text);
        let len = u8::try_from(16 + text.len()).unwrap_or(16);
        let [high, low] = self.retry_s.to_be_bytes();
        let mut out = Out {
            to: &mut bytes,
            at: 0,
        };
        out.put(&[0, 0, 0, len]);
        out.put(&typed(TYPE_CLOSING, self.number));
        out.put(&[self.code, 0, high, low, 0, 0, 0, 0]);
        out.put(text);
        (bytes, 4 + usize::from(len))
    }
}

impl<'a> Down<'a> {
    /// Parses a message from the host. A WELCOME or ACK may be longer than this version needs.
    ///
    /// # Errors
    /// [`FrameError::Length`], or [`FrameError::Kind`] if the type is unknown and 128 or more.
    pub fn parse(payload: &'a [u8]) -> Result<Self, FrameError> {
        let bad_len = FrameError::Length {
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        let (head, rest) = payload.split_first_chunk::<8>().ok_or(bad_len)?;
        let number = u64::from_be_bytes(*head) & NUMBER_MAX;
        let [kind, ..] = *head;
        Ok(match kind {
            TYPE_WELCOME => {
                let rest = rest.first_chunk::<36>().ok_or(bad_len)?;
                Self::Welcome(Welcome {
                    acked: number,
                    resume: long::<0>(rest) & NUMBER_MAX,
                    session: long::<8>(rest),
                    time_ns: long::<16>(rest),
                    block_max: word::<24>(rest),
                    heartbeat_s: (word::<28>(rest) >> 16) as u16,
                    flags: word::<28>(rest) as u16,
                    check: word::<32>(rest),
                })
            }
            TYPE_ACK => Self::Ack(Ack {
                acked: number,
                time_ns: rest.first_chunk().map(|time| u64::from_be_bytes(*time)),
            }),
            TYPE_CLOSING => {
                let (&[code, _, high, low, ..], text) =
                    rest.split_first_chunk::<8>().ok_or(bad_len)?;
                Self::Closing(Closing {
                    code,
                    retry_s: u16::from_be_bytes([high, low]),
                    number,
                    text,
                })
            }
            TYPE_MUST.. => return Err(FrameError::Kind { kind }),
            _ => Self::Unknown { kind },
        })
    }
}

/// The host's clock in a WELCOME or ACK, in ns since 1970.
#[must_use]
pub fn time_ns(frame: &[u8]) -> Option<u64> {
    let at = match *frame.first()? {
        TYPE_WELCOME => 24,
        TYPE_ACK => 8,
        _ => return None,
    };
    let time = frame.get(at..)?.first_chunk()?;
    Some(u64::from_be_bytes(*time))
}

/// Whether the bytes are a device id.
pub(super) const fn is_device(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        if !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'_' | b':' | b'-') {
            return false;
        }
        rest = after;
    }
    !bytes.is_empty() && bytes.len() <= DEVICE_MAX
}

/// A type and a number in eight bytes.
fn typed(kind: u8, number: u64) -> [u8; 8] {
    (u64::from(kind) << 56 | number & NUMBER_MAX).to_be_bytes()
}

/// Bytes that are appended to a slice.
struct Out<'a> {
    to: &'a mut [u8],
    /// Length so far, also of what did not fit.
    at: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        copy(bytes, self.to.get_mut(self.at..).unwrap_or_default());
        self.at += bytes.len();
    }

    fn len(&self) -> Option<usize> {
        (self.at <= self.to.len()).then_some(self.at)
    }
}
