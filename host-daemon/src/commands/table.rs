//! Tables of text for people: [`write_table`], and the [`time`]s in them.

use std::fmt::Display;
use std::io::{self, Write};
use std::ops::Range;

use jiff::Timestamp;

use crate::escape::printable;

/// Characters of a name from elsewhere that a table shows.
const NAME_MAX: usize = 128;

/// Writes columns with their names, as wide as their longest cell; those in `numbers` are aligned to the right. Cells of
/// names from elsewhere are [cut](name).
pub(super) fn write_table<const N: usize>(
    out: &mut impl Write,
    names: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    numbers: Range<usize>,
) -> io::Result<()> {
    let names = std::iter::once(names.map(str::to_owned));
    let rows: Vec<_> = names.chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Formatting takes widths of up to 16 bits.
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) = match numbers.contains(&column) {
                true => (&*padding, ""),
                false => ("", &*padding),
            };
            line.extend([before, cell, after, "  "]);
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A name from a recording or a daemon, escaped, and cut if it is very long.
pub(super) fn name(name: impl Display) -> String {
    let name = printable(name);
    match name.char_indices().nth(NAME_MAX) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name,
    }
}

/// A time in RFC 3339, to the millisecond, for a table that is read by people.
pub(super) fn time_ms(nanoseconds: u64) -> String {
    let rest = nanoseconds % 1_000_000;
    time(nanoseconds - rest)
}

/// A time in RFC 3339, never rounded: to the millisecond or, if that is not exact, to the nanosecond.
pub(super) fn time(nanoseconds: u64) -> String {
    let time = Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    match nanoseconds.is_multiple_of(1_000_000) {
        true => format!("{time:.3}"),
        false => format!("{time:.9}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(name("é\n"), "é\\n");
        let long = "é".repeat(NAME_MAX);
        assert_eq!(name(&long), long);
        assert_eq!(name("é".repeat(70_000)), format!("{long}…"));
    }

    #[test]
    fn people_read_milliseconds() {
        assert_eq!(time(1_500_000_001), "1970-01-01T00:00:01.500000001Z");
        assert_eq!(time_ms(1_500_999_999), "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn a_table_has_any_width() {
        let long = "x".repeat(70_000);
        let rows = [
            ["é".to_owned(), "1".to_owned()],
            [long.clone(), "22".to_owned()],
        ];
        let mut out = Vec::new();
        write_table(&mut out, ["NAME", "N"], rows, 1..2).expect("a table");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<_> = text.lines().collect();
        let spaces = |count| " ".repeat(count);
        assert_eq!(lines[0], format!("NAME{}   N", spaces(69_996)));
        assert_eq!(lines[1], format!("é{}   1", spaces(69_999)));
        assert_eq!(lines[2], format!("{long}  22"));
    }
}
