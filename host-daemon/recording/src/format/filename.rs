//! Names of recording files: their number, time of creation, nonce and state. Start with [`sealed`].
//!
//! Only names of exactly these forms belong to a recording: `NUMBER-TIME.mcap` and `NUMBER-TIME-NONCE.mcap`, and the
//! same with a further suffix.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::format::nonce::FileNonce;

/// The lock file of a folder.
pub const LOCK: &str = "blocksd.lock";
/// Extension of a sealed file.
pub const SEALED: &str = "mcap";
/// Suffix of a file that is being written, or was when the process ended.
pub const PART: &str = "part";
/// Suffix of a file that a repair is writing.
pub const NEW: &str = "new";
/// Suffix of the original of a repaired file that lost more than an unfinished record.
pub const LOST: &str = "lost";

/// Numbers from this one on belong to no recording. A log counts on from numbers in the lower half, so that a file with a
/// large number does not make it run out of numbers.
pub(crate) const NUMBER_END: u64 = 1_000_000_000_000;

const DIGITS: usize = 8;
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// The state of a file, according to the suffix of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suffix {
    /// The file is sealed.
    Sealed,
    /// The file is being written, or was when the process ended.
    Part,
    /// A repair is writing the file, or was when the process ended.
    New,
    /// The original of a file that could not be repaired without loss.
    Lost,
}

/// Returns the name of a sealed file, such as `00000042-20261123T082501Z-5f3a9c0d12b47e88.mcap`: its number, when it
/// was begun, and its nonce. No device knows the nonce while the file is written. A time before 1970 or after 9999 is
/// replaced by the nearest one in this range, because names are ordered by their number.
#[must_use]
pub fn sealed(number: u64, begun: SystemTime, nonce: FileNonce) -> String {
    let begun = begun.max(UNIX_EPOCH);
    let begun = Timestamp::try_from(begun).unwrap_or(Timestamp::MAX);
    let begun = begun.strftime(TIME);
    format!("{number:0DIGITS$}-{begun}-{nonce}.{SEALED}")
}

/// Returns the name of the file while it is written.
#[must_use]
pub fn part(sealed: &str) -> String {
    format!("{sealed}.{PART}")
}

/// Returns the number of a file, or `None` if the file does not belong to a recording.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    parse(name).map(|(number, _, _)| number)
}

/// Returns the state of a file, or `None` if the file does not belong to a recording.
#[must_use]
pub fn suffix(name: &str) -> Option<Suffix> {
    parse(name).map(|(_, _, suffix)| suffix)
}

/// Returns the nonce in the name of a file, if there is one.
#[must_use]
pub fn nonce(name: &str) -> Option<FileNonce> {
    parse(name).and_then(|(_, nonce, _)| nonce)
}

/// Returns whether a file with this name is sealed.
#[must_use]
pub fn is_sealed(name: &str) -> bool {
    suffix(name) == Some(Suffix::Sealed)
}

/// Removes a suffix from the name: `a.mcap.part` becomes `a.mcap`. Returns `None` if the result is not a sealed name.
#[must_use]
pub fn sealed_name(path: &Path, ending: &str) -> Option<PathBuf> {
    let is_so = path.extension() == Some(OsStr::new(ending));
    let sealed = path.with_extension("");
    (is_so && sealed.extension() == Some(OsStr::new(SEALED))).then_some(sealed)
}

/// Returns the folder that holds a file: `.` for a bare name. Unlike [`Path::parent`], the result can always be opened.
///
/// ```
/// use std::path::Path;
/// use blocksd_recording::parent;
///
/// assert_eq!(parent(Path::new("a/b")), Path::new("a"));
/// assert_eq!(parent(Path::new("b")), Path::new("."));
/// assert_eq!(parent(Path::new("/")), Path::new("/"));
/// ```
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None if path.has_root() => path,
        None => Path::new("."),
    }
}

fn parse(name: &str) -> Option<(u64, Option<FileNonce>, Suffix)> {
    let endings = [
        (PART, Suffix::Part),
        (NEW, Suffix::New),
        (LOST, Suffix::Lost),
    ];
    let ending = |&(ending, suffix)| Some((without(name, ending)?, suffix));
    let (name, suffix) = endings
        .iter()
        .find_map(ending)
        .unwrap_or((name, Suffix::Sealed));
    let mut fields = without(name, SEALED)?.split('-');
    let (number, begun, nonce) = (fields.next()?, fields.next()?, fields.next());
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (day, second) = begun.strip_suffix('Z')?.split_once('T')?;
    let is_time = (day.len(), second.len()) == (8, 6) && is_number(day) && is_number(second);
    let is_padded = number.len() == DIGITS || (DIGITS < number.len() && !number.starts_with('0'));
    if !is_padded || !is_number(number) || !is_time || fields.next().is_some() {
        return None;
    }
    // Only a time that exists is one that this library has written.
    DateTime::strptime(TIME, begun).ok()?;
    let nonce = match nonce {
        Some(digits) => Some(FileNonce::of_digits(digits)?),
        None => None,
    };
    let number = number.parse().ok().filter(|it| *it < NUMBER_END)?;
    Some((number, nonce, suffix))
}

fn without<'a>(name: &'a str, extension: &str) -> Option<&'a str> {
    name.strip_suffix(extension)?.strip_suffix('.')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_has_number_nonce_and_state() {
        let begun: Timestamp = "2026-11-23T08:25:01.5Z".parse().unwrap();
        let begun = SystemTime::from(begun);
        let own = FileNonce::of_digits("5f3a9c0d12b47e88").unwrap();
        let name = sealed(42, begun, own);
        assert_eq!(name, "00000042-20261123T082501Z-5f3a9c0d12b47e88.mcap");
        assert_eq!((number(&name), nonce(&name)), (Some(42), Some(own)));
        assert_eq!(suffix(&name), Some(Suffix::Sealed));
        for (ending, of) in [
            (PART, Suffix::Part),
            (NEW, Suffix::New),
            (LOST, Suffix::Lost),
        ] {
            let name = format!("{name}.{ending}");
            assert_eq!((number(&name), nonce(&name)), (Some(42), Some(own)));
            assert_eq!(suffix(&name), Some(of));
            assert!(!is_sealed(&name));
        }
        let large = sealed(1_234_567_890, begun, own);
        assert_eq!(number(&large), Some(1_234_567_890));
        // Names of earlier versions have no nonce.
        let old = "00000042-20261123T082501Z.mcap";
        assert_eq!((number(old), nonce(old)), (Some(42), None));
    }

    #[test]
    fn a_clock_beyond_the_calendar_gives_a_name_of_the_same_form() {
        let year = Duration::from_secs(31_556_952);
        let own = FileNonce::new();
        let middle = UNIX_EPOCH + year / 2;
        for (begun, text) in [
            (UNIX_EPOCH - year, "19700101T000000Z"),
            (middle + year * 627, "2597"),
            (middle + year * 8028, "9998"),
            (middle + year * 10_030, "99991230T"),
            (middle + year * 200_000, "99991230T"),
        ] {
            let name = sealed(7, begun, own);
            assert!(name.starts_with(&format!("00000007-{text}")), "{name}");
            assert_eq!((number(&name), nonce(&name)), (Some(7), Some(own)));
            assert!(is_sealed(&name));
        }
    }

    #[test]
    fn names_of_other_forms_do_not_belong_to_a_recording() {
        for other in [
            LOCK,
            "a.mcap",
            "flight.mcap.part",
            "00000001-x.mcap",
            "00000001-backup.mcap",
            "1-20261123T082501Z.mcap",
            "+0000001-20261123T082501Z.mcap",
            "00000001-20261123T082501.mcap",
            "00000001-20261123T082501Z.mcap.bak",
            "000000001-20261123T082501Z.mcap",
            "1000000000000-20261123T082501Z.mcap",
            "9223372036854775806-20261123T082501Z.mcap",
            "00000001-20261323T082501Z.mcap",
            "00000001-20261123T082561Z.mcap",
            "00000001-20261123T082501Z.mcap.part.part",
            "00000001-20261123T082501Z-5f3a9c0d12b47e8.mcap",
            "00000001-20261123T082501Z-5F3A9C0D12B47E88.mcap",
            "00000001-20261123T082501Z-5f3a9c0d12b47e88-1.mcap",
        ] {
            assert_eq!((number(other), suffix(other)), (None, None), "{other}");
        }
    }
}
