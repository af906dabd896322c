//! Lists in headers: their items are separated by commas, and an empty text is an empty list.

use std::fmt;

/// Writes items.
pub(crate) fn write<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    item: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, it) in items.iter().enumerate() {
        if index != 0 {
            f.write_str(",")?;
        }
        item(f, it)?;
    }
    Ok(())
}

/// Reads items. `None` if one cannot be read.
pub(crate) fn read<T>(text: &str, item: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    match text {
        "" => Some(Vec::new()),
        _ => text.split(',').map(item).collect(),
    }
}
