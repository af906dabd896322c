//! Shows a log frame while reading it. [`Reader`] has a bound on depth and steps and builds no tree.
//!
//! `defmt-decoder` shows the same text but trusts its frames: it allocates for declared element counts, builds a tree
//! of about 200 bytes for each byte, and recurses without a bound.

use std::fmt::{self, Write};

use defmt_parser::{DisplayHint, Type};

use crate::payload::defmt::formats::{Formats, ParsedFormat, Part, TableEntry};
use crate::payload::defmt::hint;
use crate::payload::{DEPTH_MAX, DecodeError};

/// Steps allowed for each byte of the frame. A frame with its arguments in order takes at most one step for each byte
/// of input and output.
const STEPS_FACTOR: usize = 16;
/// Steps allowed in addition.
const STEPS_BASE: usize = 64 << 10;

/// Reads the arguments of formats from a frame.
pub(super) struct Reader<'f, 'w> {
    formats: &'f Formats,
    to: &'w mut dyn Write,
    /// Arguments are skipped, not shown.
    passes: bool,
    depth: usize,
    steps: usize,
}

impl<'f, 'w> Reader<'f, 'w> {
    /// A reader for a part of a frame of `len` bytes, which writes to `to`.
    pub(super) fn new(formats: &'f Formats, len: usize, to: &'w mut dyn Write) -> Self {
        Self {
            formats,
            to,
            passes: false,
            depth: 0,
            steps: len.saturating_mul(STEPS_FACTOR) + STEPS_BASE + formats.longest,
        }
    }

    /// Shows a format with its arguments, and takes them from `bytes`.
    pub(super) fn show(
        &mut self,
        format: Option<&'f ParsedFormat>,
        bytes: &mut &[u8],
    ) -> Result<(), DecodeError> {
        self.format(format, bytes, None)
    }

    /// Skips the arguments of a format in `bytes`.
    pub(super) fn pass(
        &mut self,
        format: Option<&'f ParsedFormat>,
        bytes: &mut &[u8],
    ) -> Result<(), DecodeError> {
        self.passes = true;
        let passed = self.format(format, bytes, None);
        self.passes = false;
        passed
    }

    fn format(
        &mut self,
        format: Option<&'f ParsedFormat>,
        bytes: &mut &[u8],
        hint: Option<&'f DisplayHint>,
    ) -> Result<(), DecodeError> {
        let format = format.ok_or_else(|| reason("its format cannot be shown"))?;
        if self.depth == DEPTH_MAX {
            return Err(DecodeError::Invalid(format!(
                "nested deeper than {DEPTH_MAX} levels"
            )));
        }
        self.depth += 1;
        let arguments = *bytes;
        if self.passes || !format.in_order {
            self.pass_all(&format.arguments, bytes)?;
        }
        if !self.passes {
            for part in &format.parts {
                self.step(1)?;
                match part {
                    Part::Literal(text) => self.to.write_str(text)?,
                    Part::Argument {
                        index,
                        ty,
                        hint: own,
                    } => {
                        let shown = ArgumentFormat {
                            ty,
                            hint: own.as_ref(),
                            parent: hint,
                        };
                        let read = format.arguments.get(*index).unwrap_or(ty);
                        if format.in_order {
                            self.argument(read, shown, bytes)?;
                        } else {
                            let mut from = arguments;
                            let before = format.arguments.get(..*index).unwrap_or_default();
                            self.pass_all(before, &mut from)?;
                            self.argument(read, shown, &mut from)?;
                        }
                    }
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn pass_all(&mut self, arguments: &'f [Type], bytes: &mut &[u8]) -> Result<(), DecodeError> {
        let passes = std::mem::replace(&mut self.passes, true);
        for ty in arguments {
            self.step(1)?;
            let shown = ArgumentFormat {
                ty,
                hint: None,
                parent: None,
            };
            self.argument(ty, shown, bytes)?;
        }
        self.passes = passes;
        Ok(())
    }

    fn argument(
        &mut self,
        read: &'f Type,
        shown: ArgumentFormat<'f>,
        bytes: &mut &[u8],
    ) -> Result<(), DecodeError> {
        let hint = shown.hint.or(shown.parent);
        match read {
            Type::U8 => self.unsigned(take_number(bytes, 1)?, shown),
            Type::U16 => self.unsigned(take_number(bytes, 2)?, shown),
            Type::U32 | Type::Usize => self.unsigned(take_number(bytes, 4)?, shown),
            Type::U64 => self.unsigned(take_number(bytes, 8)?, shown),
            Type::U128 => self.unsigned(take_number(bytes, 16)?, shown),
            Type::I8 => self.signed(bytes, 1, hint),
            Type::I16 => self.signed(bytes, 2, hint),
            Type::I32 | Type::Isize => self.signed(bytes, 4, hint),
            Type::I64 => self.signed(bytes, 8, hint),
            Type::I128 => self.signed(bytes, 16, hint),
            Type::BitField(range) => {
                let lowest = range.start / 8;
                let len = match (range.end.saturating_sub(1) / 8).saturating_sub(lowest) {
                    0 => 1,
                    1 => 2,
                    2..4 => 4,
                    4..8 => 8,
                    _ => 16,
                };
                let number = take_number(bytes, len)? << (u32::from(lowest) * 8).min(127);
                match shown.ty {
                    Type::BitField(own) => {
                        let formats = self.formats;
                        self.write(|to| {
                            hint::bit_field(number, own.start, own.end, hint, formats, to)
                        })
                    }
                    _ => Err(reason("its format cannot be shown")),
                }
            }
            Type::F32 => {
                let bits = u32::from_le_bytes(take_array(bytes)?);
                let text = ryu::Buffer::new().format(f32::from_bits(bits)).to_owned();
                self.write(|to| to.write_str(&text))
            }
            Type::F64 => {
                let bits = u64::from_le_bytes(take_array(bytes)?);
                let text = ryu::Buffer::new().format(f64::from_bits(bits)).to_owned();
                self.write(|to| to.write_str(&text))
            }
            Type::Bool => match take(bytes, 1)? {
                [0] => self.write(|to| to.write_str("false")),
                [1] => self.write(|to| to.write_str("true")),
                _ => Err(reason("a truth value is neither 0 nor 1")),
            },
            Type::Char => {
                let character = char::from_u32(u32::from_le_bytes(take_array(bytes)?))
                    .ok_or_else(|| reason("a character is not one of Unicode"))?;
                self.write(|to| to.write_char(character))
            }
            Type::Str => {
                let len = take_len(bytes)?;
                let text = take(bytes, len)?;
                self.text(text, hint)
            }
            Type::Debug | Type::Display => {
                // The text ends at a byte that UTF-8 never uses.
                let len = bytes.iter().position(|byte| *byte == 0xff);
                let text = take(bytes, len.ok_or_else(ends_early)?)?;
                take(bytes, 1)?;
                self.text(text, hint)
            }
            Type::IStr => {
                let text = &self.referred(bytes)?.text;
                self.write(|to| hint::text(text, hint, to))
            }
            Type::U8Slice => {
                let len = take_len(bytes)?;
                self.bytes(take(bytes, len)?, hint)
            }
            Type::U8Array(len) => self.bytes(take(bytes, *len)?, hint),
            Type::Format => {
                let entry = self.referred(bytes)?;
                let format = pick(entry, bytes)?;
                self.format(format, bytes, shown.inherited())
            }
            Type::FormatSlice => {
                let count = take_len(bytes)?;
                self.slice(count, shown, bytes)
            }
            Type::FormatArray(count) => self.slice(*count, shown, bytes),
            Type::FormatSequence => loop {
                self.step(1)?;
                if let Some([0, 0]) = bytes.first_chunk() {
                    take(bytes, 2)?;
                    return Ok(());
                }
                let entry = self.referred(bytes)?;
                self.format(entry.whole.as_ref(), bytes, hint)?;
            },
        }
    }

    fn slice(
        &mut self,
        count: usize,
        shown: ArgumentFormat<'f>,
        bytes: &mut &[u8],
    ) -> Result<(), DecodeError> {
        let hint = shown.hint.or(shown.parent);
        let entry = self.referred(bytes)?;
        let is_bytes =
            entry.variants.is_none() && entry.whole.as_ref().is_some_and(|format| format.is_byte);
        if is_bytes && count != 0 && (self.passes || hint == Some(&DisplayHint::Ascii)) {
            return self.bytes(take(bytes, count)?, hint);
        }
        self.write(|to| to.write_str("["))?;
        for index in 0..count {
            self.step(1)?;
            if index != 0 {
                self.write(|to| to.write_str(", "))?;
            }
            let format = pick(entry, bytes)?;
            self.format(format, bytes, hint)?;
        }
        self.write(|to| to.write_str("]"))
    }

    fn unsigned(&mut self, number: u128, shown: ArgumentFormat<'f>) -> Result<(), DecodeError> {
        let formats = self.formats;
        let hint = match shown.hint.or(shown.parent) {
            Some(DisplayHint::Debug) => shown.parent,
            hint => hint,
        };
        self.write(|to| hint::unsigned(number, hint, formats, to))
    }

    fn signed(
        &mut self,
        bytes: &mut &[u8],
        len: usize,
        hint: Option<&DisplayHint>,
    ) -> Result<(), DecodeError> {
        let number = take_number(bytes, len)?;
        self.write(|to| hint::signed(number, len, hint, to))
    }

    fn text(&mut self, text: &[u8], hint: Option<&DisplayHint>) -> Result<(), DecodeError> {
        self.step(text.len() / STEPS_FACTOR)?;
        let text = std::str::from_utf8(text).map_err(|_| reason("a text is not UTF-8"))?;
        self.write(|to| hint::text(text, hint, to))
    }

    fn bytes(&mut self, bytes: &[u8], hint: Option<&DisplayHint>) -> Result<(), DecodeError> {
        self.step(bytes.len() / STEPS_FACTOR)?;
        let formats = self.formats;
        self.write(|to| hint::bytes(bytes, hint, formats, to))
    }

    fn write(
        &mut self,
        show: impl FnOnce(&mut dyn Write) -> fmt::Result,
    ) -> Result<(), DecodeError> {
        if self.passes {
            return Ok(());
        }
        Ok(show(self.to)?)
    }

    /// Takes a reference to a format string.
    fn referred(&mut self, bytes: &mut &[u8]) -> Result<&'f TableEntry, DecodeError> {
        let index = u16::from_le_bytes(take_array(bytes)?);
        match self.formats.get(index) {
            Some(entry) if entry.level.is_none() => Ok(entry),
            _ => Err(reason("it refers to a format that the ELF file lacks")),
        }
    }

    fn step(&mut self, count: usize) -> Result<(), DecodeError> {
        self.steps = self
            .steps
            .checked_sub(count)
            .ok_or_else(|| reason("it takes more steps to show than its length allows"))?;
        Ok(())
    }
}

/// How an argument is shown.
#[derive(Clone, Copy)]
struct ArgumentFormat<'f> {
    ty: &'f Type,
    hint: Option<&'f DisplayHint>,
    /// Hint of the enclosing format.
    parent: Option<&'f DisplayHint>,
}

impl<'f> ArgumentFormat<'f> {
    /// The hint for the arguments inside this one.
    fn inherited(self) -> Option<&'f DisplayHint> {
        match self.parent {
            Some(DisplayHint::Ascii) => self.parent,
            _ => self.hint.or(self.parent),
        }
    }
}

/// Takes the discriminant of an enum and returns the format of its variant; otherwise returns the only format.
fn pick<'f>(
    entry: &'f TableEntry,
    bytes: &mut &[u8],
) -> Result<Option<&'f ParsedFormat>, DecodeError> {
    let Some(variants) = &entry.variants else {
        return Ok(entry.whole.as_ref());
    };
    let last = variants.len() - 1;
    let len = match last {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    };
    let variant = usize::try_from(take_number(bytes, len)?).unwrap_or(usize::MAX);
    match variants.get(variant) {
        Some(format) => Ok(format.as_ref()),
        None => Err(reason("an enum has no such variant")),
    }
}

/// Takes the next bytes.
pub(super) fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Result<&'b [u8], DecodeError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or_else(ends_early)?;
    *bytes = rest;
    Ok(taken)
}

pub(super) fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (taken, rest) = bytes.split_first_chunk().ok_or_else(ends_early)?;
    *bytes = rest;
    Ok(*taken)
}

fn take_len(bytes: &mut &[u8]) -> Result<usize, DecodeError> {
    let len = u32::from_le_bytes(take_array(bytes)?);
    Ok(usize::try_from(len).unwrap_or(usize::MAX))
}

/// Takes a number of 16 bytes at most.
fn take_number(bytes: &mut &[u8], len: usize) -> Result<u128, DecodeError> {
    let taken = take(bytes, len)?;
    let bytes = taken.iter().rev();
    Ok(bytes.fold(0, |number, byte| number << 8 | u128::from(*byte)))
}

fn ends_early() -> DecodeError {
    reason("it ends within an argument")
}

pub(super) fn reason(reason: &str) -> DecodeError {
    DecodeError::Invalid(reason.to_owned())
}
