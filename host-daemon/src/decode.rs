//! What a block means: text, JSON, CBOR or a defmt log frame. A block that cannot be read so stays what it is.

mod cbor;
mod defmt;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

pub use self::defmt::{Defmt, DefmtError};

/// How the payload of a listener's blocks is read.
#[derive(Clone, Debug, Default)]
pub enum Decoding {
    /// It is not.
    #[default]
    Raw,
    /// As UTF-8.
    Text,
    /// As one JSON value.
    Json,
    /// As one CBOR item (RFC 8949).
    Cbor,
    /// As one defmt frame, with the formats of a firmware's ELF file. The first block of a connection is the
    /// build id of the firmware that sends.
    Defmt(Arc<Defmt>),
}

/// What a block says.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning<'a> {
    /// Its bytes.
    Raw(&'a [u8]),
    /// A value with structure.
    Value(Value),
    /// A line of a log.
    Log(Log),
    /// The build id that a firmware begins with.
    Build {
        /// The id, in hexadecimal.
        id: String,
        /// Whether it is that of the ELF file. If not, no log of the connection is decoded.
        known: bool,
    },
}

/// A line of a firmware's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `trace` to `error`; none for a plain print.
    pub level: Option<&'static str>,
    /// The firmware's own time.
    pub timestamp: Option<String>,
    /// What it says.
    pub message: String,
    /// File and line of the statement, where the ELF file tells.
    pub location: Option<String>,
}

/// Why a block could not be read as what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// What it should be.
    pub as_what: &'static str,
    /// Why it is not.
    pub reason: String,
}

/// What reads the blocks of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    decoding: Decoding,
    /// Number of the connection's first block.
    first: u64,
    /// The firmware that sends is not the one whose formats are known.
    foreign: AtomicBool,
}

impl Decoder {
    /// A decoder for a connection that has just begun.
    #[must_use]
    pub const fn new(decoding: Decoding) -> Self {
        Self::starting_at(decoding, 0)
    }

    /// A decoder for a connection whose first block has another number than 0, as it may have in a recording.
    #[must_use]
    pub const fn starting_at(decoding: Decoding, first: u64) -> Self {
        Self {
            decoding,
            first,
            foreign: AtomicBool::new(false),
        }
    }

    /// How blocks are read.
    #[must_use]
    pub const fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// Reads block number `seq` of the connection.
    ///
    /// # Errors
    /// Where it cannot be read as it should be. The bytes are to be kept.
    #[inline]
    pub fn read<'a>(&self, seq: u64, bytes: &'a [u8]) -> Result<Meaning<'a>, Undecodable> {
        match self.decoding {
            Decoding::Raw => Ok(Meaning::Raw(bytes)),
            _ => self.read_as_asked(seq, bytes),
        }
    }

    fn read_as_asked<'a>(&self, seq: u64, bytes: &'a [u8]) -> Result<Meaning<'a>, Undecodable> {
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
    /// The word for it, without its argument.
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

    fn read<'a>(&self, seq: u64, bytes: &'a [u8]) -> Result<Meaning<'a>, Undecodable> {
        let undecodable = |reason| Undecodable {
            as_what: self.as_str(),
            reason,
        };
        match self {
            Self::Raw => Ok(Meaning::Raw(bytes)),
            Self::Text => match std::str::from_utf8(bytes) {
                Ok(_) => Ok(Meaning::Raw(bytes)),
                Err(error) => Err(undecodable(error.to_string())),
            },
            Self::Json => match serde_json::from_slice(bytes) {
                Ok(value) => Ok(Meaning::Value(value)),
                Err(error) => Err(undecodable(error.to_string())),
            },
            Self::Cbor => cbor::read(bytes).map(Meaning::Value).map_err(undecodable),
            Self::Defmt(firmware) if seq == 0 => Ok(firmware.read_build(bytes)),
            Self::Defmt(firmware) => firmware.read(bytes).map(Meaning::Log).map_err(undecodable),
        }
    }
}

impl FromStr for Decoding {
    type Err = DefmtError;

    fn from_str(spec: &str) -> Result<Self, DefmtError> {
        match spec {
            "raw" => Ok(Self::Raw),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "cbor" => Ok(Self::Cbor),
            _ => match spec.strip_prefix("defmt:") {
                Some(path) => Ok(Self::Defmt(Arc::new(Defmt::open(path.as_ref())?))),
                None => Err(DefmtError::Unknown),
            },
        }
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block is no {}: {}", self.as_what, self.reason)
    }
}

/// A value as a person would write it down: `temp=21.5 unit="°C"`.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(pub &'a Value);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Value::Object(fields) = self.0 else {
            return write!(f, "{}", self.0);
        };
        for (index, (key, value)) in fields.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            // As JSON, what could confuse a terminal is escaped.
            match key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
            {
                true => write!(f, "{gap}{key}={value}")?,
                false => write!(f, "{gap}{}={value}", Value::from(key.as_str()))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_and_text_are_read_or_refused() {
        assert_eq!(
            Decoding::Json.read(0, b"{\"a\":1}"),
            Ok(Meaning::Value(json!({"a": 1})))
        );
        assert!(Decoding::Json.read(0, b"{\"a\":").is_err());
        assert!(Decoding::Json.read(0, b"{} {}").is_err());
        assert_eq!(Decoding::Text.read(0, b"hi"), Ok(Meaning::Raw(b"hi")));
        assert_eq!(Decoding::Text.read(0, b"\xff").unwrap_err().as_what, "text");
        assert_eq!(Decoding::Raw.read(0, b"\xff"), Ok(Meaning::Raw(b"\xff")));
    }

    #[test]
    fn a_map_is_shown_as_fields() {
        let value = json!({"temp": 21.5, "ok": true, "name": "a b", "odd key": [1]});
        let fields = "temp=21.5 ok=true name=\"a b\" \"odd key\"=[1]";
        assert_eq!(Plain(&value).to_string(), fields);
        assert_eq!(
            Plain(&json!([1, "\u{1b}[31m"])).to_string(),
            "[1,\"\\u001b[31m\"]"
        );
    }
}
