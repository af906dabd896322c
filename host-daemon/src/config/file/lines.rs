//! The lines of a config file: [`LineEnds`].

/// Where the lines of a text end.
pub(super) struct LineEnds(Vec<usize>);

impl LineEnds {
    /// Those of a text.
    pub(super) fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The number of the line with this byte, from 1.
    pub(super) fn number(&self, at: usize) -> usize {
        1 + self.0.partition_point(|end| *end < at)
    }
}
