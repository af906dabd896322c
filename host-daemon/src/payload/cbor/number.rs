//! CBOR numbers as text. [`Number`] prints a float with the fewest digits for its own width.

use std::fmt;
use std::ops::RangeInclusive;

use minicbor::data::Token;
use minicbor::decode::Decoder;
use num_bigint::{BigInt, Sign};

use crate::payload::DecodeError;
use crate::payload::cbor::{reason, token};

/// Tags of RFC 8949, section 3.4.
const POSITIVE: u64 = 2;
const NEGATIVE: u64 = 3;
const DECIMAL: u64 = 4;
const BINARY: u64 = 5;

/// Maximum length of a long integer, in bytes. The time to convert it to decimal is quadratic.
const LONG_MAX: usize = 256;
/// The exponents of binary fractions: those of 64-bit floats.
const BINARY_EXPONENTS: RangeInclusive<i128> = -1074..=1023;
/// Digits after the point up to which a decimal fraction is written without an exponent.
const PLACES_MAX: usize = 64;

/// A number of CBOR.
pub(super) enum Number {
    Integer(i128),
    /// Any other integer.
    Long(BigInt),
    Half(f32),
    Single(f32),
    Double(f64),
    /// `mantissa * 10^exponent`
    Decimal {
        mantissa: BigInt,
        exponent: i128,
    },
}

impl Number {
    /// Whether it is neither an infinity nor "not a number".
    pub(super) fn is_finite(&self) -> bool {
        match self {
            Self::Half(value) | Self::Single(value) => value.is_finite(),
            Self::Double(value) => value.is_finite(),
            Self::Integer(_) | Self::Long(_) | Self::Decimal { .. } => true,
        }
    }

    /// Whether JSON has such numbers.
    pub(super) fn is_number(&self) -> bool {
        match self {
            Self::Integer(value) => u64::try_from(*value).is_ok() || i64::try_from(*value).is_ok(),
            Self::Half(value) | Self::Single(value) => value.is_finite(),
            Self::Double(value) => value.is_finite(),
            Self::Long(_) | Self::Decimal { .. } => false,
        }
    }
}

/// The number of an untagged token.
pub(super) fn plain(token: &Token<'_>) -> Option<Number> {
    Some(match *token {
        Token::F16(value) => Number::Half(value),
        Token::F32(value) => Number::Single(value),
        Token::F64(value) => Number::Double(value),
        _ => Number::Integer(integer(token)?),
    })
}

fn integer(token: &Token<'_>) -> Option<i128> {
    Some(match *token {
        Token::U8(value) => value.into(),
        Token::U16(value) => value.into(),
        Token::U32(value) => value.into(),
        Token::U64(value) => value.into(),
        Token::I8(value) => value.into(),
        Token::I16(value) => value.into(),
        Token::I32(value) => value.into(),
        Token::I64(value) => value.into(),
        Token::Int(value) => value.into(),
        _ => return None,
    })
}

/// The number that starts with `first` after `tag`; `None` if the tag is not one of a number.
pub(super) fn tagged(
    tag: Option<u64>,
    first: &Token<'_>,
    items: &mut Decoder<'_>,
) -> Result<Option<Number>, DecodeError> {
    let Some(tag) = tag else {
        return Ok(None);
    };
    match (tag, first) {
        (POSITIVE | NEGATIVE, Token::Bytes(_) | Token::BeginBytes) => {
            long(tag == NEGATIVE, first, items).map(Some)
        }
        (DECIMAL | BINARY, Token::Array(2) | Token::BeginArray) => {
            let exponent = i128::try_from(part(items)?).map_err(|_| not_two())?;
            let mantissa = part(items)?;
            if *first == Token::BeginArray && token(items)? != Token::Break {
                return Err(not_two());
            }
            Ok(Some(match tag {
                DECIMAL => Number::Decimal { mantissa, exponent },
                _ => binary(mantissa, exponent)?,
            }))
        }
        (DECIMAL | BINARY, _) => Err(not_two()),
        _ => Ok(None),
    }
}

fn not_two() -> DecodeError {
    reason("a fraction does not consist of an exponent and an integer")
}

/// Takes the next item, an integer.
fn part(items: &mut Decoder<'_>) -> Result<BigInt, DecodeError> {
    let number = match token(items)? {
        Token::Tag(tag) if [POSITIVE, NEGATIVE].contains(&tag.as_u64()) => {
            let first = token(items)?;
            tagged(Some(tag.as_u64()), &first, items)?
        }
        token => integer(&token).map(Number::Integer),
    };
    match number {
        Some(Number::Integer(value)) => Ok(value.into()),
        Some(Number::Long(value)) => Ok(value),
        _ => Err(not_two()),
    }
}

/// `mantissa * 2^exponent` as a decimal: 2^-n is 5^n * 10^-n.
fn binary(mantissa: BigInt, exponent: i128) -> Result<Number, DecodeError> {
    if !BINARY_EXPONENTS.contains(&exponent) {
        return Err(DecodeError::Invalid(format!(
            "the exponent of a binary fraction is not in {BINARY_EXPONENTS:?}"
        )));
    }
    let twos = mantissa.trailing_zeros().unwrap_or_default();
    let divisor = u64::try_from(-exponent).unwrap_or_default();
    if mantissa == BigInt::ZERO || exponent >= 0 {
        let shift = u64::try_from(exponent).unwrap_or_default();
        return Ok(Number::Long(mantissa << shift));
    }
    let twos = twos.min(divisor);
    let places = (divisor - twos) as u32;
    Ok(Number::Decimal {
        mantissa: (mantissa >> twos) * BigInt::from(5).pow(places),
        exponent: -i128::from(places),
    })
}

fn long(negative: bool, first: &Token<'_>, items: &mut Decoder<'_>) -> Result<Number, DecodeError> {
    let mut bytes = Vec::new();
    if let Token::Bytes(whole) = first {
        bytes.extend_from_slice(whole);
    } else {
        loop {
            match token(items)? {
                Token::Bytes(part) => bytes.extend_from_slice(part),
                Token::Break => break,
                _ => return Err(reason("a byte string in parts has a part that is not one")),
            }
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    if LONG_MAX < digits.len() {
        return Err(DecodeError::Invalid(format!(
            "an integer is longer than {LONG_MAX} bytes"
        )));
    }
    let value = BigInt::from_bytes_be(Sign::Plus, digits);
    let value = if negative { -value - 1 } else { value };
    Ok(match i128::try_from(&value) {
        Ok(value) => Number::Integer(value),
        Err(_) => Number::Long(value),
    })
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            Self::Half(value) if value.is_finite() => float(&shortest_half(*value), f),
            Self::Single(value) if value.is_finite() => float(value, f),
            Self::Half(value) | Self::Single(value) => value.fmt(f),
            Self::Double(value) if value.is_finite() => float(value, f),
            Self::Double(value) => value.fmt(f),
            Self::Decimal { mantissa, exponent } => decimal(mantissa, *exponent, f),
        }
    }
}

/// Prints `mantissa * 10^exponent` with all digits of the mantissa, and with an exponent if the point would be far away.
fn decimal(mantissa: &BigInt, exponent: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let places = exponent
        .checked_neg()
        .and_then(|it| usize::try_from(it).ok());
    let Some(places) = places.filter(|places| *places <= PLACES_MAX) else {
        return write!(f, "{mantissa}e{exponent}");
    };
    let sign = if mantissa.sign() == Sign::Minus {
        "-"
    } else {
        ""
    };
    let digits = mantissa.magnitude().to_string();
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let point = if places == 0 { "" } else { "." };
    write!(f, "{sign}{whole}{point}{fraction}")
}

/// Prints a finite float as JSON, in the fewest digits that read back as the same number.
fn float(value: &impl serde::Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 32];
    let mut rest = &mut text[..];
    serde_json::to_writer(&mut rest, value).map_err(|_| fmt::Error)?;
    let left = rest.len();
    let text = text.get(..text.len() - left).unwrap_or_default();
    f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?)
}

/// The decimal with the fewest digits that reads back as this 16-bit float.
fn shortest_half(value: f32) -> f64 {
    let exact = f64::from(value);
    // Subnormals, below 2^-14, have the spacing of the smallest normals.
    let exponent = exact.abs().log2().floor().max(-14.0);
    let apart = (exponent - 10.0).exp2();
    // Below a power of two the spacing is halved.
    let near = if exact.abs() == exponent.exp2() {
        apart / 4.0
    } else {
        apart / 2.0
    };
    (0..5)
        .filter_map(|digits| format!("{exact:.digits$e}").parse().ok())
        .find(|shorter: &f64| (shorter - exact).abs() < near)
        .unwrap_or(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        let mut items = Decoder::new(bytes);
        let first = token(&mut items).expect("a token");
        plain(&first).expect("a number").to_string()
    }

    #[test]
    fn a_float_has_the_digits_of_its_own_width() {
        assert_eq!(text(&[0xf9, 0x3e, 0x00]), "1.5");
        assert_eq!(text(&[0xf9, 0x2e, 0x66]), "0.1");
        assert_eq!(text(&[0xf9, 0x7b, 0xff]), "65500.0");
        assert_eq!(text(&[0xf9, 0x00, 0x01]), "6e-8");
        assert_eq!(text(&[0xf9, 0x80, 0x00]), "-0.0");
        assert_eq!(text(&[0xfa, 0x41, 0xa0, 0xcc, 0xcd]), "20.1");
        assert_eq!(text(b"\xfb\x40\x34\x19\x99\x99\x99\x99\x9a"), "20.1");
        assert_eq!(text(&[0xf9, 0x7e, 0x00]), "NaN");
        assert_eq!(text(&[0xfa, 0xff, 0x80, 0, 0]), "-inf");
    }

    #[test]
    fn every_half_survives_the_conversion_to_text() {
        for bits in 0..=u16::MAX {
            let [high, low] = bits.to_be_bytes();
            let bytes = [0xf9, high, low];
            let mut items = Decoder::new(&bytes);
            let Token::F16(value) = items.decode().expect("a half") else {
                panic!("{bits:#x}");
            };
            if !value.is_finite() {
                continue;
            }
            let mut again = Vec::new();
            let mut encoder = minicbor::Encoder::new(&mut again);
            let shortest = shortest_half(value);
            encoder.f16(shortest as f32).expect("room");
            assert_eq!(again, bytes, "{value} as {shortest}");
        }
    }
}
