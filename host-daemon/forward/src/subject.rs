//! Subjects: [`Subjects`] makes them from the names of devices, and [`decode`] finds the name in a token.
//!
//! A name is one token of a subject. Letters, digits, `-` and `_` stand for themselves, every other byte for `=` and two
//! hexadecimal digits: dots would make several tokens, and `*`, `>` and spaces have a meaning of their own.

use std::fmt::Write as _;
use std::sync::Arc;

/// The first token of all subjects.
pub const PREFIX: &str = "blocksd";

/// The wildcard of the subjects of events of all sites.
pub(crate) const EVENTS: &str = "blocksd.*.events.*";

/// The subjects of a site.
///
/// # Examples
/// ```
/// use blocksd_forward::subject::Subjects;
///
/// let subjects = Subjects::new("plant-7");
/// assert_eq!(&*subjects.device("10.0.0.7"), "blocksd.plant-7.dev.10=2E0=2E0=2E7");
/// assert_eq!(subjects.all(), "blocksd.plant-7.>");
/// assert_eq!(subjects.device_of("blocksd.plant-7.dev.10=2E0=2E0=2E7").as_deref(), Some("10.0.0.7"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    /// `blocksd.<site>.`
    prefix: String,
}

impl Subjects {
    /// The subjects of a site. Its name is encoded as that of a device.
    #[must_use]
    pub fn new(site: &str) -> Self {
        Self {
            prefix: format!("{PREFIX}.{}.", encode(site)),
        }
    }

    /// The subject of a device.
    #[must_use]
    pub fn device(&self, device: &str) -> Arc<str> {
        format!("{}dev.{}", self.prefix, encode(device)).into()
    }

    /// The subject of the events that a daemon records, by its instance.
    #[must_use]
    pub fn events(&self, instance: &str) -> Arc<str> {
        format!("{}events.{}", self.prefix, encode(instance)).into()
    }

    /// The wildcard of all subjects of the site.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}>", self.prefix)
    }

    /// The wildcard of the subjects of all devices.
    #[must_use]
    pub fn devices(&self) -> String {
        format!("{}dev.*", self.prefix)
    }

    /// The wildcard of the subjects of events.
    #[must_use]
    pub fn all_events(&self) -> String {
        format!("{}events.*", self.prefix)
    }

    /// Whether a subject is that of the events of a daemon of this site.
    #[must_use]
    pub fn is_events(&self, subject: &str) -> bool {
        subject.starts_with(&self.prefix) && writer_of(subject).is_some()
    }

    /// The device of a subject; `None` if it is not the subject of a device of this site.
    #[must_use]
    pub fn device_of(&self, subject: &str) -> Option<String> {
        let token = subject.strip_prefix(&self.prefix)?.strip_prefix("dev.")?;
        decode(token)
    }
}

/// The instance of the recording whose events have a subject, whatever its site.
pub(crate) fn writer_of(subject: &str) -> Option<String> {
    let (_, rest) = subject
        .strip_prefix(PREFIX)?
        .strip_prefix('.')?
        .split_once('.')?;
    decode(rest.strip_prefix("events.")?)
}

/// Encodes a name as one token. An empty name is `=`, since a token must not be empty.
///
/// # Examples
/// ```
/// use blocksd_forward::subject::{decode, encode};
///
/// assert_eq!(encode("a b*"), "a=20b=2A");
/// assert_eq!(decode("a=20b=2A").as_deref(), Some("a b*"));
/// ```
#[must_use]
pub fn encode(name: &str) -> String {
    if name.is_empty() {
        return "=".to_owned();
    }
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            token.push(byte.into());
        } else {
            // Writing to a string does not fail.
            let _ = write!(token, "={byte:02X}");
        }
    }
    token
}

/// Decodes a token. `None` if [`encode`] does not make it.
#[must_use]
pub fn decode(token: &str) -> Option<String> {
    let mut name = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'=', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let byte = digit(high)? << 4 | digit(low)?;
                name.push(u8::try_from(byte).ok()?);
                after
            }
            _ => {
                name.push(*first);
                after
            }
        };
    }
    let name = match token {
        "=" => String::new(),
        _ => String::from_utf8(name).ok()?,
    };
    (encode(&name) == token).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_is_that_of_one_name(name in any::<String>(), other in any::<String>()) {
            let token = encode(&name);
            prop_assert_eq!(decode(&token), Some(name.clone()));
            prop_assert!(!token.is_empty());
            prop_assert!(token.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_=".contains(&it)));
            prop_assert_eq!(encode(&other) == token, other == name);
        }

        #[test]
        fn other_tokens_are_refused(token in "[A-Za-z0-9=._-]{0,12}") {
            if let Some(name) = decode(&token) {
                prop_assert_eq!(encode(&name), token);
            }
        }
    }
}
