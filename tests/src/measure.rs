//! For measurements in rounds: [`Spread`] sums up the figures of all rounds, [`settle`] keeps the rounds apart.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// The median of some figures, and their extremes.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The least figure.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The greatest figure.
    pub most: f64,
}

impl Spread {
    /// Sums up these figures. All are NaN if there is none.
    pub fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        Self {
            least: at(0),
            median: f64::midpoint(at(last / 2), at(last.div_ceil(2))),
            most: at(last),
        }
    }
}

/// With the precision of the formatter: `1.2 (1.1–1.3)`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(2);
        let Self {
            least,
            median,
            most,
        } = self;
        write!(
            f,
            "{median:.precision$} ({least:.precision$}–{most:.precision$})"
        )
    }
}

/// Syncs the disk, so that the writes of one run do not slow down the next.
pub fn settle(folder: &Path) {
    // If this fails, the spread of the results shows it.
    let _ = Command::new("sync").arg("-f").arg(folder).status();
}
