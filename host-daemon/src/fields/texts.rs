//! The cells of one row of CSV: [`RowTexts`].

use std::ops::Range;

/// The texts of a row, one after the other. They take the memory of the longest row, not that of the longest text of each
/// column.
#[derive(Debug, Default)]
pub(crate) struct RowTexts {
    texts: String,
    /// The part of each cell.
    cells: Vec<Range<usize>>,
}

impl RowTexts {
    /// Begins a row of this many empty cells.
    pub(crate) fn begin(&mut self, len: usize) {
        self.texts.clear();
        self.cells.clear();
        self.cells.resize(len, 0..0);
    }

    /// Sets a cell. Returns `false` if its number is beyond the last one.
    pub(crate) fn set(&mut self, cell: usize, text: &str) -> bool {
        let Some(cell) = self.cells.get_mut(cell) else {
            return false;
        };
        let start = self.texts.len();
        self.texts.push_str(text);
        *cell = start..self.texts.len();
        true
    }

    /// The texts of the cells.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let text = |cell: &Range<usize>| self.texts.get(cell.clone()).unwrap_or_default();
        self.cells.iter().map(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_the_longest_row() {
        const LEN: usize = 1 << 20;
        let (mut row, text) = (RowTexts::default(), "x".repeat(LEN));
        for cell in 0..300 {
            row.begin(300);
            assert!(row.set(299, "last") && row.set(cell, &text) && !row.set(300, "none"));
            let lens: Vec<_> = row.iter().map(str::len).collect();
            assert_eq!((lens.len(), lens[cell]), (300, LEN));
        }
        assert!(row.texts.capacity() <= 2 * LEN + 16);
    }
}
