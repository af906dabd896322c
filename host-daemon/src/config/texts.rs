//! Options of a table that are kept as they were written: [`KeyedTexts`].

use crate::config::error::ValueOrigin;
use crate::config::value::nearest;

/// The options of a table with a fixed set of keys, any of which may be missing.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyedTexts {
    given: Vec<GivenText>,
}

/// An option as it was written.
#[derive(Clone, Debug)]
struct GivenText {
    key: &'static str,
    text: String,
    origin: ValueOrigin,
}

/// Two are equal if their texts are.
impl PartialEq for KeyedTexts {
    fn eq(&self, other: &Self) -> bool {
        let is_in = |it: &GivenText, other: &Self| other.text(it.key) == Some(&*it.text);
        self.given.len() == other.given.len() && self.given.iter().all(|it| is_in(it, other))
    }
}

impl KeyedTexts {
    /// Whether no option is set.
    pub(super) const fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Where the first option was written.
    pub(super) fn origin(&self) -> Option<ValueOrigin> {
        self.given.first().map(|given| given.origin)
    }

    /// The value of a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.find(key).map(|it| &*it.text)
    }

    /// Key, text and origin of the options, in the order of `keys`.
    pub(super) fn written(
        &self,
        keys: &'static [&'static str],
    ) -> impl Iterator<Item = (&'static str, &str, ValueOrigin)> {
        let all = keys.iter().filter_map(|key| self.find(key));
        all.map(|it| (it.key, &*it.text, it.origin))
    }

    /// Sets an option by its key, which must be one of `keys`. `of` names what they belong to. An error does not name the key.
    pub(super) fn set(
        &mut self,
        (keys, of): (&'static [&'static str], &str),
        (key, text): (&str, &str),
        origin: ValueOrigin,
        check: impl FnOnce(&str, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(key) = keys.iter().find(|it| **it == key) else {
            let similar = nearest(key, keys.iter().copied());
            return Err(match similar {
                Some(similar) => format!("unknown key; did you mean `{similar}`?"),
                None => format!("unknown key; the keys of {of} are {}", keys.join(", ")),
            });
        };
        check(key, text)?;
        if self.find(key).is_some() {
            return Err("is given twice".to_owned());
        }
        let text = text.to_owned();
        self.given.push(GivenText { key, text, origin });
        Ok(())
    }

    fn find(&self, key: &str) -> Option<&GivenText> {
        self.given.iter().find(|it| it.key == key)
    }
}
