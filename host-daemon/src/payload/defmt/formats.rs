//! The format strings of a firmware, parsed once. Log frames refer to them by number: [`Formats::get`].

use std::collections::{BTreeMap, HashMap};

use defmt_decoder::Table;
use defmt_parser::{DisplayHint, Fragment, ParserMode, Type, get_max_bitfield_range};
use serde::Deserialize;

/// Maximum digits of an argument's index. The parser allocates a slot for each index up to the highest.
const INDEX_DIGITS_MAX: usize = 3;

/// All format strings.
#[cfg_attr(test, derive(Default))]
pub(super) struct Formats {
    entries: HashMap<u16, TableEntry>,
    /// Format of the timestamp at the start of every frame.
    pub(super) timestamp: Option<TableEntry>,
    bitflags: HashMap<FlagsKey, Vec<(String, u128)>>,
    /// Length of the longest string.
    pub(super) longest: usize,
}

/// A format string.
pub(super) struct TableEntry {
    /// Level of a log statement; `None` for a print and for the formats that statements refer to.
    pub(super) level: Option<&'static str>,
    /// The string in the ELF file.
    pub(super) text: String,
    /// The string as one format; `None` if it is invalid.
    pub(super) whole: Option<ParsedFormat>,
    /// The formats of an enum's variants. `None` if the string has no `|`.
    pub(super) variants: Option<Vec<Option<ParsedFormat>>>,
}

/// A parsed format string.
pub(super) struct ParsedFormat {
    pub(super) parts: Vec<Part>,
    /// Types of the arguments in the order of the frame.
    pub(super) arguments: Vec<Type>,
    /// The arguments are shown in the order of the frame, each once.
    pub(super) in_order: bool,
    /// The string is `{=u8}`.
    pub(super) is_byte: bool,
}

/// A part of a message.
pub(super) enum Part {
    /// Text.
    Literal(String),
    /// The place of an argument.
    Argument {
        index: usize,
        ty: Type,
        hint: Option<DisplayHint>,
    },
}

/// The serialized form of a [`Table`], whose fields are private.
#[derive(Deserialize)]
struct RawTable {
    timestamp: Option<RawEntry>,
    entries: BTreeMap<u64, RawEntry>,
    bitflags: HashMap<FlagsKey, Vec<(String, u128)>>,
}

#[derive(Deserialize)]
struct RawEntry {
    string: RawString,
}

#[derive(Deserialize)]
struct RawString {
    tag: String,
    string: String,
}

#[derive(Deserialize, PartialEq, Eq, Hash)]
struct FlagsKey {
    ident: String,
    package: String,
    disambig: String,
    crate_name: Option<String>,
}

impl Formats {
    /// The format strings of a table.
    pub(super) fn of(table: &Table) -> Result<Self, String> {
        let raw = ciborium::Value::serialized(table).map_err(|error| error.to_string())?;
        let raw: RawTable = raw.deserialized().map_err(|error| error.to_string())?;
        let entry = |raw: RawEntry| TableEntry::new(&raw.string.tag, raw.string.string);
        let timestamp = raw.timestamp.map(entry);
        let entries: HashMap<_, _> = raw
            .entries
            .into_iter()
            // Frames have 16 bits for the number.
            .filter_map(|(index, raw)| Some((u16::try_from(index).ok()?, entry(raw))))
            .collect();
        let lens = entries.values().chain(&timestamp);
        let longest = lens.map(|entry| entry.text.len()).max();
        Ok(Self {
            longest: longest.unwrap_or_default(),
            entries,
            timestamp,
            bitflags: raw.bitflags,
        })
    }

    /// The format string with this number.
    pub(super) fn get(&self, index: u16) -> Option<&TableEntry> {
        self.entries.get(&index)
    }

    /// The flags of a type that `defmt::bitflags!` made, each with its name.
    pub(super) fn flags(&self, hint: &DisplayHint) -> Option<&[(String, u128)]> {
        let DisplayHint::Bitflags {
            name,
            package,
            disambiguator,
            crate_name,
        } = hint
        else {
            return None;
        };
        let key = FlagsKey {
            ident: name.clone(),
            package: package.clone(),
            disambig: disambiguator.clone(),
            crate_name: crate_name.clone(),
        };
        self.bitflags.get(&key).map(Vec::as_slice)
    }
}

impl TableEntry {
    fn new(tag: &str, text: String) -> Self {
        let level = match tag {
            "Trace" => Some("trace"),
            "Debug" => Some("debug"),
            "Info" => Some("info"),
            "Warn" => Some("warn"),
            "Error" => Some("error"),
            _ => None,
        };
        let variants = text.split('|').map(ParsedFormat::parse);
        Self {
            level,
            whole: ParsedFormat::parse(&text),
            variants: text.contains('|').then(|| variants.collect()),
            text,
        }
    }
}

impl ParsedFormat {
    fn parse(text: &str) -> Option<Self> {
        if text.split('{').any(has_high_index) {
            return None;
        }
        let parsed = defmt_parser::parse(text, ParserMode::ForwardsCompatible).ok()?;
        let parts: Vec<_> = parsed
            .iter()
            .map(|fragment| match fragment {
                Fragment::Literal(text) => Part::Literal(text.clone().into_owned()),
                Fragment::Parameter(parameter) => Part::Argument {
                    index: parameter.index,
                    ty: parameter.ty.clone(),
                    hint: parameter.hint.clone(),
                },
            })
            .collect();
        let mut shown = Vec::new();
        for part in &parts {
            if let Part::Argument { index, hint, .. } = part {
                if hint.as_ref().is_some_and(is_too_wide) {
                    return None;
                }
                shown.push(*index);
            }
        }
        // The parser checks that every index up to the highest is used, always with the same type. Only bit fields of
        // one argument may have several ranges.
        let count = shown.iter().max().map_or(0, |highest| highest + 1);
        let arguments = (0..count)
            .map(|index| {
                let own = parsed.iter().filter_map(|fragment| match fragment {
                    Fragment::Parameter(parameter) if parameter.index == index => Some(parameter),
                    _ => None,
                });
                let ty = own.clone().next()?.ty.clone();
                match ty {
                    Type::BitField(_) => {
                        let (start, end) = get_max_bitfield_range(own)?;
                        Some(Type::BitField(start..end))
                    }
                    ty => Some(ty),
                }
            })
            .collect::<Option<_>>()?;
        Some(Self {
            in_order: shown.iter().copied().eq(0..count),
            is_byte: text == "{=u8}",
            parts,
            arguments,
        })
    }
}

/// Whether the text after a brace starts with an index that is too high.
fn has_high_index(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    INDEX_DIGITS_MAX < digits
}

/// Whether the width exceeds the limit of Rust's formatting, which panics beyond it.
fn is_too_wide(hint: &DisplayHint) -> bool {
    match hint {
        DisplayHint::NoHint { zero_pad }
        | DisplayHint::Hexadecimal { zero_pad, .. }
        | DisplayHint::Octal { zero_pad, .. }
        | DisplayHint::Binary { zero_pad, .. } => u16::try_from(*zero_pad).is_err(),
        _ => false,
    }
}
