//! A set of numbers that are mostly consecutive: [`Numbers`].

use std::collections::BTreeMap;

/// A set of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The first number of each range, and the number after its last one.
    ranges: BTreeMap<u64, u64>,
}

impl Numbers {
    /// Adds a number. Returns whether it is new.
    pub fn add(&mut self, number: u64) -> bool {
        if self.has(number) {
            return false;
        }
        self.add_all(number, number + 1);
        true
    }

    /// Adds the numbers from `from` up to, but not including, `to`.
    pub fn add_all(&mut self, mut from: u64, mut to: u64) {
        while let Some((&begin, &end)) = self.ranges.range(..=to).next_back() {
            if end < from {
                break;
            }
            self.ranges.remove(&begin);
            (from, to) = (from.min(begin), to.max(end));
        }
        self.ranges.insert(from, to);
    }

    /// Whether a number is in the set.
    pub fn has(&self, number: u64) -> bool {
        let before = self.ranges.range(..=number).next_back();
        before.is_some_and(|(_, &end)| number < end)
    }

    /// The ranges, in order: the first number of each, and the number after its last one.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(&from, &to)| (from, to))
    }

    /// The number up to which all are in the set.
    pub fn end_of_first(&self) -> u64 {
        self.ranges.get(&0).copied().unwrap_or(0)
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.ranges().map(|(from, to)| to - from).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_numbers_are_new_once() {
        let mut numbers = Numbers::default();
        for number in [5, 3, 4, 9, 0] {
            assert!(numbers.add(number));
            assert!(!numbers.add(number));
        }
        assert!(numbers.ranges().eq([(0, 1), (3, 6), (9, 10)]));
        assert_eq!((numbers.end_of_first(), numbers.len()), (1, 5));
        assert!(numbers.has(5) && !numbers.has(6) && !numbers.has(2));
        numbers.add_all(1, 3);
        numbers.add_all(5, 20);
        assert!(numbers.ranges().eq([(0, 20)]));
        assert!(!numbers.is_empty() && Numbers::default().is_empty());
    }
}
