//! Durations and sizes as text, such as `1h30m` and `64MiB`. Start with [`duration`] and [`size`].
//!
//! The crates for this use other units: `humantime` reads `M` as a month and refuses bare numbers, and `parse-size` and
//! `bytesize` accept many more spellings.

use std::time::Duration;

/// One second, the unit of a bare number in most options.
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// One millisecond.
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

/// Reads a duration: numbers with the units `d`, `h`, `m`, `s` or `ms`, from the largest unit to the smallest. `bare`
/// is the unit of a bare number.
#[must_use]
pub(super) fn duration(text: &str, bare: Duration) -> Option<Duration> {
    let mut rest = text.trim();
    if let Ok(number) = rest.parse() {
        return times(number, bare.as_secs_f64());
    }
    let (mut sum, mut last) = (None, f64::INFINITY);
    while !rest.is_empty() {
        let (number, after) = split(rest, |letter| letter.is_ascii_digit() || letter == '.');
        let (unit, after) = split(after, |letter| letter.is_ascii_alphabetic());
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        if last <= seconds {
            return None;
        }
        let part = times(number.parse().ok()?, seconds)?;
        sum = Some(sum.map_or(Some(part), |sum: Duration| sum.checked_add(part))?);
        (rest, last) = (after, seconds);
    }
    sum
}

/// Reads a number of bytes, with the unit `k`, `M`, `G` (powers of 1000), `KiB`, `MiB` or `GiB`, or without a unit.
#[must_use]
pub(super) fn size(text: &str) -> Option<u64> {
    /// Above this, an `f64` cannot represent every integer.
    const FRACTIONS_MAX: f64 = (1_u64 << 53) as f64;
    let (number, unit) = split(text.trim(), |letter| !letter.is_ascii_alphabetic());
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(factor);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    let is_whole =
        !unit.is_empty() && bytes.fract() == 0.0 && (0.0..FRACTIONS_MAX).contains(&bytes);
    is_whole.then_some(bytes as u64)
}

fn times(number: f64, seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number * seconds).ok()
}

/// Splits after the leading characters for which `is_in` holds, and removes the spaces in between.
fn split(text: &str, is_in: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|letter| !is_in(letter)).unwrap_or(text.len());
    let (head, rest) = text.split_at(end);
    (head.trim_end(), rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_without_units_uses_the_unit_of_its_option() {
        for (text, ms) in [
            ("500ms", 500),
            ("90", 90_000),
            ("1.5", 1_500),
            ("1e2", 100_000),
            ("1.5s", 1_500),
            ("2 m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("1h30m", 5_400_000),
            ("1 h 2 m", 3_720_000),
            ("1m 1ms", 60_001),
            ("0", 0),
            ("0ms", 0),
        ] {
            let wanted = Duration::from_millis(ms);
            assert_eq!(duration(text, SECOND), Some(wanted), "{text}");
        }
        assert_eq!(duration("90", MILLISECOND), Some(Duration::from_millis(90)));
        for text in [
            "", "s", "-1s", "-1", "1w", "1M", "1e400", "inf", "nan", "1m1h", "1h1h", "1h30",
            "1.5.s", "off",
        ] {
            assert_eq!(duration(text, SECOND), None, "{text}");
        }
    }

    #[test]
    fn a_size_without_a_unit_is_in_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("2k", 2_000),
            ("2M", 2_000_000),
            ("2 G", 2_000_000_000),
            ("2KiB", 2 << 10),
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "1.5",
            "1K",
            "1kb",
            "1MB",
            "1e3",
            "0.3k2",
            "1.0001k",
            "18446744073709551615k",
            "nan",
            "nank",
            "99999999999.5GiB",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
