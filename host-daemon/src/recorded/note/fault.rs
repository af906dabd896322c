//! Why a message was refused, as JSON: [`FaultNote`].

use std::borrow::Cow;

use framing_core::{Fault, Part};
use serde::{Deserialize, Serialize};

/// Why a message was refused, with figures: a [`Fault`], or an undecodable payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FaultNote<'a> {
    /// [`Fault::TooLong`].
    TooLong {
        /// Declared length, in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        declared: Option<u32>,
        /// Longest message that was allowed, in bytes.
        limit: u32,
        /// The message was also too long to be skipped.
        lost: bool,
    },
    /// [`Fault::BadLength`].
    BadLength {
        /// The invalid byte.
        found: u8,
        /// Its offset from the start of the length.
        offset: u8,
    },
    /// [`Fault::BadEnding`] or [`Fault::EarlyEnd`].
    BadEnding(Ending),
    /// [`Fault::BadChecksum`].
    BadChecksum {
        /// The checksum of the payload.
        want: u32,
        /// The checksum that was received; none if the message is shorter than a checksum.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found: Option<u32>,
    },
    /// The peer reset the connection between two messages.
    Reset,
    /// [`Fault::Truncated`].
    Truncated {
        /// Bytes of the part that were received.
        have: u32,
        /// Bytes that the part needs.
        want: u32,
        /// The part.
        r#where: PartNote,
    },
    /// The payload of the message is invalid. The message itself is kept.
    Undecodable {
        /// The decoding.
        r#as: Cow<'a, str>,
        /// The reason in words.
        reason: Cow<'a, str>,
    },
}

/// What was wrong with the end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ending {
    /// The end came early.
    Early {
        /// Bytes that were still to come.
        missing: u8,
    },
    /// Another byte was in its place.
    Other {
        /// The byte that ends a message.
        want: u8,
        /// The byte that was received.
        found: u8,
    },
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartNote {
    /// The length before the payload.
    Header,
    /// The payload.
    Payload,
    /// The end of the message or the series; also any part of a later version.
    #[serde(other)]
    End,
}

impl From<&Fault> for FaultNote<'_> {
    fn from(fault: &Fault) -> Self {
        match *fault {
            Fault::BadLength { found, offset } => Self::BadLength { found, offset },
            Fault::BadEnding { want, found } => Self::BadEnding(Ending::Other { want, found }),
            Fault::EarlyEnd { missing } => Self::BadEnding(Ending::Early { missing }),
            Fault::BadChecksum { want, found } => Self::BadChecksum { want, found },
            Fault::Truncated { part, have, want } => Self::Truncated {
                have,
                want,
                r#where: match part {
                    Part::Header => PartNote::Header,
                    Part::Payload => PartNote::Payload,
                    Part::End => PartNote::End,
                },
            },
            Fault::TooLong {
                declared,
                limit,
                lost,
            } => Self::TooLong {
                declared,
                limit,
                lost,
            },
            // A fault of a later version of the core counts as too long.
            _ => Self::TooLong {
                declared: None,
                limit: 0,
                lost: false,
            },
        }
    }
}

impl FaultNote<'_> {
    /// The fault of the framing; `None` if the payload is undecodable, or if the peer reset the connection between messages.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        Some(match *self {
            Self::TooLong {
                declared,
                limit,
                lost,
            } => Fault::TooLong {
                declared,
                limit,
                lost,
            },
            Self::BadLength { found, offset } => Fault::BadLength { found, offset },
            Self::BadEnding(Ending::Early { missing }) => Fault::EarlyEnd { missing },
            Self::BadEnding(Ending::Other { want, found }) => Fault::BadEnding { want, found },
            Self::BadChecksum { want, found } => Fault::BadChecksum { want, found },
            Self::Reset | Self::Undecodable { .. } => return None,
            Self::Truncated {
                have,
                want,
                r#where,
            } => Fault::Truncated {
                part: match r#where {
                    PartNote::Header => Part::Header,
                    PartNote::Payload => Part::Payload,
                    PartNote::End => Part::End,
                },
                have,
                want,
            },
        })
    }
}
