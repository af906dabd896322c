//! Which entries a request selects: an [`EntryFilter`].

use std::sync::Arc;

use wildmatch::WildMatch;

use crate::api::level::LogLevel;
use crate::view::entry::ViewEntry;

/// Names of devices, of which some may have the wildcards `*` and `?`. Without a name, all devices.
#[derive(Clone, Debug, Default)]
pub struct DeviceGlobs(Vec<WildMatch>);

/// Selects entries.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// The devices.
    pub devices: DeviceGlobs,
    /// A text that the line contains, in lower case; empty for none.
    contains: String,
    /// Only lines of a log, of this level or a more severe one.
    pub level: Option<LogLevel>,
    /// The last device that was compared. Entries of one device often follow each other.
    last: Option<(Arc<str>, bool)>,
    lower: String,
}

impl DeviceGlobs {
    /// Adds a name.
    pub fn push(&mut self, glob: &str) {
        self.0.push(WildMatch::new(glob));
    }

    /// Whether a device has one of the names.
    #[must_use]
    pub fn matches(&self, device: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|glob| glob.matches(device))
    }
}

impl EntryFilter {
    /// Selects only entries whose content has this text, as JSON or as it was received, in upper or lower case.
    #[must_use]
    pub fn containing(self, text: &str) -> Self {
        Self {
            contains: folded(text),
            ..self
        }
    }

    pub(super) fn selects(&mut self, entry: &ViewEntry) -> bool {
        if let Some(least) = self.level
            && entry.level.is_none_or(|level| level < least)
        {
            return false;
        }
        let is_wanted = match &self.last {
            Some((device, is_wanted)) if Arc::ptr_eq(device, &entry.device) => *is_wanted,
            _ => {
                let is_wanted = self.devices.matches(&entry.device);
                self.last = Some((Arc::clone(&entry.device), is_wanted));
                is_wanted
            }
        };
        is_wanted && self.has_text(entry)
    }

    fn has_text(&mut self, entry: &ViewEntry) -> bool {
        let content = entry.line.get(entry.content_at..).unwrap_or_default();
        // People look for what they have seen: text of `key=value` is shown as it was received, too.
        self.contains.is_empty() || self.is_in(content) || self.is_in(&entry.payload)
    }

    fn is_in(&mut self, bytes: &[u8]) -> bool {
        self.lower.clear();
        fold(&String::from_utf8_lossy(bytes), &mut self.lower);
        self.lower.contains(&self.contains)
    }
}

/// A text without the difference between upper and lower case.
pub(super) fn folded(text: &str) -> String {
    let mut lower = String::with_capacity(text.len());
    fold(text, &mut lower);
    lower
}

/// Letter by letter, since a part of a word is compared: the small sigma has another form at the end of a word.
fn fold(text: &str, to: &mut String) {
    let letters = text.chars().flat_map(char::to_lowercase);
    to.extend(letters.map(|letter| if letter == 'ς' { 'σ' } else { letter }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(device: &str, level: Option<LogLevel>, line: &str) -> ViewEntry {
        ViewEntry {
            device: device.into(),
            level,
            line: line.as_bytes().into(),
            content_at: 1,
            payload: Arc::default(),
            decoding: crate::payload::Decoding::Raw,
        }
    }

    #[test]
    fn devices_texts_and_levels_are_selected() {
        let boiler = entry("boiler-1", None, r#"{"text":"Temp=21 µ"}"#);
        let log = entry("pump", Some(LogLevel::Warn), r#"{"message":"Hot"}"#);
        let selects =
            |filter: &EntryFilter| [&boiler, &log].map(|entry| filter.clone().selects(entry));
        let mut filter = EntryFilter::default();
        assert_eq!(selects(&filter), [true, true]);
        filter.devices.push("boiler-?");
        assert_eq!(selects(&filter), [true, false]);
        filter.devices.push("p*");
        assert_eq!(selects(&filter), [true, true]);
        for (text, want) in [
            ("TEMP", [true, false]),
            ("Μ", [false, false]),
            ("hot", [false, true]),
        ] {
            assert_eq!(selects(&filter.clone().containing(text)), want, "{text}");
        }
        let kv = ViewEntry {
            payload: b"State=off".as_slice().into(),
            ..entry("boiler-1", None, r#"{"value":{"State":"off"}}"#)
        };
        let greek = entry("boiler-1", None, r#"{"m":"ΟΔΟΣ"}"#);
        for text in ["ΟΔΟΣ", "οδος", "οδοσ", "ΔΟ"] {
            assert!(filter.clone().containing(text).selects(&greek), "{text}");
        }
        for (text, want) in [("state=OFF", true), ("\"off\"", true), ("state:off", false)] {
            assert_eq!(filter.clone().containing(text).selects(&kv), want, "{text}");
        }
        filter.level = Some(LogLevel::Info);
        assert_eq!(selects(&filter), [false, true]);
        filter.level = Some(LogLevel::Error);
        assert_eq!(selects(&filter), [false, false]);
    }

    #[test]
    fn a_name_with_odd_characters_is_compared_whole() {
        let mut globs = DeviceGlobs::default();
        globs.push("a[b]\\c");
        assert!(globs.matches("a[b]\\c") && !globs.matches("ab\\c"));
    }
}
