//! Numbers, ages and lines of text as cells of a screen: [`count`], [`rate`], [`size`], [`age`], [`spark`], [`cut`].

use std::time::{Duration, SystemTime};

use ratatui::text::Span;

/// A bar for each eighth of a cell.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A number with commas: `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number a second.
pub(super) fn rate(per_s: f64) -> String {
    match per_s {
        0.0 => "0".to_owned(),
        small if small < 99.95 => format!("{small:.1}"),
        large => count(large.round() as u64),
    }
}

/// A number of bytes: `1.2 MiB`.
pub(super) fn size(bytes: f64) -> String {
    let mut bytes = bytes;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if bytes < 1023.5 {
            return match unit {
                "B" => format!("{bytes:.0} B"),
                _ if bytes < 9.95 => format!("{bytes:.1} {unit}"),
                _ => format!("{bytes:.0} {unit}"),
            };
        }
        bytes /= 1024.0;
    }
    format!("{bytes:.0} PiB")
}

/// A duration in at most four characters, such as `1.2s` or `3h`.
pub(super) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// How long ago something was.
pub(super) fn age(now: SystemTime, then: SystemTime) -> String {
    short(now.duration_since(then).unwrap_or_default())
}

/// A number as an axis or a table shows it: six significant digits at most.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.3e}");
    }
    let digits = 5 - size.log10().floor().clamp(0.0, 5.0) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The newest values as bars in this number of cells, each the highest of its share.
pub(super) fn spark(values: &[u64], width: usize) -> String {
    let highest = shares(values, width);
    let max = highest.iter().copied().max().unwrap_or_default().max(1);
    let bar = |value: &u64| match value {
        0 => ' ',
        value => {
            let eighths = (*value as f64 / max as f64 * 8.0).ceil() as usize;
            BARS.get(eighths.saturating_sub(1)).copied().unwrap_or('█')
        }
    };
    let bars: String = highest.iter().map(bar).collect();
    format!("{bars:>width$}")
}

/// At most this number of values, each the highest of its share.
pub(super) fn shares(values: &[u64], most: usize) -> Vec<u64> {
    let share = values.len().div_ceil(most.max(1)).max(1);
    // The newest share is whole.
    let shares = values.rchunks(share).rev();
    shares
        .map(|it| it.iter().copied().max().unwrap_or_default())
        .collect()
}

/// Cells that a text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The beginning of a text that has room in this number of cells, with `…` at its end if it is cut.
pub(super) fn cut(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 1);
    for character in text.chars() {
        used += width(character.encode_utf8(&mut [0; 4]));
        if cells < used {
            break;
        }
        kept.push(character);
    }
    if cells != 0 {
        kept.push('…');
    }
    kept
}

/// A text in this number of cells, at their left.
pub(super) fn left(text: &str, cells: usize) -> String {
    let text = cut(text, cells);
    let spaces = cells.saturating_sub(width(&text));
    text + &" ".repeat(spaces)
}

/// A text in this number of cells, at their right.
pub(super) fn right(text: &str, cells: usize) -> String {
    let text = cut(text, cells);
    let spaces = cells.saturating_sub(width(&text));
    " ".repeat(spaces) + &text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.0, 9.96, 99.9, 8214.2].map(rate),
            ["0", "10.0", "99.9", "8,214"]
        );
        assert_eq!(
            [0.0, 1024.0, 10_137.0, 1_258_291.0, 2.3e18].map(size),
            ["0 B", "1.0 KiB", "9.9 KiB", "1.2 MiB", "2043 PiB"]
        );
        let shown = [0.0, 24.1, -0.5, 1407.0, 123_456.789, 1e-9, 12e9, 0.001].map(number);
        assert_eq!(
            shown,
            [
                "0", "24.1", "-0.5", "1407", "123457", "1.000e-9", "1.200e10", "0.001"
            ]
        );
        let ages = [1200, 45_000, 720_000, 7_200_000, 700_000_000].map(Duration::from_millis);
        assert_eq!(ages.map(short), ["1.2s", "45s", "12m", "2h", "8d"]);
    }

    #[test]
    fn texts_fit_their_cells() {
        assert_eq!(
            (cut("boiler", 6), cut("boiler", 5)),
            ("boiler".to_owned(), "boil…".to_owned())
        );
        assert_eq!(
            (cut("温度計", 5), cut("x", 0)),
            ("温度…".to_owned(), String::new())
        );
        assert_eq!(
            (left("a", 3), right("a", 3)),
            ("a  ".to_owned(), "  a".to_owned())
        );
        assert_eq!(spark(&[0, 1, 4, 8], 4), " ▁▄█");
        assert_eq!(spark(&[9, 0, 1, 4, 8], 3), "█▁█");
        assert_eq!(spark(&[], 3), "   ");
        for values in 0..130 {
            for cells in 1..30 {
                assert_eq!(width(&spark(&vec![1; values], cells)), cells);
            }
        }
    }
}
