//! Points in time and spans as people write them: [`time`] and [`Last`].
//!
//! A time without a zone is in the zone of this machine, as in the text output.

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, Zoned};

/// Digits of the shortest number that is a time since 1970 without `@`.
const UNIX_DIGITS_MIN: usize = 9;

/// The last messages of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Those received within this time before the newest one.
    Within(SignedDuration),
    /// This many, including pieces.
    Count(u64),
}

/// Reads a time: a date, a time of day or both, a word, a duration before now, RFC 3339, or a number since 1970.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text.trim(), &Zoned::now()).ok_or_else(|| {
        if is_number(text) {
            return format!("`{text}` has no unit; write {text}m for {text} minutes before now");
        }
        format!(
            "`{text}` is not a time; write a date (2026-01-31), a time of today (12:00), both (\"2026-01-31 12:00\"), \
             yesterday, now, a duration before now (10m), or as in RFC 3339 (2026-01-31T12:00:00Z)"
        )
    })
}

/// Reads the value of `--last`.
pub(super) fn last(text: &str) -> Result<Last, String> {
    let parsed = match text.parse() {
        Ok(count) => (count != 0).then_some(Last::Count(count)),
        Err(_) => duration(text)
            .filter(SignedDuration::is_positive)
            .map(Last::Within),
    };
    parsed.ok_or_else(|| {
        format!("`{text}` is not a duration, such as 10m, or a number of messages, such as 100")
    })
}

/// Whether a text is a time.
pub(super) fn is_time(text: &str) -> bool {
    time_at(text, &Zoned::now()).is_some()
}

fn time_at(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Some(number) = text.strip_prefix('@') {
        return since_1970(number);
    }
    // Eight digits are a date.
    let digits = text.strip_suffix("ns").unwrap_or(text);
    if is_number(digits) && UNIX_DIGITS_MIN <= digits.len() {
        return since_1970(text);
    }
    before_or_after(text, now.timestamp()).or_else(|| of_calendar(text, now))
}

/// A duration before now: `10m`, `10m ago`, `-10m`; or after it: `+10m`.
fn before_or_after(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(after) = text.strip_prefix('+') {
        return now.checked_add(duration(after)?).ok();
    }
    let before = text.strip_prefix('-').unwrap_or(text);
    let before = before.strip_suffix("ago").unwrap_or(before);
    now.checked_sub(duration(before.trim_end())?).ok()
}

/// A duration without a sign. A day has 24 hours, as in all options.
fn duration(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    // `00:13:31` is a time of day.
    let is_other = text.starts_with(['-', '+']) || text.ends_with("ago") || text.contains(':');
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (!is_other).then_some(duration)
}

/// Words, dates and times of day, each with or without a zone.
fn of_calendar(text: &str, now: &Zoned) -> Option<Timestamp> {
    if text.eq_ignore_ascii_case("now") {
        return Some(now.timestamp());
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some(zoned.timestamp());
    }
    let (text, zone) = split_zone(text).unwrap_or_else(|| (text, now.time_zone().clone()));
    let today = now.with_time_zone(zone.clone()).date();
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let civil = match (day(first, today), rest.trim()) {
        (Some(day), "") => day.to_datetime(Time::midnight()),
        (Some(day), rest) => day.to_datetime(time_of_day(rest)?),
        (None, _) => match time_of_day(text) {
            Some(time) => today.to_datetime(time),
            None => text.parse::<DateTime>().ok()?,
        },
    };
    Some(zone.to_zoned(civil).ok()?.timestamp())
}

fn day(word: &str, today: Date) -> Option<Date> {
    match &*word.to_ascii_lowercase() {
        "today" => Some(today),
        "yesterday" => today.yesterday().ok(),
        "tomorrow" => today.tomorrow().ok(),
        // With a time, it is not a day only.
        word if word.contains(['t', ':']) => None,
        word => word.parse().ok(),
    }
}

/// A time such as `4:57`, `04:57:30` or `04:57:30.123`.
fn time_of_day(text: &str) -> Option<Time> {
    let (hour, _) = text.split_once(':')?;
    let is_hour = is_number(hour) && hour.len() <= 2;
    let padded = format!(
        "{text:0>width$}",
        width = text.len() + 2 - hour.len().min(2)
    );
    is_hour.then(|| padded.parse().ok()).flatten()
}

/// Splits a zone from the end: `Z`, `UTC`, `+01:00` or `Europe/Berlin`.
fn split_zone(text: &str) -> Option<(&str, TimeZone)> {
    let (before, word) = match text.rsplit_once(' ') {
        Some(split) => split,
        // After a time of day, the zone may follow at once. A date contains `-` itself.
        None => {
            let at = text
                .find(['Z', 'z', '+', '-'])
                .filter(|_| text.contains(':'))?;
            text.split_at(at)
        }
    };
    let is_utc = ["z", "utc", "gmt"].contains(&&*word.to_ascii_lowercase());
    let zone = match is_utc {
        true => TimeZone::UTC,
        false => DateTimeParser::new().parse_time_zone(word).ok()?,
    };
    Some((before.trim_end(), zone))
}

/// A number since 1970: with a unit, or in the unit that its length suggests.
fn since_1970(text: &str) -> Option<Timestamp> {
    let letters = text.find(|letter: char| letter.is_ascii_alphabetic());
    let (number, unit) = text.split_at(letters.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !is_number(whole) || !is_number(fraction) || 9 < fraction.len() {
        return None;
    }
    let digits = if fraction == "0" { whole.len() } else { 0 };
    let factor: i128 = match (unit, digits) {
        ("s", _) | ("", ..=12) => 1_000_000_000,
        ("ms", _) | ("", 13..=14) => 1_000_000,
        ("us", _) | ("", 15..=17) => 1_000,
        ("ns", _) | ("", _) => 1,
        _ => return None,
    };
    let whole: i128 = whole.parse().ok()?;
    let part: i128 = fraction.parse().ok()?;
    let part = part * factor / 10_i128.pow(fraction.len() as u32);
    Timestamp::from_nanosecond(whole.checked_mul(factor)? + part).ok()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time that a text means at half past three of 28 November 2026 in Berlin.
    fn read(text: &str) -> String {
        let now: Zoned = "2026-11-28T03:30:00+01:00[Europe/Berlin]".parse().unwrap();
        time_at(text, &now).map_or_else(|| "none".to_owned(), |time| time.to_string())
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, wanted) in [
            ("2026-11-27", "2026-11-26T23:00:00Z"),
            ("@253402207200", "9999-12-30T22:00:00Z"),
            ("20261127", "2026-11-26T23:00:00Z"),
            ("2026-11-27 10:30", "2026-11-27T09:30:00Z"),
            ("2026-11-27T10:30", "2026-11-27T09:30:00Z"),
            ("2026-11-27 4:57", "2026-11-27T03:57:00Z"),
            ("2026-11-27 10:30:15.123", "2026-11-27T09:30:15.123Z"),
            ("2026-11-27T10:30:15.5Z", "2026-11-27T10:30:15.5Z"),
            ("2026-11-27 10:30Z", "2026-11-27T10:30:00Z"),
            ("2026-11-27 10:30 UTC", "2026-11-27T10:30:00Z"),
            ("2026-11-27 UTC", "2026-11-27T00:00:00Z"),
            ("2026-11-27T10:30:00-05:00", "2026-11-27T15:30:00Z"),
            ("2026-11-27 10:30 -05:00", "2026-11-27T15:30:00Z"),
            ("2026-11-27 10:30 America/New_York", "2026-11-27T15:30:00Z"),
            (
                "2026-11-27T10:30-05:00[America/New_York]",
                "2026-11-27T15:30:00Z",
            ),
            // In summer, the zone has another offset.
            ("2026-07-01 12:00", "2026-07-01T10:00:00Z"),
            ("04:57", "2026-11-28T03:57:00Z"),
            ("4:57", "2026-11-28T03:57:00Z"),
            ("00:13:31", "2026-11-27T23:13:31Z"),
            ("00:13:31.25Z", "2026-11-28T00:13:31.25Z"),
            ("04:57+05:00", "2026-11-27T23:57:00Z"),
            ("now", "2026-11-28T02:30:00Z"),
            ("today", "2026-11-27T23:00:00Z"),
            ("Yesterday", "2026-11-26T23:00:00Z"),
            ("yesterday 10:30", "2026-11-27T09:30:00Z"),
            ("today UTC", "2026-11-28T00:00:00Z"),
            ("tomorrow", "2026-11-28T23:00:00Z"),
            ("-1d", "2026-11-27T02:30:00Z"),
            ("1d", "2026-11-27T02:30:00Z"),
            ("-10m", "2026-11-28T02:20:00Z"),
            ("10m ago", "2026-11-28T02:20:00Z"),
            ("10 minutes ago", "2026-11-28T02:20:00Z"),
            ("1h30m", "2026-11-28T01:00:00Z"),
            ("-1h 30m", "2026-11-28T01:00:00Z"),
            ("500ms", "2026-11-28T02:29:59.5Z"),
            ("1w", "2026-11-21T02:30:00Z"),
            ("+10m", "2026-11-28T02:40:00Z"),
            ("@1767225600", "2026-01-01T00:00:00Z"),
            ("@0", "1970-01-01T00:00:00Z"),
            ("@1767225600.25", "2026-01-01T00:00:00.25Z"),
            ("@1767225600250ms", "2026-01-01T00:00:00.25Z"),
            ("1767225600", "2026-01-01T00:00:00Z"),
            ("1767225600250", "2026-01-01T00:00:00.25Z"),
            ("1767225600250000", "2026-01-01T00:00:00.25Z"),
            ("1767225600250000000", "2026-01-01T00:00:00.25Z"),
            ("1767225600250000000ns", "2026-01-01T00:00:00.25Z"),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_times() {
        for text in [
            "",
            "-",
            "+",
            "-x",
            "10",
            "1030",
            "12",
            "soon",
            "2026-13-01",
            "2026-11-31",
            "25:00",
            "10:61",
            ":30",
            "2026-11-27 soon",
            "yesterday soon",
            "2026-11-27 10:30 Nowhere/Atall",
            "1mo",
            "1y",
            "--until",
            "@",
            "@x",
            "@-5",
            "@1.",
            "@5min",
            "--10m",
            "+-10m",
            "-10m ago ago",
            "12345678901234567890123",
        ] {
            assert_eq!(read(text), "none", "{text}");
        }
        assert!(time("10").unwrap_err().contains("has no unit"));
        assert!(time("soon").unwrap_err().contains("`soon` is not a time"));
    }

    #[test]
    fn the_last_messages_are_a_duration_or_a_number() {
        assert_eq!(last("10m"), Ok(Last::Within(SignedDuration::from_mins(10))));
        assert_eq!(last("1d"), Ok(Last::Within(SignedDuration::from_hours(24))));
        assert_eq!(last("100"), Ok(Last::Count(100)));
        for text in ["0", "0s", "-10m", "-1", "x", "", "10m ago", "1.5", "1mo"] {
            assert!(last(text).is_err(), "{text}");
        }
    }
}
