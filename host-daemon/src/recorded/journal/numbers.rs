//! A set of numbers of messages, kept as ranges: a [`NumberSet`].

use std::collections::BTreeMap;

/// A set of numbers. Its memory grows with the number of holes, not of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumberSet {
    /// The end of each range by its begin. Ranges neither overlap nor touch.
    ranges: BTreeMap<u64, u64>,
}

impl NumberSet {
    /// Adds the numbers from `from` to `to`, without `to`. Calls `known` with each range of them that was there before.
    pub(crate) fn insert(&mut self, from: u64, to: u64, mut known: impl FnMut(u64, u64)) {
        if to <= from {
            return;
        }
        let (mut begin, mut end) = (from, to);
        // Ranges that touch the new one become a part of it.
        while let Some((&first, &last)) = self.ranges.range(..=end).next_back()
            && from <= last
        {
            if first.max(from) < last.min(to) {
                known(first.max(from), last.min(to));
            }
            (begin, end) = (begin.min(first), end.max(last));
            self.ranges.remove(&first);
            if first < from {
                break;
            }
        }
        self.ranges.insert(begin, end);
    }

    /// Calls `known` with each range of the numbers from `from` to `to`, without `to`, that is in the set.
    pub(crate) fn common(&self, from: u64, to: u64, mut known: impl FnMut(u64, u64)) {
        let before = self.ranges.range(..from).next_back();
        let from_here = self.ranges.range(from..to.max(from));
        for (&first, &last) in before.into_iter().chain(from_here) {
            if first.max(from) < last.min(to) {
                known(first.max(from), last.min(to));
            }
        }
    }

    /// Adds the numbers of another set.
    pub(crate) fn add(&mut self, other: &Self) {
        for (from, to) in other.ranges() {
            self.insert(from, to, |_, _| {});
        }
    }

    /// Removes a number range.
    pub(crate) fn remove(&mut self, from: u64, to: u64) {
        if to <= from {
            return;
        }
        while let Some((&first, &last)) = self.ranges.range(..to).next_back()
            && from < last
        {
            self.ranges.remove(&first);
            if to < last {
                self.ranges.insert(to, last);
            }
            if first < from {
                self.ranges.insert(first, from);
            }
        }
    }

    /// Returns the set without the numbers of others.
    pub(crate) fn without<'a>(&self, others: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut rest = self.clone();
        for other in others {
            for (from, to) in other.ranges() {
                rest.remove(from, to);
            }
        }
        rest
    }

    /// Returns the ranges in their order. The end of a range is not in it.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(from, to)| (*from, *to))
    }

    /// Returns the count of the ranges.
    pub(crate) fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// Returns the count of the numbers.
    pub(crate) fn count(&self) -> u64 {
        self.ranges().map(|(from, to)| to - from).sum()
    }

    /// Returns whether the set has no number.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn numbers(set: &NumberSet) -> BTreeSet<u64> {
        set.ranges().flat_map(|(from, to)| from..to).collect()
    }

    proptest! {
        #[test]
        fn a_set_is_that_of_single_numbers(
            steps in proptest::collection::vec((any::<bool>(), 0..40_u64, 0..9_u64), 0..40),
        ) {
            let (mut set, mut want) = (NumberSet::default(), BTreeSet::new());
            for (is_removed, from, len) in steps {
                let range = from..from + len;
                if is_removed {
                    set.remove(range.start, range.end);
                    want.retain(|it| !range.contains(it));
                } else {
                    let mut common = BTreeSet::new();
                    set.common(range.start, range.end, |from, to| common.extend(from..to));
                    let mut known = BTreeSet::new();
                    set.insert(range.start, range.end, |from, to| known.extend(from..to));
                    let before: BTreeSet<_> = range.clone().filter(|it| want.contains(it)).collect();
                    prop_assert_eq!((&known, &common), (&before, &before));
                    want.extend(range);
                }
                prop_assert_eq!(&numbers(&set), &want);
                prop_assert_eq!(set.count(), want.len() as u64);
                let ends: Vec<_> = set.ranges().collect();
                prop_assert!(ends.windows(2).all(|it| it[0].1 < it[1].0));
            }
        }
    }

    #[test]
    fn a_difference_has_the_numbers_of_the_first_set_alone() {
        let of = |ranges: &[(u64, u64)]| {
            let mut set = NumberSet::default();
            ranges
                .iter()
                .for_each(|(from, to)| set.insert(*from, *to, |_, _| {}));
            set
        };
        let rest = of(&[(0, 10), (20, 30)]).without([&of(&[(5, 25)]), &of(&[(28, 40)])]);
        assert_eq!(rest, of(&[(0, 5), (25, 28)]));
        let mut sum = rest;
        sum.add(&of(&[(5, 25)]));
        assert_eq!((sum.range_count(), sum.count()), (1, 28));
    }
}
