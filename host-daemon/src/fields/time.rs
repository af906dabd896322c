//! Times from the fields of messages: [`of_field`].

use jiff::Timestamp;

use crate::cli::{TimeField, TimeUnit};
use crate::fields::columns::{Leaf, RESERVED, flatten};

/// The last time, in the year 2262: Parquet has no later one, and a later one is more likely a wrong unit.
const MAX_NS: u64 = i64::MAX.unsigned_abs();

/// The time in a field of a JSON object, in nanoseconds since 1970.
pub(crate) fn of_field(object: &[u8], field: &TimeField) -> Option<u64> {
    let mut time = None;
    // The name of a time is not a long one.
    let _ = flatten(object, &RESERVED, |name, leaf| {
        if name == field.field {
            time = of_leaf(leaf, field.unit);
        }
    });
    time
}

/// The time in a value, in nanoseconds since 1970.
pub(crate) fn of_leaf(leaf: Leaf<'_>, unit: TimeUnit) -> Option<u64> {
    let time = match leaf {
        Leaf::Plain(digits) => of_number(digits, unit),
        Leaf::Text(text) => of_number(text, unit).or_else(|| {
            let time: Timestamp = text.parse().ok()?;
            u64::try_from(time.as_nanosecond()).ok()
        }),
        Leaf::Null => None,
    };
    time.filter(|time| *time <= MAX_NS)
}

/// A decimal number in a unit, rounded down to nanoseconds. Every digit counts.
fn of_number(text: &str, unit: TimeUnit) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = i64::from(exponent) + i64::from(unit.exponent());
    let point = i64::try_from(whole.len()).ok()? + scale;
    // A time has at most 20 digits before the point.
    let significant = digits.trim_start_matches('0');
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let len = usize::try_from(point - zeros).unwrap_or_default();
    if significant.is_empty() || len == 0 {
        return Some(0);
    }
    if 20 < len {
        return None;
    }
    let kept = significant.get(..len).unwrap_or(significant);
    format!("{kept:0<len$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_to_the_last_digit() {
        use TimeUnit::{Microseconds, Milliseconds, Nanoseconds, Seconds};
        for (text, unit, want) in [
            (
                "1700000000.123456789",
                Seconds,
                Some(1_700_000_000_123_456_789),
            ),
            ("1700000000", Seconds, Some(1_700_000_000_000_000_000)),
            (
                "1700000000123",
                Milliseconds,
                Some(1_700_000_000_123_000_000),
            ),
            (
                "1700000000123.5",
                Milliseconds,
                Some(1_700_000_000_123_500_000),
            ),
            (
                "1700000000123456",
                Microseconds,
                Some(1_700_000_000_123_456_000),
            ),
            ("9223372036854775807", Nanoseconds, Some(MAX_NS)),
            ("18446744073709551615", Nanoseconds, Some(u64::MAX)),
            ("18446744073709551616", Nanoseconds, None),
            ("1.7e9", Seconds, Some(1_700_000_000_000_000_000)),
            ("17E+8", Seconds, Some(1_700_000_000_000_000_000)),
            ("1500e-3", Seconds, Some(1_500_000_000)),
            ("0.0000000019", Seconds, Some(1)),
            ("0.25", Nanoseconds, Some(0)),
            ("0", Seconds, Some(0)),
            ("00012.5", Seconds, Some(12_500_000_000)),
            ("-1", Seconds, None),
            ("1e30", Seconds, None),
            ("1e999999999999", Seconds, None),
            ("1e-2000000000", Seconds, Some(0)),
            ("", Seconds, None),
            (".", Seconds, None),
            ("1.2.3", Seconds, None),
            ("true", Seconds, None),
        ] {
            assert_eq!(of_number(text, unit), want, "{text}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_column() {
        let object = br#"{"t":7,"header":{"stamp":["2026-01-01T00:00:00.5Z","12"]},"n":null}"#;
        let time = |text: &str| of_field(object, &text.parse().expect("a field"));
        assert_eq!(time("t"), Some(7_000_000_000));
        assert_eq!(time("t:ms"), Some(7_000_000));
        let of_text = |text| of_leaf(Leaf::Text(text), TimeUnit::Seconds);
        assert_eq!(of_text("2300-01-01T00:00:00Z"), None);
        assert!(of_text("2262-04-11T00:00:00Z").is_some());
        let of_digits = |digits| of_leaf(Leaf::Plain(digits), TimeUnit::Nanoseconds);
        assert_eq!(of_digits("9223372036854775807"), Some(MAX_NS));
        assert_eq!(of_digits("9223372036854775808"), None);
        assert_eq!(time("header.stamp.0"), Some(1_767_225_600_500_000_000));
        assert_eq!(time("header.stamp.1"), Some(12_000_000_000));
        for field in ["n", "header", "other", "header.stamp"] {
            assert_eq!(time(field), None, "{field}");
        }
    }
}
