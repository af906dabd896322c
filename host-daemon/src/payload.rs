//! Decodes messages: text, JSON, CBOR, MessagePack, `key=value` and defmt log frames. Start with [`Decoder::read`].
//!
//! A message that cannot be decoded is kept as bytes. A decoder writes its text while it reads, and builds no tree: a
//! message of n bytes takes at most 16 n + 64 KiB of memory, and its line of output at most 8 n + 4 KiB; for defmt,
//! plus the longest format string of the ELF file. Depth has a bound, and the time is linear.

mod cbor;
mod decoders;
mod defmt;
mod emitter;
mod inspector;
mod json;
mod kv;
mod members;
mod msgpack;
#[cfg(test)]
mod reading;
mod shape;
mod value;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use framing_core::AnyFraming;

pub use self::decoders::Decoders;
use self::defmt::DefmtDecoder;
pub use self::defmt::{Defmt, DefmtError, LogFrame};
pub use self::emitter::{DEPTH_MAX, Style};
pub use self::inspector::{Inspector, UndecodableObserver, UndecodableReporter};
pub use self::json::members;
pub(crate) use self::kv::is_number;
pub(crate) use self::members::JsonString;
pub use self::shape::{Shape, ShapeLimits};
use self::value::Form;
pub use self::value::Value;

/// Bytes of output allowed for each byte of a message. An escaped byte takes at most seven.
const LINE_FACTOR: usize = 8;
/// Bytes of output allowed in addition. One KiB of the documented 4 KiB is left for time, device and connection.
const LINE_BASE: usize = 3 << 10;

/// How the messages of a listener are decoded.
#[derive(Clone, Debug, Default)]
pub enum Decoding {
    /// Not at all.
    #[default]
    Raw,
    /// As UTF-8.
    Text,
    /// As one JSON value.
    Json,
    /// As one CBOR item (RFC 8949).
    Cbor,
    /// As one value of MessagePack.
    MsgPack,
    /// As text of `key=value`, separated by spaces or commas.
    Kv,
    /// As one defmt frame, with the formats of a firmware's ELF file. A message that is a build id names the firmware
    /// that sends.
    Defmt(Arc<Defmt>),
}

/// A decoded message.
#[derive(Clone, Debug)]
pub enum Meaning<'a> {
    /// Its bytes.
    Raw(&'a [u8]),
    /// A value with structure.
    Value(Value<'a>),
    /// A log line.
    Log(LogFrame<'a>),
    /// The build id that firmware sends first.
    Build {
        /// The id, in hexadecimal.
        id: String,
        /// Whether an ELF file of this build is known. If not, frames are not decoded. `None` if the ELF file has no id
        /// to compare.
        known: Option<bool>,
    },
}

/// Why a message could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// The name of the decoding.
    pub as_what: &'static str,
    /// The reason.
    pub reason: String,
    /// The cause is that of an earlier message of the connection, which was reported: this is not a further fault.
    pub is_repeated: bool,
}

/// Why the text of a message is incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The text exceeds its bound.
    TooLong,
    /// The message is invalid; the reason in words.
    Invalid(String),
    /// The cause is that of an earlier message of the connection.
    Repeated,
}

/// Decodes the messages of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    decoding: Decoding,
    /// The state of a log.
    defmt: Option<DefmtDecoder>,
}

impl Decoder {
    /// A decoder for a connection.
    #[must_use]
    pub fn new(decoding: Decoding) -> Self {
        let defmt = match &decoding {
            Decoding::Defmt(defmt) => Some(DefmtDecoder::new(Arc::clone(defmt))),
            _ => None,
        };
        Self { decoding, defmt }
    }

    /// How messages are decoded.
    #[must_use]
    pub const fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// Decodes the next message of the connection.
    ///
    /// # Errors
    /// If it cannot be decoded. The caller then keeps the bytes.
    #[inline]
    pub fn read<'a>(&self, bytes: &'a [u8]) -> Result<Meaning<'a>, Undecodable> {
        let meaning = match (&self.decoding, &self.defmt) {
            (Decoding::Raw, _) => return Ok(Meaning::Raw(bytes)),
            (_, Some(defmt)) => defmt.read(bytes),
            (decoding, None) => decoding.read(bytes),
        };
        meaning.map_err(|error| self.decoding.undecodable(error))
    }
}

impl Meaning<'_> {
    /// Maximum length of the text of a message of `len` bytes.
    #[must_use]
    pub fn text_max(&self, len: usize) -> usize {
        let format = match self {
            Self::Log(log) => log.longest_format(),
            _ => 0,
        };
        text_max(len).saturating_add(format)
    }
}

/// Maximum length of the text of a message of `len` bytes that is not a log frame.
pub(crate) const fn text_max(len: usize) -> usize {
    len.saturating_mul(LINE_FACTOR).saturating_add(LINE_BASE)
}

impl Decoding {
    /// Its name, without the argument.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Text => "text",
            Self::Json => "json",
            Self::Cbor => "cbor",
            Self::MsgPack => "msgpack",
            Self::Kv => "kv",
            Self::Defmt(_) => "defmt",
        }
    }

    /// The fault for a message whose text is incomplete.
    #[must_use]
    pub fn undecodable(&self, error: DecodeError) -> Undecodable {
        Undecodable {
            as_what: self.as_str(),
            is_repeated: error == DecodeError::Repeated,
            reason: match error {
                DecodeError::TooLong => "its text exceeds the limit for its length".to_owned(),
                DecodeError::Invalid(reason) => reason,
                DecodeError::Repeated => "the firmware's ELF file is missing".to_owned(),
            },
        }
    }

    /// A decoding that needs no file, by its name. A recording names its decodings, and must not name files to open.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "raw" => Self::Raw,
            "text" => Self::Text,
            "json" => Self::Json,
            "cbor" => Self::Cbor,
            "msgpack" => Self::MsgPack,
            "kv" => Self::Kv,
            _ => return None,
        })
    }

    /// Warnings about this framing: its messages are not decoded, or not reliably.
    #[must_use]
    pub fn warnings(&self, framing: &AnyFraming) -> Vec<String> {
        match self {
            Self::Defmt(defmt) => defmt.warnings(framing),
            _ => Vec::new(),
        }
    }

    /// Decodes a message that does not depend on earlier ones.
    fn read<'a>(&self, bytes: &'a [u8]) -> Result<Meaning<'a>, DecodeError> {
        let value = |form| Ok(Meaning::Value(Value { bytes, form }));
        match self {
            Self::Raw => Ok(Meaning::Raw(bytes)),
            Self::Text => match std::str::from_utf8(bytes) {
                Ok(_) => Ok(Meaning::Raw(bytes)),
                Err(error) => Err(DecodeError::Invalid(error.to_string())),
            },
            Self::Json => value(Form::Json),
            Self::Cbor => value(Form::Cbor),
            Self::MsgPack => value(Form::MsgPack),
            Self::Kv => value(Form::Kv),
            Self::Defmt(_) => Err(DecodeError::Repeated),
        }
    }
}

/// Two defmt decodings are equal if they were read from one path, and from the same content of a file.
impl PartialEq for Decoding {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Defmt(one), Self::Defmt(other)) => one.is_same(other),
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        }
    }
}

impl FromStr for Decoding {
    type Err = DefmtError;

    fn from_str(spec: &str) -> Result<Self, DefmtError> {
        match (Self::of_name(spec), spec.strip_prefix("defmt:")) {
            (Some(decoding), _) => Ok(decoding),
            (None, Some(path)) => Ok(Self::Defmt(Arc::new(Defmt::open(path.as_ref())?))),
            (None, None) => Err(DefmtError::Unknown),
        }
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            as_what, reason, ..
        } = self;
        write!(f, "message {}{as_what}: {reason}", fails_as(as_what))
    }
}

/// The words before the name of the decoding in a fault. The cause of a defmt fault is often the ELF file, not the frame.
#[must_use]
pub fn fails_as(as_what: &str) -> &'static str {
    match as_what {
        "defmt" => "cannot be decoded as ",
        _ => "is not valid ",
    }
}

impl From<fmt::Error> for DecodeError {
    fn from(_: fmt::Error) -> Self {
        Self::TooLong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_or_refused() {
        let read = |decoding, bytes: &'static [u8]| match Decoder::new(decoding).read(bytes) {
            Ok(Meaning::Raw(bytes)) => Ok(bytes.to_vec()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.as_what),
        };
        assert_eq!(read(Decoding::Text, b"hi"), Ok(b"hi".to_vec()));
        assert_eq!(read(Decoding::Text, b"\xff"), Err("text"));
        assert_eq!(read(Decoding::Raw, b"\xff"), Ok(b"\xff".to_vec()));
    }
}
