//! Places in a recording: [`Place`], [`Instance`], and [`Seen`], the last places of other instances.

use std::fmt;
use std::str::FromStr;

use blocksd_recording::FileNonce;

use crate::list;

/// A place in a recording: after a number of messages of a file, and after a number of bytes of the next one.
///
/// Places of one recording are ordered. Its text is `NUMBER.NONCE.MESSAGES`, followed by `+BYTES` if it is within a message.
///
/// # Examples
/// ```
/// use blocksd_forward::place::Place;
///
/// let place: Place = "12.00f3a5c7711d2e4b.3400".parse().expect("a place");
/// assert_eq!((place.number, place.messages, place.bytes), (12, 3400, 0));
/// assert_eq!(place.to_string(), "12.00f3a5c7711d2e4b.3400");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the file.
    pub number: u64,
    /// Nonce of the file.
    pub nonce: FileNonce,
    /// Number of messages of the file before this place, those of all channels.
    pub messages: u64,
    /// Number of bytes of the next message before this place.
    pub bytes: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            nonce,
            messages,
            bytes,
        } = self;
        write!(f, "{number}.{nonce}.{messages}")?;
        match bytes {
            0 => Ok(()),
            bytes => write!(f, "+{bytes}"),
        }
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(());
        let number = part()?.parse().map_err(drop)?;
        let nonce = FileNonce::of_digits(part()?).ok_or(())?;
        let (messages, bytes) = match part()? {
            last if let Some((messages, bytes)) = last.split_once('+') => (messages, bytes),
            last => (last, "0"),
        };
        let place = Self {
            number,
            nonce,
            messages: messages.parse().map_err(drop)?,
            bytes: bytes.parse().map_err(drop)?,
        };
        parts.next().is_none().then_some(place).ok_or(())
    }
}

/// The identity of a recording: 16 hexadecimal digits, random, made once for a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(u64);

impl Instance {
    /// Creates a random one.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }
}

/// A random number.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // Seeded randomly by the system, differs for each call.
    RandomState::new().build_hasher().finish()
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Instance {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let instance = Self(u64::from_str_radix(text, 16).map_err(drop)?);
        // One spelling only.
        (instance.to_string() == text).then_some(instance).ok_or(())
    }
}

/// The last place that each of several instances has forwarded to a subject.
///
/// Each message of a subject carries those of the other instances. So the last message of a subject says for every
/// instance where it must continue, although devices move between daemons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<(Instance, Place)>);

impl Seen {
    /// Largest number of instances. Those that wrote longest ago are forgotten.
    pub const MAX: usize = 16;

    /// The last place of an instance.
    #[must_use]
    pub fn of(&self, instance: Instance) -> Option<Place> {
        let found = self.0.iter().find(|(it, _)| *it == instance);
        found.map(|(_, place)| *place)
    }

    /// Notes the last place of an instance, as the newest.
    pub fn note(&mut self, instance: Instance, place: Place) {
        self.forget(instance);
        self.0.insert(0, (instance, place));
        self.0.truncate(Self::MAX);
    }

    /// Removes an instance.
    pub fn forget(&mut self, instance: Instance) {
        self.0.retain(|(it, _)| *it != instance);
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write(f, &self.0, |f, (instance, place)| {
            write!(f, "{instance}={place}")
        })
    }
}

impl FromStr for Seen {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let entry = |entry: &str| {
            let (instance, place) = entry.split_once('=')?;
            Some((instance.parse().ok()?, place.parse().ok()?))
        };
        let seen = list::read(text, entry).ok_or(())?;
        (seen.len() <= Self::MAX).then_some(Self(seen)).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_and_instances_have_one_spelling() {
        for text in ["1.00f3a5c7711d2e4b.0", "12.ffffffffffffffff.7+262144"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "1",
            "1.0.0",
            "1.00f3a5c7711d2e4b",
            "1.00f3a5c7711d2e4b.0.0",
            "1.00f3a5c7711d2e4b.x",
        ] {
            assert_eq!(text.parse::<Place>(), Err(()), "{text}");
        }
        assert_eq!("F".parse::<Instance>(), Err(()));
    }

    proptest! {
        #[test]
        fn seen_places_are_found_again(entries in prop::collection::vec((0_u64..24, any::<u64>()), 0..40)) {
            let mut seen = Seen::default();
            for (instance, messages) in &entries {
                let place = Place { number: 1, nonce: FileNonce::new(), messages: *messages, bytes: 0 };
                seen.note(Instance(*instance), place);
            }
            let last = |it: u64| entries.iter().rfind(|(instance, _)| *instance == it);
            for (instance, _) in entries.iter().rev().take(Seen::MAX) {
                let found = seen.of(Instance(*instance)).map(|it| it.messages);
                prop_assert_eq!(found, last(*instance).map(|it| it.1));
            }
            prop_assert_eq!(seen.to_string().parse(), Ok(seen));
        }
    }
}
