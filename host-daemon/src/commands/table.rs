//! Tables of text for people: [`write_table`], and the [`time`]s in them.

use std::io::{self, Write};
use std::ops::Range;

use jiff::Timestamp;

/// Writes columns with their names, as wide as their longest cell; those in `numbers` are aligned to the right.
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
            *width = cell.len().max(*width);
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
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
