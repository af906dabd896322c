//! Structured values as text, written token by token. [`Emitter`] keeps only the kind of each open level.

use std::fmt::{self, Write};
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::sync::LazyLock;

use crate::escape::json::inside_of_string;
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
    /// Hashes of the keys of all open objects.
    keys: Vec<u64>,
    /// Maximum number of keys.
    keys_max: usize,
    /// For each level, the index of its first key in `keys`.
    first_keys: [usize; DEPTH_MAX],
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
            keys: Vec::new(),
            keys_max: 0,
            first_keys: [0; DEPTH_MAX],
        }
    }

    /// Sets how many keys can follow at most. Their memory is allocated at once, when the first one comes.
    pub(super) fn expect_keys(&mut self, most: usize) {
        self.keys_max = most;
    }

    /// Whether a number that is not finite is written as null.
    pub(super) fn is_finite(&self) -> bool {
        self.style == Style::Finite
    }

    /// Appends JSON.
    pub(super) fn put(&mut self, text: &str) -> fmt::Result {
        if self.in_nested_key {
            return inside_of_string(text, &mut Final(self));
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
        inside_of_string(text, self)
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
        self.first_keys[self.depth] = self.keys.len();
        self.depth += 1;
        self.fresh = true;
        if self.is_field() {
            return Ok(());
        }
        Ok(self.put(if object { "{" } else { "[" })?)
    }

    /// Ends the innermost object or array. Fails if two keys of the object are the same as text.
    pub(super) fn close(&mut self) -> Result<(), DecodeError> {
        let is_top = self.is_field();
        let end = if self.is_in_object() { "}" } else { "]" };
        self.depth = self.depth.saturating_sub(1);
        self.fresh = false;
        let first = self.first_keys[self.depth];
        let keys = self.keys.get_mut(first..).unwrap_or_default();
        keys.sort_unstable();
        if keys.array_windows().any(|[one, other]| one == other) {
            let reason = "two keys of an object are the same as text";
            return Err(DecodeError::Invalid(reason.to_owned()));
        }
        self.keys.truncate(first);
        if is_top { Ok(()) } else { Ok(self.put(end)?) }
    }

    /// A key that is text.
    pub(super) fn text_key(&mut self, key: &str) -> fmt::Result {
        let plain = self.is_field() && is_plain(key);
        self.begin_key(plain)?;
        self.inside_of_string(key)?;
        self.end_key(plain)
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

    /// Ends a scalar key.
    pub(super) fn end_key(&mut self, plain: bool) -> fmt::Result {
        self.keep_hash(SCALAR);
        if !(self.is_field() && plain) {
            self.put("\"")?;
        }
        self.assign()
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

    /// Ends a nested key after [`Self::close`].
    pub(super) fn end_nested_key(&mut self) -> fmt::Result {
        self.in_nested_key = false;
        self.keep_hash(NESTED);
        self.put("\"")?;
        self.assign()
    }

    /// A scalar key or value, which `write` writes without quotes. `plain`: a field name that needs no quotes; `text`: a value
    /// that needs quotes.
    pub(super) fn scalar(
        &mut self,
        is_key: bool,
        plain: bool,
        text: bool,
        write: impl FnOnce(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if is_key {
            self.begin_key(plain)?;
            write(self)?;
            return Ok(self.end_key(plain)?);
        }
        let quote = if text { "\"" } else { "" };
        self.begin_value()?;
        self.put(quote)?;
        write(self)?;
        Ok(self.put(quote)?)
    }

    /// Begins an object or an array, which is a value or a key.
    pub(super) fn open_nested(&mut self, object: bool, is_key: bool) -> Result<(), DecodeError> {
        if is_key {
            self.begin_nested_key()?;
        } else {
            self.begin_value()?;
        }
        self.open(object)
    }

    /// Ends what [`Self::open_nested`] has begun.
    pub(super) fn close_nested(&mut self, is_key: bool) -> Result<(), DecodeError> {
        self.close()?;
        if is_key {
            self.end_nested_key()?;
        }
        Ok(())
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

    /// Keeps the hash of a key until its object ends.
    fn keep_hash(&mut self, which: usize) {
        let Some(hash) = self.hashes[which].take() else {
            return;
        };
        if self.keys.capacity() == 0 {
            self.keys.reserve_exact(self.keys_max);
        }
        self.keys.push(hash.finish());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_same_hash_in_any_parts() {
        let hash = |parts: &[&str]| {
            let mut text = String::new();
            let mut emitter = Emitter::new(Style::Json, &mut text);
            emitter.begin_key(false).expect("room");
            for part in parts {
                emitter.inside_of_string(part).expect("room");
            }
            emitter.end_key(false).expect("room");
            emitter.keys.pop()
        };
        let whole = hash(&["a long \"key\" of more than one word"]);
        assert_eq!(
            hash(&["a long", " \"k", "", "ey\" of more than one wor", "d"]),
            whole
        );
        assert_ne!(hash(&["another"]), whole);
    }
}
