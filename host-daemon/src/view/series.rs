//! The values of one field over time, in buckets of three widths: [`Series`].
//!
//! A ring of single values would hold seconds of a fast device and hours of a slow one. Buckets of time hold the same span
//! of both, and keep what a plot needs: the least and the greatest value, and when each occurred.

use std::collections::VecDeque;

/// Widths of the buckets in milliseconds, and how long the buckets of each width are kept.
const LEVELS: [(i64, i64); 3] = [(100, 120_000), (1_000, 660_000), (10_000, 3_660_000)];

/// The longest time that a plot shows, in seconds.
pub const LONGEST_S: u32 = 3600;

/// The values of a field.
#[derive(Debug)]
pub(super) struct Series {
    levels: [VecDeque<Bucket>; LEVELS.len()],
}

/// A value and its time in milliseconds since 1970.
pub(super) type SeriesPoint = (i64, f64);

/// The values in one step of time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Number of the step since 1970.
    step: i64,
    min: SeriesPoint,
    max: SeriesPoint,
}

/// The columns of a plot.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlotSpan {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    /// Width of a column.
    pub(super) step_ms: i64,
    level: usize,
}

impl PlotSpan {
    /// The last `last_s` seconds before `to_ms` in at most `columns` columns. A column is not narrower than a bucket.
    pub(super) fn new(to_ms: i64, last_s: u32, columns: u32) -> Self {
        let last_ms = i64::from(last_s.clamp(1, LONGEST_S)) * 1000;
        let is_kept = |(_, kept_ms): &(i64, i64)| last_ms <= *kept_ms;
        let level = LEVELS.iter().position(is_kept);
        let level = level.unwrap_or(LEVELS.len() - 1);
        let width_ms = LEVELS[level].0;
        let wanted_ms = last_ms / i64::from(columns.max(1)) + width_ms - 1;
        Self {
            from_ms: to_ms - last_ms,
            to_ms,
            step_ms: width_ms * wanted_ms.div_euclid(width_ms).max(1),
            level,
        }
    }
}

impl Series {
    /// Memory of a series with all its buckets, in bytes.
    pub(super) const COST: usize = {
        let mut buckets = 0;
        let mut level = 0;
        while level < LEVELS.len() {
            buckets += LEVELS[level].1 / LEVELS[level].0;
            level += 1;
        }
        buckets as usize * size_of::<Bucket>()
    };

    pub(super) fn new() -> Self {
        Self {
            levels: Default::default(),
        }
    }

    /// Adds a value. Values may come in any order; one that is older than what is kept is left out.
    pub(super) fn add(&mut self, time_ms: i64, value: f64) {
        for ((width_ms, kept_ms), buckets) in LEVELS.into_iter().zip(&mut self.levels) {
            let step = time_ms.div_euclid(width_ms);
            let place = match buckets.back() {
                Some(last) if step == last.step => buckets.len() - 1,
                Some(last) if last.step < step => buckets.len(),
                None => 0,
                Some(last) if step + kept_ms / width_ms < last.step => continue,
                Some(_) => buckets.partition_point(|bucket| bucket.step < step),
            };
            match buckets.get_mut(place) {
                Some(bucket) if bucket.step == step => bucket.add((time_ms, value)),
                _ => buckets.insert(place, Bucket::of(step, (time_ms, value))),
            }
            let oldest = buckets.back().map_or(step, |last| last.step) - kept_ms / width_ms;
            while buckets.pop_front_if(|first| first.step < oldest).is_some() {}
        }
    }

    /// The least and the greatest value of each column, in the order of their times. Where no value came for more than
    /// `gap_ms`, a point without a value stands between.
    pub(super) fn points(&self, span: &PlotSpan, gap_ms: i64) -> Vec<(i64, Option<f64>)> {
        let mut points: Vec<(i64, Option<f64>)> = Vec::new();
        let mut put = |(time, value): SeriesPoint| {
            if let Some((before, Some(_))) = points.last()
                && gap_ms.max(2 * span.step_ms) < time - before
            {
                let between = before.midpoint(time);
                points.push((between, None));
            }
            points.push((time, Some(value)));
        };
        let mut column: Option<Bucket> = None;
        let buckets = self.levels[span.level].iter();
        let is_shown = |bucket: &&Bucket| {
            span.from_ms <= bucket.max.0.max(bucket.min.0)
                && bucket.min.0.min(bucket.max.0) <= span.to_ms
        };
        for bucket in buckets.filter(is_shown) {
            let step = bucket.min.0.div_euclid(span.step_ms);
            match &mut column {
                Some(column) if column.step == step => {
                    column.add(bucket.min);
                    column.add(bucket.max);
                }
                other => {
                    if let Some(full) = other.replace(Bucket { step, ..*bucket }) {
                        full.put(&mut put);
                    }
                }
            }
        }
        if let Some(last) = column {
            last.put(&mut put);
        }
        points
    }
}

impl Bucket {
    const fn of(step: i64, point: SeriesPoint) -> Self {
        Self {
            step,
            min: point,
            max: point,
        }
    }

    fn add(&mut self, point: SeriesPoint) {
        if point.1 < self.min.1 {
            self.min = point;
        }
        if self.max.1 < point.1 {
            self.max = point;
        }
    }

    /// Passes the least and the greatest value on, the earlier one first.
    fn put(&self, mut each: impl FnMut(SeriesPoint)) {
        let (first, second) = match self.min.0 <= self.max.0 {
            true => (self.min, self.max),
            false => (self.max, self.min),
        };
        each(first);
        if first != second {
            each(second);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    #[test]
    fn the_least_and_the_greatest_value_have_their_own_times() {
        let mut series = Series::new();
        for (at, value) in [(10, 5.0), (20, 9.0), (30, 1.0), (40, 5.0), (250, 7.0)] {
            series.add(NOW_MS + at, value);
        }
        let span = PlotSpan::new(NOW_MS + 1000, 60, 600);
        assert_eq!(span.step_ms, 100);
        let points = series.points(&span, 10_000);
        let want = [(20, 9.0), (30, 1.0), (250, 7.0)];
        assert_eq!(points, want.map(|(at, value)| (NOW_MS + at, Some(value))));
    }

    #[test]
    fn memory_is_bounded_at_any_rate() {
        let mut series = Series::new();
        for at in 0..50_000 {
            series.add(NOW_MS + at * 97, (at % 100) as f64);
        }
        let buckets: usize = series.levels.iter().map(VecDeque::len).sum();
        let cost = buckets * size_of::<Bucket>();
        assert!(
            cost <= Series::COST + LEVELS.len() * size_of::<Bucket>(),
            "{cost}"
        );
        assert!(cost * 10 > Series::COST * 9, "{cost}");
    }

    #[test]
    fn values_from_before_are_added_in_their_place() {
        let mut forwards = Series::new();
        let mut backwards = Series::new();
        let points: Vec<_> = (0..5000)
            .map(|at| (NOW_MS + at * 331, f64::from((at * 7919 % 1000) as i32)))
            .collect();
        for (time, value) in &points {
            forwards.add(*time, *value);
        }
        for (time, value) in points.iter().rev() {
            backwards.add(*time, *value);
        }
        let end = points.last().unwrap().0;
        for last_s in [60, 600, 3600] {
            let span = PlotSpan::new(end, last_s, 800);
            let [one, other] = [&forwards, &backwards].map(|it| it.points(&span, 10_000));
            assert_eq!(one.len(), other.len());
            assert!(1 < one.len());
            let values = |points: &[(i64, Option<f64>)]| -> Vec<_> {
                let mut values: Vec<_> = points.iter().filter_map(|it| it.1).collect();
                values.sort_by(f64::total_cmp);
                values
            };
            assert_eq!(values(&one), values(&other));
        }
    }

    proptest! {
        /// Against all values: those that are kept have their extremes in their columns, and nothing else is shown.
        #[test]
        fn a_plot_agrees_with_all_values(
            values in vec((0_i64..4_000_000, -1000_i32..1000), 1..300),
            later_ms in 0_i64..100_000,
            last_s in 1_u32..=LONGEST_S,
            columns in 10_u32..2000,
            gap_ms in 1_000_i64..600_000,
        ) {
            let mut series = Series::new();
            let all: Vec<_> = values.iter().map(|(at, value)| (NOW_MS + at, f64::from(*value))).collect();
            for (time, value) in &all {
                series.add(*time, *value);
            }
            let newest = all.iter().map(|it| it.0).max().unwrap_or_default();
            let span = PlotSpan::new(newest + later_ms, last_s, columns);
            let points = series.points(&span, gap_ms);
            prop_assert!(points.is_sorted_by_key(|it| it.0));
            prop_assert!(points.first().is_none_or(|it| it.1.is_some()));
            prop_assert!(points.last().is_none_or(|it| it.1.is_some()));
            let shown: Vec<_> = points.iter().filter_map(|(time, value)| Some((*time, (*value)?))).collect();
            prop_assert!(shown.iter().all(|point| all.contains(point)));
            let (width_ms, kept_ms) = LEVELS[span.level];
            prop_assert!(i64::from(last_s) * 1000 <= kept_ms && span.step_ms % width_ms == 0);
            // A bucket at the edge may be shown in part.
            let is_inside = |time: i64| span.from_ms <= time && time <= span.to_ms && newest - kept_ms < time;
            let extremes = |points: &[(i64, f64)], column: i64| {
                let own = points.iter().filter(|it| it.0.div_euclid(span.step_ms) == column);
                own.fold((f64::MAX, f64::MIN), |(least, most), it| (least.min(it.1), most.max(it.1)))
            };
            for (time, _) in &all {
                let column = time.div_euclid(span.step_ms);
                let whole = [column * span.step_ms - width_ms, (column + 1) * span.step_ms + width_ms];
                if whole.into_iter().all(is_inside) {
                    prop_assert_eq!(extremes(&shown, column), extremes(&all, column));
                }
            }
            // A gap is where values are far from each other, and there only.
            let wide_ms = gap_ms.max(2 * span.step_ms);
            for three in points.windows(3) {
                if let [(before, Some(_)), (between, None), (after, Some(_))] = three {
                    prop_assert!(wide_ms < after - before && before < between && between < after);
                }
            }
            for two in points.windows(2) {
                if let [(before, Some(_)), (after, Some(_))] = two {
                    prop_assert!(after - before <= wide_ms);
                }
            }
        }
    }

    #[test]
    fn a_pause_is_a_gap() {
        let mut series = Series::new();
        for at in [0, 1000, 2000, 30_000] {
            series.add(NOW_MS + at, 1.0);
        }
        let span = PlotSpan::new(NOW_MS + 40_000, 60, 600);
        let points = series.points(&span, 5000);
        let gaps: Vec<_> = points.iter().filter(|it| it.1.is_none()).collect();
        assert_eq!(gaps, [&(NOW_MS + 16_000, None)]);
        assert_eq!(points.len(), 5);
    }

    #[test]
    fn columns_are_as_many_as_asked_for_at_most() {
        let mut series = Series::new();
        for at in 0..3600 {
            series.add(NOW_MS + at * 1000, (at % 60) as f64);
        }
        for (last_s, columns) in [(60, 50), (600, 100), (3600, 2000), (3600, 90)] {
            let span = PlotSpan::new(NOW_MS + 3_600_000, last_s, columns);
            let points = series.points(&span, 60_000);
            let most = 2 * (columns as usize + 1);
            assert!(points.len() <= most, "{last_s} {columns}: {}", points.len());
            assert!(points.is_sorted_by_key(|it| it.0));
        }
    }
}
