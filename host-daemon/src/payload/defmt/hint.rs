//! Formats numbers, text and bytes as display hints require, in the notation of `defmt-print`.

use std::fmt::{self, Write};

use defmt_parser::{DisplayHint, TimePrecision};
use jiff::Timestamp;
use minicbor::decode::Decoder;

use crate::payload::DecodeError;
use crate::payload::cbor::copy_item;
use crate::payload::defmt::formats::Formats;
use crate::payload::emitter::{Emitter, Style};

type To<'w> = &'w mut dyn Write;

/// Shows an unsigned number.
pub(super) fn unsigned(
    number: u128,
    hint: Option<&DisplayHint>,
    formats: &Formats,
    to: To<'_>,
) -> fmt::Result {
    match hint {
        Some(DisplayHint::ISO8601(precision)) => iso8601(number, precision, to),
        hint => plain(number, hint, formats, to),
    }
}

/// Shows the bits from `start` up to `end` of a number.
pub(super) fn bit_field(
    number: u128,
    start: u8,
    end: u8,
    hint: Option<&DisplayHint>,
    formats: &Formats,
    to: To<'_>,
) -> fmt::Result {
    let above = 128 - u32::from(end).clamp(1, 128);
    let outside = (above + u32::from(start)).min(127);
    let bits = number << above >> outside;
    match hint {
        Some(DisplayHint::Ascii) => {
            let bytes = bits.to_be_bytes();
            let first = usize::try_from(outside / 8).unwrap_or_default();
            ascii(bytes.get(first..).unwrap_or_default(), to)
        }
        hint => plain(bits, hint, formats, to),
    }
}

fn plain(number: u128, hint: Option<&DisplayHint>, formats: &Formats, to: To<'_>) -> fmt::Result {
    match hint {
        Some(DisplayHint::Seconds(TimePrecision::Micros)) => {
            write!(to, "{}.{:06}", number / 1_000_000, number % 1_000_000)
        }
        Some(DisplayHint::Seconds(TimePrecision::Millis)) => {
            write!(to, "{}.{:03}", number / 1_000, number % 1_000)
        }
        Some(DisplayHint::Time(precision)) => time(number, precision, to),
        Some(hint @ DisplayHint::Bitflags { .. }) => match formats.flags(hint) {
            Some(known) => flags(number, known, to),
            None => write!(to, "{number}"),
        },
        hint => match Radix::of(hint) {
            Some(radix) => radix.unsigned(number, to),
            None => write!(to, "{number}"),
        },
    }
}

/// Shows a number of `len` bytes with a sign.
pub(super) fn signed(
    bits: u128,
    len: usize,
    hint: Option<&DisplayHint>,
    to: To<'_>,
) -> fmt::Result {
    let unused = 128 - 8 * u32::try_from(len).unwrap_or(16).clamp(1, 16);
    let number = bits.cast_signed() << unused >> unused;
    match Radix::of(hint) {
        // Hexadecimal shows the two's complement of the type's own length.
        Some(radix @ (Radix::Lower { .. } | Radix::Upper { .. })) => radix.unsigned(bits, to),
        Some(Radix::Decimal { width }) => write!(to, "{number:0width$}"),
        Some(radix) => radix.unsigned(number.cast_unsigned(), to),
        None => write!(to, "{number}"),
    }
}

/// A base and a minimum width.
#[derive(Clone, Copy)]
enum Radix {
    Decimal { width: usize },
    Binary { width: usize, prefix: bool },
    Octal { width: usize, prefix: bool },
    Lower { width: usize, prefix: bool },
    Upper { width: usize, prefix: bool },
}

impl Radix {
    fn of(hint: Option<&DisplayHint>) -> Option<Self> {
        Some(match *hint? {
            DisplayHint::NoHint { zero_pad } => Self::Decimal { width: zero_pad },
            DisplayHint::Binary {
                alternate,
                zero_pad,
            } => Self::Binary {
                width: zero_pad,
                prefix: alternate,
            },
            DisplayHint::Octal {
                alternate,
                zero_pad,
            } => Self::Octal {
                width: zero_pad,
                prefix: alternate,
            },
            DisplayHint::Hexadecimal {
                alternate,
                uppercase: false,
                zero_pad,
            } => Self::Lower {
                width: zero_pad,
                prefix: alternate,
            },
            DisplayHint::Hexadecimal {
                alternate,
                uppercase: true,
                zero_pad,
            } => Self::Upper {
                width: zero_pad,
                prefix: alternate,
            },
            _ => return None,
        })
    }

    fn unsigned(self, number: u128, to: To<'_>) -> fmt::Result {
        match self {
            Self::Decimal { width } => write!(to, "{number:0width$}"),
            Self::Binary {
                width,
                prefix: false,
            } => write!(to, "{number:0width$b}"),
            Self::Binary {
                width,
                prefix: true,
            } => write!(to, "{number:#0width$b}"),
            Self::Octal {
                width,
                prefix: false,
            } => write!(to, "{number:0width$o}"),
            Self::Octal {
                width,
                prefix: true,
            } => write!(to, "{number:#0width$o}"),
            Self::Lower {
                width,
                prefix: false,
            } => write!(to, "{number:0width$x}"),
            Self::Lower {
                width,
                prefix: true,
            } => write!(to, "{number:#0width$x}"),
            Self::Upper {
                width,
                prefix: false,
            } => write!(to, "{number:0width$X}"),
            Self::Upper {
                width,
                prefix: true,
            } => write!(to, "{number:#0width$X}"),
        }
    }
}

/// Shows text.
pub(super) fn text(text: &str, hint: Option<&DisplayHint>, to: To<'_>) -> fmt::Result {
    match hint {
        Some(DisplayHint::Debug) => write!(to, "{text:?}"),
        _ => to.write_str(text),
    }
}

/// Shows bytes.
pub(super) fn bytes(
    bytes: &[u8],
    hint: Option<&DisplayHint>,
    formats: &Formats,
    to: To<'_>,
) -> fmt::Result {
    match hint {
        Some(DisplayHint::Ascii) => ascii(bytes, to),
        Some(
            DisplayHint::Hexadecimal { .. }
            | DisplayHint::Octal { .. }
            | DisplayHint::Binary { .. },
        ) => {
            to.write_str("[")?;
            for (index, byte) in bytes.iter().enumerate() {
                to.write_str(if index == 0 { "" } else { ", " })?;
                plain((*byte).into(), hint, formats, to)?;
            }
            to.write_str("]")
        }
        Some(DisplayHint::Cbor) => cbor(bytes, to),
        _ => write!(to, "{bytes:?}"),
    }
}

/// Shows a Rust byte string: `b"Hello\xff"`.
fn ascii(bytes: &[u8], to: To<'_>) -> fmt::Result {
    to.write_str("b\"")?;
    for byte in bytes {
        match byte {
            b'\t' => to.write_str("\\t")?,
            b'\n' => to.write_str("\\n")?,
            b'\r' => to.write_str("\\r")?,
            b'"' => to.write_str("\\\"")?,
            b'\\' => to.write_str("\\\\")?,
            b' '..=b'~' => to.write_char((*byte).into())?,
            _ => write!(to, "\\x{byte:02x}")?,
        }
    }
    to.write_str("\"")
}

/// Shows the items of a CBOR sequence as JSON, a subset of CBOR's diagnostic notation.
fn cbor(bytes: &[u8], to: To<'_>) -> fmt::Result {
    let mut items = Decoder::new(bytes);
    while items.position() < bytes.len() {
        if items.position() != 0 {
            to.write_str(", ")?;
        }
        match copy_item(&mut items, &mut Emitter::new(Style::Json, to)) {
            Ok(()) => {}
            Err(DecodeError::Invalid(reason)) => {
                return write!(to, " (not CBOR: {reason}, bytes: {bytes:02x?})");
            }
            Err(_) => return Err(fmt::Error),
        }
    }
    Ok(())
}

fn flags(number: u128, known: &[(String, u128)], to: To<'_>) -> fmt::Result {
    let is_set = |value: u128| match value {
        0 => number == 0,
        value => number & value == value,
    };
    let mut set = known.iter().filter(|(_, value)| is_set(*value));
    let Some((first, _)) = set.next() else {
        return to.write_str("(empty)");
    };
    to.write_str(first)?;
    for (name, _) in set {
        write!(to, " | {name}")?;
    }
    Ok(())
}

fn time(number: u128, precision: &TimePrecision, to: To<'_>) -> fmt::Result {
    let (seconds, decimals) = match precision {
        TimePrecision::Micros => (number / 1_000_000, Some((number % 1_000_000, 6))),
        TimePrecision::Millis => (number / 1_000, Some((number % 1_000, 3))),
        TimePrecision::Seconds => (number, None),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    let days = hours / 24;
    if days != 0 {
        write!(to, "{days}:")?;
    }
    write!(
        to,
        "{:02}:{:02}:{:02}",
        hours % 24,
        minutes % 60,
        seconds % 60
    )?;
    match decimals {
        Some((decimals, width)) => write!(to, ".{decimals:0width$}"),
        None => Ok(()),
    }
}

/// Shows a time since 1970; as a plain number if it is beyond the calendar.
fn iso8601(number: u128, precision: &TimePrecision, to: To<'_>) -> fmt::Result {
    // Timestamps are numbers of 64 bits.
    let number = i64::try_from(number & u128::from(u64::MAX)).unwrap_or(i64::MAX);
    let time = match precision {
        TimePrecision::Micros => Timestamp::from_microsecond(number),
        TimePrecision::Millis => Timestamp::from_millisecond(number),
        TimePrecision::Seconds => Timestamp::from_second(number),
    };
    match (time, precision) {
        (Ok(time), TimePrecision::Micros) => write!(to, "{time:.6}"),
        (Ok(time), TimePrecision::Millis) => write!(to, "{time:.3}"),
        (Ok(time), TimePrecision::Seconds) => write!(to, "{time:.0}"),
        (Err(_), _) => write!(to, "{number}"),
    }
}
