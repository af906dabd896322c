//! Why a frame cannot be used, and how a host answers it: [`FrameError`].

use core::error::Error;
use core::fmt;

use super::{ClosingCode, VERSION};

/// Why a frame cannot be used. The peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FrameError {
    /// The frame has another length than its type needs.
    Length {
        /// Its length in bytes.
        len: u32,
    },
    /// The HELLO is of another version.
    Version {
        /// The version.
        version: u8,
    },
    /// The device id has a length outside 1 to 64, or other characters than letters, digits, `.`, `_`, `:` and `-`.
    Device,
    /// Numbers exceed 56 bits, or more messages were given up than there were.
    Number,
    /// Flags that must be understood are unknown.
    Flags {
        /// These flags.
        flags: u8,
    },
    /// An extension that must be understood is unknown.
    Extension {
        /// Its type.
        kind: u8,
    },
    /// The frame has another type than is expected here.
    Kind {
        /// The type.
        kind: u8,
    },
}

impl FrameError {
    /// How a host answers a HELLO or CONT with this error.
    #[must_use]
    pub const fn closing(&self) -> ClosingCode {
        match self {
            Self::Version { .. } => ClosingCode::Version,
            Self::Flags { .. } | Self::Extension { .. } => ClosingCode::Unsupported,
            Self::Kind { .. } => ClosingCode::Protocol,
            Self::Length { .. } | Self::Device | Self::Number => ClosingCode::BadHello,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { len } => write!(f, "a frame of {len} bytes has the wrong length"),
            Self::Version { version } => {
                write!(f, "the sender speaks version {version}, not {VERSION}")
            }
            Self::Device => {
                f.write_str("the device id is not 1 to 64 letters, digits, `.`, `_`, `:` or `-`")
            }
            Self::Number => {
                f.write_str("the numbers of the messages exceed 56 bits, or are negative")
            }
            Self::Flags { flags } => write!(f, "unknown flags {flags:#04x}"),
            Self::Extension { kind } => write!(f, "unknown extension {kind}"),
            Self::Kind { kind } => write!(f, "a frame of type {kind} is not expected here"),
        }
    }
}

impl Error for FrameError {}
