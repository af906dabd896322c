//! MessagePack, copied token by token to equivalent JSON without building a tree. [`copy`] writes one value.
//!
//! Binary data becomes base64, keys become text, a timestamp becomes the seconds since 1970, any other extension an
//! array of its type and its data in base64.

use std::fmt::{self, Display, Write as _};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use rmp::Marker;
use rmp::decode::{Bytes, RmpRead, read_marker};

use crate::payload::DecodeError;
use crate::payload::emitter::{DEPTH_MAX, Emitter, is_plain};

/// The type of the extension for times.
const TIMESTAMP: i8 = -1;
/// Nanoseconds in a second.
const NANOSECONDS: u32 = 1_000_000_000;

/// Copies a message that is one value.
pub(super) fn copy(bytes: &[u8], to: &mut Emitter<'_>) -> Result<(), DecodeError> {
    // Every entry of a map takes at least two bytes. A declared count reserves nothing.
    to.expect_keys(bytes.len() / 2 + 1);
    let mut copier = PackCopier {
        values: Bytes::new(bytes),
        to,
        levels: [PackLevel::default(); DEPTH_MAX],
        depth: 0,
    };
    loop {
        copier.next()?;
        while copier.level().is_some_and(|level| level.left == 0) {
            copier.close()?;
        }
        if copier.depth == 0 {
            break;
        }
    }
    match copier.values.remaining_slice().len() {
        0 => Ok(()),
        more => Err(DecodeError::Invalid(format!(
            "trailing bytes after the value: {more}"
        ))),
    }
}

struct PackCopier<'c, 'b, 'w> {
    values: Bytes<'b>,
    to: &'c mut Emitter<'w>,
    levels: [PackLevel; DEPTH_MAX],
    depth: usize,
}

/// An array or a map that has not ended.
#[derive(Clone, Copy, Default)]
struct PackLevel {
    /// Number of elements, keys and values that follow.
    left: u64,
    is_map: bool,
    /// It is a key itself.
    is_key: bool,
}

/// A value, or the beginning of one.
enum Token<'b> {
    Array(u32),
    Map(u32),
    Text(&'b str),
    Binary(&'b [u8]),
    Extension(i8, &'b [u8]),
    /// A word or number of JSON.
    Plain(&'b dyn Display),
    Integer(i128),
    Single(f32),
    Double(f64),
    Time {
        seconds: i64,
        nanoseconds: u32,
    },
}

impl<'b> PackCopier<'_, 'b, '_> {
    fn level(&mut self) -> Option<&mut PackLevel> {
        self.levels.get_mut(self.depth.checked_sub(1)?)
    }

    /// Copies a scalar, or the beginning of an array or a map.
    fn next(&mut self) -> Result<(), DecodeError> {
        let token = self.token()?;
        let mut is_key = false;
        if let Some(level) = self.level() {
            // The keys of a map are those with an even number of items left.
            is_key = level.is_map && level.left % 2 == 0;
            level.left -= 1;
        }
        match token {
            Token::Array(len) => self.open(false, len.into(), is_key),
            Token::Map(len) => self.open(true, 2 * u64::from(len), is_key),
            Token::Text(text) => self.to.scalar(is_key, is_plain(text), true, |to| {
                Ok(to.inside_of_string(text)?)
            }),
            Token::Binary(bytes) => {
                let base64 = Base64Display::new(bytes, &STANDARD);
                self.to
                    .scalar(is_key, false, true, |to| Ok(write!(to, "{base64}")?))
            }
            Token::Extension(kind, bytes) => {
                let base64 = Base64Display::new(bytes, &STANDARD);
                match is_key {
                    // A key is text: the JSON of the array.
                    true => self.to.scalar(true, false, true, |to| {
                        let text = format!("[{kind},\"{base64}\"]");
                        Ok(to.inside_of_string(&text)?)
                    }),
                    false => self.to.scalar(false, false, false, |to| {
                        Ok(write!(to, "[{kind},\"{base64}\"]")?)
                    }),
                }
            }
            Token::Plain(word) => self
                .to
                .scalar(is_key, true, false, |to| Ok(write!(to, "{word}")?)),
            Token::Integer(number) => self
                .to
                .scalar(is_key, true, false, |to| Ok(write!(to, "{number}")?)),
            Token::Single(number) => self.float(is_key, number.is_finite(), float(number)),
            Token::Double(number) => self.float(is_key, number.is_finite(), float(number)),
            Token::Time {
                seconds,
                nanoseconds,
            } => self.to.scalar(is_key, true, false, |to| {
                Ok(write!(to, "{}", Seconds(seconds, nanoseconds))?)
            }),
        }
    }

    fn token(&mut self) -> Result<Token<'b>, DecodeError> {
        let marker = read_marker(&mut self.values).map_err(|_| ends())?;
        Ok(match marker {
            Marker::FixPos(number) => Token::Integer(number.into()),
            Marker::FixNeg(number) => Token::Integer(number.into()),
            Marker::U8 => Token::Integer(self.number::<1>()?[0].into()),
            Marker::U16 => Token::Integer(u16::from_be_bytes(self.number()?).into()),
            Marker::U32 => Token::Integer(u32::from_be_bytes(self.number()?).into()),
            Marker::U64 => Token::Integer(u64::from_be_bytes(self.number()?).into()),
            Marker::I8 => Token::Integer(i8::from_be_bytes(self.number()?).into()),
            Marker::I16 => Token::Integer(i16::from_be_bytes(self.number()?).into()),
            Marker::I32 => Token::Integer(i32::from_be_bytes(self.number()?).into()),
            Marker::I64 => Token::Integer(i64::from_be_bytes(self.number()?).into()),
            Marker::F32 => Token::Single(f32::from_be_bytes(self.number()?)),
            Marker::F64 => Token::Double(f64::from_be_bytes(self.number()?)),
            Marker::Null => Token::Plain(&"null"),
            Marker::True => Token::Plain(&true),
            Marker::False => Token::Plain(&false),
            Marker::FixArray(len) => Token::Array(len.into()),
            Marker::Array16 => Token::Array(self.len::<2>()?),
            Marker::Array32 => Token::Array(self.len::<4>()?),
            Marker::FixMap(len) => Token::Map(len.into()),
            Marker::Map16 => Token::Map(self.len::<2>()?),
            Marker::Map32 => Token::Map(self.len::<4>()?),
            Marker::FixStr(len) => self.text(len.into())?,
            Marker::Str8 => self.len::<1>().and_then(|len| self.text(len))?,
            Marker::Str16 => self.len::<2>().and_then(|len| self.text(len))?,
            Marker::Str32 => self.len::<4>().and_then(|len| self.text(len))?,
            Marker::Bin8 => self.len::<1>().and_then(|len| self.binary(len))?,
            Marker::Bin16 => self.len::<2>().and_then(|len| self.binary(len))?,
            Marker::Bin32 => self.len::<4>().and_then(|len| self.binary(len))?,
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.len::<1>().and_then(|len| self.extension(len))?,
            Marker::Ext16 => self.len::<2>().and_then(|len| self.extension(len))?,
            Marker::Ext32 => self.len::<4>().and_then(|len| self.extension(len))?,
            Marker::Reserved => return Err(reason("the byte c1, which is not used")),
        })
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        self.values.read_exact_buf(&mut bytes).map_err(|_| ends())?;
        Ok(bytes)
    }

    /// Takes a length of N bytes.
    fn len<const N: usize>(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.number::<N>()?;
        Ok(bytes
            .iter()
            .fold(0, |len, byte| len << 8 | u32::from(*byte)))
    }

    /// Takes bytes without copying them.
    fn bytes(&mut self, len: u32) -> Result<&'b [u8], DecodeError> {
        let rest = self.values.remaining_slice();
        let len = usize::try_from(len).map_err(|_| ends())?;
        let (bytes, rest) = rest.split_at_checked(len).ok_or_else(ends)?;
        self.values = Bytes::new(rest);
        Ok(bytes)
    }

    fn text(&mut self, len: u32) -> Result<Token<'b>, DecodeError> {
        let text = std::str::from_utf8(self.bytes(len)?);
        text.map(Token::Text)
            .map_err(|_| reason("a text that is not UTF-8"))
    }

    fn binary(&mut self, len: u32) -> Result<Token<'b>, DecodeError> {
        self.bytes(len).map(Token::Binary)
    }

    fn extension(&mut self, len: u32) -> Result<Token<'b>, DecodeError> {
        let kind = i8::from_be_bytes(self.number()?);
        let bytes = self.bytes(len)?;
        let time = (kind == TIMESTAMP).then(|| timestamp(bytes)).flatten();
        Ok(time.unwrap_or(Token::Extension(kind, bytes)))
    }

    fn float(
        &mut self,
        is_key: bool,
        is_finite: bool,
        number: impl Display,
    ) -> Result<(), DecodeError> {
        match is_finite {
            false if !is_key && self.to.is_finite() => {
                self.to.scalar(false, true, false, |to| Ok(to.put("null")?))
            }
            _ => self
                .to
                .scalar(is_key, true, !is_finite, |to| Ok(write!(to, "{number}")?)),
        }
    }

    fn open(&mut self, is_map: bool, left: u64, is_key: bool) -> Result<(), DecodeError> {
        self.to.open_nested(is_map, is_key)?;
        self.depth += 1;
        if let Some(level) = self.level() {
            *level = PackLevel {
                left,
                is_map,
                is_key,
            };
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), DecodeError> {
        let level = self.level().copied().unwrap_or_default();
        self.depth -= 1;
        self.to.close_nested(level.is_key)
    }
}

/// The time of an extension with a length that times have.
fn timestamp<'b>(bytes: &[u8]) -> Option<Token<'b>> {
    let (seconds, nanoseconds) = match bytes.len() {
        4 => (u32::from_be_bytes(bytes.try_into().ok()?).into(), 0),
        8 => {
            let both = u64::from_be_bytes(bytes.try_into().ok()?);
            let seconds = i64::try_from(both & ((1 << 34) - 1)).ok()?;
            (seconds, u32::try_from(both >> 34).ok()?)
        }
        12 => {
            let (nanoseconds, seconds) = bytes.split_at_checked(4)?;
            let seconds = i64::from_be_bytes(seconds.try_into().ok()?);
            (seconds, u32::from_be_bytes(nanoseconds.try_into().ok()?))
        }
        _ => return None,
    };
    (nanoseconds < NANOSECONDS).then_some(Token::Time {
        seconds,
        nanoseconds,
    })
}

/// A time as the seconds since 1970, with as many digits as it has.
struct Seconds(i64, u32);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(seconds, nanoseconds) = *self;
        let billion = i128::from(NANOSECONDS);
        let all = i128::from(seconds) * billion + i128::from(nanoseconds);
        let sign = if all < 0 { "-" } else { "" };
        let (whole, part) = (all.abs() / billion, all.abs() % billion);
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:09}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// A float with the fewest digits that give the same number at its width.
fn float<F: ryu::Float + Into<f64> + Copy>(number: F) -> impl Display {
    fmt::from_fn(move |f| {
        let wide: f64 = number.into();
        match wide.is_finite() {
            true => f.write_str(ryu::Buffer::new().format_finite(number)),
            false => write!(f, "{wide}"),
        }
    })
}

fn ends() -> DecodeError {
    reason("it ends within a value")
}

fn reason(reason: &str) -> DecodeError {
    DecodeError::Invalid(reason.to_owned())
}

#[cfg(test)]
mod tests;
