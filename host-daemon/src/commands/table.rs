//! Tables of text for people: [`write_table`], and the [`time`]s in them.

use std::io::{self, Write};
use std::ops::Range;

use jiff::Timestamp;

/// Writes columns as wide as their longest cell; those in `numbers` are aligned to the right.
pub(super) fn write_table<const N: usize>(
    out: &mut impl Write,
    rows: &[[String; N]],
    numbers: Range<usize>,
) -> io::Result<()> {
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let widths = rows.iter().filter_map(|row| row.get(column));
            let width = widths.map(String::len).max().unwrap_or_default();
            line += &match numbers.contains(&column) {
                true => format!("{cell:>width$}  "),
                false => format!("{cell:<width$}  "),
            };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A time in RFC 3339, never rounded: to the millisecond or, if that is not exact, to the nanosecond.
pub(super) fn time(nanoseconds: u64) -> String {
    let time = Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    match nanoseconds.is_multiple_of(1_000_000) {
        true => format!("{time:.3}"),
        false => format!("{time:.9}"),
    }
}
