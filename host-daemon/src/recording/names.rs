//! The names of a recording's files: their order, and what state they are in.

use jiff::Timestamp;

pub use super::repair::{LOCK, NEW, PART, SEALED};

const DIGITS: usize = 8;

/// The name of a sealed file, such as `00000042-20261123T082501Z.mcap`: its number, and when it was begun.
#[must_use]
pub fn sealed(number: u64, begun: Timestamp) -> String {
    let begun = begun.strftime("%Y%m%dT%H%M%SZ");
    format!("{number:0DIGITS$}-{begun}.{SEALED}")
}

/// The name of the same file while it is written.
#[must_use]
pub fn part(sealed: &str) -> String {
    format!("{sealed}.{PART}")
}

/// The number of a file, sealed or not; none if it is not one of a recording.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    let name = without(name, PART).unwrap_or(name);
    let (number, _) = without(name, SEALED)?.split_once('-')?;
    let is_number = DIGITS <= number.len() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_number)
}

/// Whether a file with this name is sealed.
#[must_use]
pub fn is_sealed(name: &str) -> bool {
    number(name).is_some() && without(name, PART).is_none()
}

fn without<'a>(name: &'a str, extension: &str) -> Option<&'a str> {
    name.strip_suffix(extension)?.strip_suffix('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_number_and_state() {
        let begun = "2026-11-23T08:25:01.5Z".parse().unwrap();
        let name = sealed(42, begun);
        assert_eq!(name, "00000042-20261123T082501Z.mcap");
        assert_eq!((number(&name), is_sealed(&name)), (Some(42), true));
        let part = part(&name);
        assert_eq!((number(&part), is_sealed(&part)), (Some(42), false));
        assert_eq!(number(&sealed(1_234_567_890, begun)), Some(1_234_567_890));
        for other in [
            LOCK,
            "a.mcap",
            "00000001-x.mcap.new",
            "1-x.mcap",
            "+0000001-x.mcap",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
