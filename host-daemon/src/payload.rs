//! Decodes messages: text, JSON, CBOR and defmt log frames. Start with [`Decoder::read`].
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
mod members;
mod shape;
mod value;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::decoders::Decoders;
pub use self::defmt::{Defmt, DefmtError, LogFrame};
pub use self::emitter::{DEPTH_MAX, Style};
pub use self::inspector::{Inspector, UndecodableReporter};
pub use self::json::members;
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
    /// As one defmt frame, with the formats of a firmware's ELF file. The first message of a connection is the build id
    /// of the firmware that sends.
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
        /// Whether it matches the ELF file. If it does not, no log of the connection is decoded.
        known: bool,
    },
}

/// Why a message could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// The name of the decoding.
    pub as_what: &'static str,
    /// The reason.
    pub reason: String,
}

/// Why the text of a message is incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The text exceeds its bound.
    TooLong,
    /// The message is invalid; the reason in words.
    Invalid(String),
}

/// Decodes the messages of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    decoding: Decoding,
    /// Number of the connection's first message.
    first: u64,
    /// The build id of the firmware does not match the ELF file.
    foreign: AtomicBool,
}

impl Decoder {
    /// A decoder for a connection that has just begun.
    #[must_use]
    pub const fn new(decoding: Decoding) -> Self {
        Self::starting_at(decoding, 0)
    }

    /// A decoder for a connection whose first message is number `first`, which may be above 0 in a recording.
    #[must_use]
    pub const fn starting_at(decoding: Decoding, first: u64) -> Self {
        Self {
            decoding,
            first,
            foreign: AtomicBool::new(false),
        }
    }

    /// How messages are decoded.
    #[must_use]
    pub const fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// Decodes message number `seq` of the connection.
    ///
    /// # Errors
    /// If it cannot be decoded. The caller then keeps the bytes.
    #[inline]
    pub fn read<'a>(&'a self, seq: u64, bytes: &'a [u8]) -> Result<Meaning<'a>, Undecodable> {
        match self.decoding {
            Decoding::Raw => Ok(Meaning::Raw(bytes)),
            _ => self.decode(seq, bytes),
        }
    }

    fn decode<'a>(&'a self, seq: u64, bytes: &'a [u8]) -> Result<Meaning<'a>, Undecodable> {
        if self.foreign.load(Ordering::Relaxed) {
            return Err(Undecodable {
                as_what: "defmt",
                reason: "of another build".to_owned(),
            });
        }
        let seq = seq.wrapping_sub(self.first);
        let meaning = self.decoding.read(seq, bytes)?;
        if let Meaning::Build { known: false, .. } = &meaning {
            self.foreign.store(true, Ordering::Relaxed);
        }
        Ok(meaning)
    }
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
            Self::Defmt(_) => "defmt",
        }
    }

    /// Maximum length of the text of a message of `len` bytes.
    #[must_use]
    pub fn text_max(&self, len: usize) -> usize {
        let format = match self {
            Self::Defmt(firmware) => firmware.longest_format(),
            _ => 0,
        };
        len.saturating_mul(LINE_FACTOR)
            .saturating_add(LINE_BASE + format)
    }

    /// The fault for a message whose text is incomplete.
    #[must_use]
    pub fn undecodable(&self, error: DecodeError) -> Undecodable {
        Undecodable {
            as_what: self.as_str(),
            reason: match error {
                DecodeError::TooLong => "its text exceeds the limit for its length".to_owned(),
                DecodeError::Invalid(reason) => reason,
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
            _ => return None,
        })
    }

    /// Decodes message number `seq` of a connection.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub fn read<'a>(&'a self, seq: u64, bytes: &'a [u8]) -> Result<Meaning<'a>, Undecodable> {
        let value = |form| Ok(Meaning::Value(Value { bytes, form }));
        match self {
            Self::Raw => Ok(Meaning::Raw(bytes)),
            Self::Text => match std::str::from_utf8(bytes) {
                Ok(_) => Ok(Meaning::Raw(bytes)),
                Err(error) => Err(self.undecodable(DecodeError::Invalid(error.to_string()))),
            },
            Self::Json => value(Form::Json),
            Self::Cbor => value(Form::Cbor),
            Self::Defmt(firmware) if seq == 0 => Ok(firmware.read_build(bytes)),
            Self::Defmt(firmware) => match firmware.read(bytes) {
                Ok(log) => Ok(Meaning::Log(log)),
                Err(error) => Err(self.undecodable(error)),
            },
        }
    }
}

/// Two defmt decodings are equal if they were read from one path and have one build id.
impl PartialEq for Decoding {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Defmt(one), Self::Defmt(other)) => one.is_same_build(other),
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
        write!(f, "message is not valid {}: {}", self.as_what, self.reason)
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
        let read = |decoding: Decoding, bytes: &'static [u8]| match decoding.read(0, bytes) {
            Ok(Meaning::Raw(bytes)) => Ok(bytes.to_vec()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.as_what),
        };
        assert_eq!(read(Decoding::Text, b"hi"), Ok(b"hi".to_vec()));
        assert_eq!(read(Decoding::Text, b"\xff"), Err("text"));
        assert_eq!(read(Decoding::Raw, b"\xff"), Ok(b"\xff".to_vec()));
    }
}
