//! Structured values as text, written token by token. [`Emitter`] keeps only the kind of each open level.

use std::fmt::{self, Write};
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::sync::LazyLock;

use crate::payload::DecodeError;

/// Maximum nesting of a value. Inside the object of an event, this is the deepest that `serde_json` accepts.
pub const DEPTH_MAX: usize = 126;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As compact JSON.
    Json,
    /// As compact JSON, with null for a number that is not finite.
    Finite,
    /// The fields of a top-level object for people: `temp=21.5 unit="°C"`. Everything else as JSON.
    Fields,
}

/// Writes a value token by token: adds commas, colons and quotes, and escapes strings.
pub(super) struct Emitter<'w> {
    to: &'w mut dyn Write,
    style: Style,
    depth: usize,
    /// Bit n: level n is an object.
    objects: u128,
    /// The current level is empty so far.
    fresh: bool,
    /// The top-level object is written as fields.
    fields: bool,
    /// Inside a key that is an array or a map: its JSON is escaped as a string.
    in_nested_key: bool,
    /// Hashes of the scalar key and of the nested key being written; a nested key may contain scalar ones.
    hashes: [Option<DefaultHasher>; 2],
}

const SCALAR: usize = 0;
const NESTED: usize = 1;

impl<'w> Emitter<'w> {
    pub(super) fn new(style: Style, to: &'w mut dyn Write) -> Self {
        Self {
            to,
            style,
            depth: 0,
            objects: 0,
            fresh: true,
            fields: false,
            in_nested_key: false,
            hashes: [None, None],
        }
    }

    /// Whether a number that is not finite is written as null.
    pub(super) fn is_finite(&self) -> bool {
        self.style == Style::Finite
    }

    /// Appends JSON.
    pub(super) fn put(&mut self, text: &str) -> fmt::Result {
        if self.in_nested_key {
            return escape(text, &mut Final(self));
        }
        Final(self).write_str(text)
    }

    /// Appends a string.
    pub(super) fn string(&mut self, text: &str) -> fmt::Result {
        self.put("\"")?;
        self.inside_of_string(text)?;
        self.put("\"")
    }

    /// Appends a part of a string.
    pub(super) fn inside_of_string(&mut self, text: &str) -> fmt::Result {
        match self.style {
            Style::Json | Style::Finite => escape(text, self),
            Style::Fields => escape_for_people(text, self),
        }
    }

    /// A value follows, in an array or after its key.
    pub(super) fn begin_value(&mut self) -> fmt::Result {
        let comma = 0 < self.depth && !self.is_in_object() && !self.fresh;
        self.fresh = false;
        if comma { self.put(",") } else { Ok(()) }
    }

    /// Begins an object or an array, after [`Self::begin_value`].
    pub(super) fn open(&mut self, object: bool) -> Result<(), DecodeError> {
        if self.depth == DEPTH_MAX {
            return Err(DecodeError::Invalid(format!(
                "nested deeper than {DEPTH_MAX} levels"
            )));
        }
        self.objects = self.objects & !(1 << self.depth) | u128::from(object) << self.depth;
        self.fields |= self.depth == 0 && object && self.style == Style::Fields;
        self.depth += 1;
        self.fresh = true;
        if self.is_field() {
            return Ok(());
        }
        Ok(self.put(if object { "{" } else { "[" })?)
    }

    /// Ends the innermost object or array.
    pub(super) fn close(&mut self) -> fmt::Result {
        let is_top = self.is_field();
        let end = if self.is_in_object() { "}" } else { "]" };
        self.depth = self.depth.saturating_sub(1);
        self.fresh = false;
        if is_top { Ok(()) } else { self.put(end) }
    }

    /// A key that is text.
    pub(super) fn text_key(&mut self, key: &str) -> fmt::Result {
        self.separate()?;
        if self.is_field() && is_plain(key) {
            self.put(key)?;
        } else {
            self.string(key)?;
        }
        self.assign()
    }

    /// Begins a scalar key. Its text follows, without quotes. `plain`: a field name that needs no quotes.
    pub(super) fn begin_key(&mut self, plain: bool) -> fmt::Result {
        self.separate()?;
        if !(self.is_field() && plain) {
            self.put("\"")?;
        }
        self.hashes[SCALAR] = Some(hasher());
        Ok(())
    }

    /// Ends a scalar key. Returns a hash of its text.
    pub(super) fn end_key(&mut self, plain: bool) -> Result<u64, fmt::Error> {
        let hash = self.take_hash(SCALAR);
        if !(self.is_field() && plain) {
            self.put("\"")?;
        }
        self.assign()?;
        Ok(hash)
    }

    /// Begins a key that is an array or a map.
    pub(super) fn begin_nested_key(&mut self) -> Result<(), DecodeError> {
        if self.in_nested_key {
            // Each further level would double the length of the escapes of the level inside it.
            return Err(DecodeError::Invalid(
                "a key within a key is an array or a map".to_owned(),
            ));
        }
        self.separate()?;
        self.put("\"")?;
        self.hashes[NESTED] = Some(hasher());
        self.in_nested_key = true;
        Ok(())
    }

    /// Ends a nested key after [`Self::close`]. Returns a hash of its text.
    pub(super) fn end_nested_key(&mut self) -> Result<u64, fmt::Error> {
        self.in_nested_key = false;
        let hash = self.take_hash(NESTED);
        self.put("\"")?;
        self.assign()?;
        Ok(hash)
    }

    fn separate(&mut self) -> fmt::Result {
        let first = std::mem::replace(&mut self.fresh, false);
        match (first, self.is_field()) {
            (true, _) => Ok(()),
            (false, true) => self.put(" "),
            (false, false) => self.put(","),
        }
    }

    fn assign(&mut self) -> fmt::Result {
        self.put(if self.is_field() { "=" } else { ":" })
    }

    fn take_hash(&mut self, which: usize) -> u64 {
        self.hashes[which].take().map_or(0, |hash| hash.finish())
    }

    const fn is_in_object(&self) -> bool {
        self.depth != 0 && self.objects >> (self.depth - 1) & 1 == 1
    }

    /// The current level is a top-level object written as fields.
    const fn is_field(&self) -> bool {
        self.fields && self.depth == 1
    }
}

impl Write for Emitter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text)
    }
}

/// The last stage of an emitter: hashes keys and writes text without escaping it.
struct Final<'e, 'w>(&'e mut Emitter<'w>);

impl Write for Final<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for hash in self.0.hashes.iter_mut().flatten() {
            hash.write(text.as_bytes());
        }
        self.0.to.write_str(text)
    }
}

/// Randomly keyed, so a payload cannot contain two keys with the same hash on purpose.
fn hasher() -> DefaultHasher {
    static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    STATE.build_hasher()
}

/// Whether a key needs no quotes in a list of fields.
pub(super) fn is_plain(key: &str) -> bool {
    key.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// Appends text as the inside of a JSON string.
pub fn escape(text: &str, to: &mut dyn Write) -> fmt::Result {
    escape_where(
        text,
        |byte| byte < b' ' || byte == b'"' || byte == b'\\',
        to,
    )
}

/// The same for people: also escapes DEL and the C1 controls, which act on terminals.
fn escape_for_people(text: &str, to: &mut dyn Write) -> fmt::Result {
    // The controls from U+0080 on begin with 0xc2.
    let is_special = |byte| byte < b' ' || b"\"\\\x7f\xc2".contains(&byte);
    escape_where(text, is_special, to)
}

fn escape_where(text: &str, is_special: impl Fn(u8) -> bool, to: &mut dyn Write) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(&is_special) {
        let (plain, after) = rest.split_at(at);
        let mut after = after.chars();
        to.write_str(plain)?;
        match after.next() {
            Some('"') => to.write_str("\\\"")?,
            Some('\\') => to.write_str("\\\\")?,
            Some('\n') => to.write_str("\\n")?,
            Some('\r') => to.write_str("\\r")?,
            Some('\t') => to.write_str("\\t")?,
            Some('\u{8}') => to.write_str("\\b")?,
            Some('\u{c}') => to.write_str("\\f")?,
            Some(control) if control.is_control() => {
                write!(to, "\\u{:04x}", u32::from(control))?;
            }
            Some(other) => to.write_char(other)?,
            None => {}
        }
        rest = after.as_str();
    }
    to.write_str(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_escaped_as_serde_json_does() {
        for code in (0..0x300).chain(0x2020..0x2030).chain(0xffff..0x1_0010) {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            for text in [format!("{character}"), format!("a{character}{character}z")] {
                let mut escaped = String::new();
                Emitter::new(Style::Json, &mut escaped)
                    .string(&text)
                    .expect("room");
                let want = serde_json::to_string(&text).expect("a string");
                assert_eq!(escaped, want);
                let mut escaped = String::new();
                Emitter::new(Style::Fields, &mut escaped)
                    .string(&text)
                    .expect("room");
                assert!(!escaped.contains(char::is_control), "{escaped:?}");
                let again: String = serde_json::from_str(&escaped).expect("a string");
                assert_eq!(again, text);
            }
        }
    }

    #[test]
    fn a_key_has_the_same_hash_in_any_parts() {
        let hash = |parts: &[&str]| {
            let mut text = String::new();
            let mut emitter = Emitter::new(Style::Json, &mut text);
            emitter.begin_key(false).expect("room");
            for part in parts {
                emitter.inside_of_string(part).expect("room");
            }
            emitter.end_key(false).expect("room")
        };
        let whole = hash(&["a long \"key\" of more than one word"]);
        assert_eq!(
            hash(&["a long", " \"k", "", "ey\" of more than one wor", "d"]),
            whole
        );
        assert_ne!(hash(&["another"]), whole);
    }
}
