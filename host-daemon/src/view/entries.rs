//! The newest messages, faults or events: a ring with numbers, [`Entries`].

use crate::view::entry::ViewEntry;
use crate::view::filter::EntryFilter;
use std::collections::VecDeque;

/// The newest entries, within a bound of memory. Numbers increase by one.
#[derive(Debug)]
pub(super) struct Entries {
    ring: VecDeque<ViewEntry>,
    /// Number of the first entry in the ring.
    first: u64,
    /// Number of the first entry ever.
    start: u64,
    cost: usize,
    max_len: usize,
    max_bytes: usize,
}

/// Entries that a filter has selected.
#[derive(Debug, Default)]
pub(super) struct SelectedEntries {
    /// Entries and their numbers, the oldest first.
    pub(super) entries: Vec<(u64, ViewEntry)>,
    /// The `after` of the next request.
    pub(super) next: u64,
    /// Entries after `after` that are no longer kept; `None` if `after` is not of this ring.
    pub(super) lost: Option<u64>,
    /// There are more entries after these.
    pub(super) has_more: bool,
}

/// The most that an answer has: entries, and bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerBounds {
    pub(super) limit: usize,
    pub(super) max_bytes: usize,
    /// Payloads are shown in hexadecimal, too.
    pub(super) has_hex: bool,
}

impl Entries {
    /// A ring of at most this many entries and bytes, whose first entry has number `start`.
    pub(super) const fn new(start: u64, max_len: usize, max_bytes: usize) -> Self {
        Self {
            ring: VecDeque::new(),
            first: start,
            start,
            cost: 0,
            max_len,
            max_bytes,
        }
    }

    /// Bytes of the entries.
    pub(super) const fn cost(&self) -> usize {
        self.cost
    }

    /// Adds an entry, and drops the oldest ones that have no room.
    pub(super) fn push(&mut self, entry: ViewEntry) {
        self.cost += entry.cost();
        self.ring.push_back(entry);
        while self.max_len < self.ring.len() || self.max_bytes < self.cost {
            let Some(old) = self.ring.pop_front() else {
                return;
            };
            self.cost -= old.cost();
            self.first += 1;
        }
    }

    /// Number of the next entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// The entries, the newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &ViewEntry> {
        self.ring.iter().rev()
    }

    /// The first entries after number `after`; without it, the newest ones. At least one, if there is one and the limit is
    /// not 0.
    pub(super) fn select(
        &self,
        filter: &mut EntryFilter,
        after: Option<u64>,
        bounds: AnswerBounds,
    ) -> SelectedEntries {
        let mut room = AnswerRoom { bounds, used: 0 };
        let mut has_room = |entry: &ViewEntry| room.take(entry);
        let Some(after) = after else {
            let numbers = (self.first..self.end()).rev();
            let newest = numbers.zip(self.newest());
            let newest = newest
                .filter(|(_, entry)| filter.selects(entry))
                .take_while(|(_, entry)| has_room(entry));
            let mut entries: Vec<_> = newest.map(|(id, entry)| (id, entry.clone())).collect();
            entries.reverse();
            return SelectedEntries {
                entries,
                next: self.end() - 1,
                lost: Some(0),
                has_more: false,
            };
        };
        // One of an earlier start of the daemon, or of another daemon.
        let is_known = self.start <= after + 1 && after < self.end();
        let from = if is_known { after + 1 } else { self.start };
        let lost = self.first.saturating_sub(from);
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut entries = Vec::new();
        let (mut next, mut has_more) = (self.end() - 1, false);
        for (id, entry) in (self.first..).zip(&self.ring).skip(skip) {
            if !filter.selects(entry) {
                continue;
            }
            if !has_room(entry) {
                has_more = true;
                next = entries.last().map_or(after, |(id, _)| *id);
                break;
            }
            entries.push((id, entry.clone()));
        }
        SelectedEntries {
            entries,
            next,
            lost: is_known.then_some(lost),
            has_more,
        }
    }
}

/// The room of an answer, and the bytes of it that are used.
struct AnswerRoom {
    bounds: AnswerBounds,
    used: usize,
}

impl AnswerRoom {
    /// Takes the room of an entry; `false` if the room is too small. The first entry always has room.
    fn take(&mut self, entry: &ViewEntry) -> bool {
        let len = entry.written_len(self.bounds.has_hex);
        if self.bounds.limit == 0 || self.used != 0 && self.bounds.max_bytes < self.used + len {
            return false;
        }
        self.bounds.limit -= 1;
        self.used += len;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(device: &str, text: &str) -> ViewEntry {
        ViewEntry {
            device: device.into(),
            level: None,
            line: format!(r#"{{"event":"block","text":"{text}"}}"#)
                .into_bytes()
                .into(),
            content_at: 0,
            payload: text.as_bytes().into(),
            decoding: crate::payload::Decoding::Raw,
        }
    }

    fn most(limit: usize) -> AnswerBounds {
        AnswerBounds {
            limit,
            max_bytes: usize::MAX,
            has_hex: false,
        }
    }

    fn ids(selected: &SelectedEntries) -> Vec<u64> {
        selected.entries.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn a_cursor_gives_each_entry_once_and_says_what_is_lost() {
        let mut ring = Entries::new(1000, 5, usize::MAX);
        let mut all = EntryFilter::default();
        let empty = ring.select(&mut all, None, most(10));
        assert_eq!(
            (ids(&empty), empty.next, empty.lost),
            (vec![], 999, Some(0))
        );
        for number in 0..3 {
            ring.push(entry("a", &number.to_string()));
        }
        let first = ring.select(&mut all, Some(empty.next), most(2));
        assert_eq!(
            (ids(&first), first.next, first.lost),
            (vec![1000, 1001], 1001, Some(0))
        );
        let second = ring.select(&mut all, Some(first.next), most(2));
        assert_eq!((ids(&second), second.next), (vec![1002], 1002));
        for number in 3..10 {
            ring.push(entry("a", &number.to_string()));
        }
        let late = ring.select(&mut all, Some(second.next), most(10));
        let want = (1005..1010).collect::<Vec<_>>();
        assert_eq!((ids(&late), late.next, late.lost), (want, 1009, Some(2)));
        let newest = ring.select(&mut all, None, most(2));
        assert_eq!((ids(&newest), newest.next), (vec![1008, 1009], 1009));
        // Cursors of other daemons.
        for after in [0, 12, 1010, u64::MAX - 1] {
            let other = ring.select(&mut all, Some(after), most(10));
            assert_eq!((other.entries.len(), other.lost), (5, None), "{after}");
        }
    }

    #[test]
    fn a_filter_that_matches_little_moves_the_cursor() {
        let mut ring = Entries::new(1, 100, usize::MAX);
        for number in 0..50 {
            ring.push(entry(if number % 10 == 0 { "b" } else { "a" }, "x"));
        }
        let mut filter = EntryFilter::default();
        filter.devices.push("b");
        let selected = ring.select(&mut filter, Some(0), most(3));
        assert_eq!((ids(&selected), selected.next), (vec![1, 11, 21], 21));
        let rest = ring.select(&mut filter, Some(21), most(3));
        assert_eq!((ids(&rest), rest.next), (vec![31, 41], 50));
    }

    #[test]
    fn the_bytes_of_an_answer_are_bounded_and_the_cursor_stops_there() {
        let mut ring = Entries::new(1, 100, usize::MAX);
        for _ in 0..10 {
            ring.push(entry("a", &"x".repeat(1000)));
        }
        let mut all = EntryFilter::default();
        let bounds = |max_bytes, has_hex| AnswerBounds {
            limit: 100,
            max_bytes,
            has_hex,
        };
        let part = ring.select(&mut all, Some(0), bounds(3500, false));
        assert_eq!((ids(&part), part.next), (vec![1, 2, 3], 3));
        assert!(part.has_more);
        let rest = ring.select(&mut all, Some(part.next), bounds(10_000, false));
        assert_eq!((rest.entries.len(), rest.next), (7, 10));
        assert!(!rest.has_more);
        let newest = ring.select(&mut all, None, bounds(3500, false));
        assert_eq!((ids(&newest), newest.next), (vec![8, 9, 10], 10));
        // Hexadecimal digits count, and one entry is always there.
        let hex = ring.select(&mut all, Some(0), bounds(3500, true));
        assert_eq!((ids(&hex), hex.next), (vec![1], 1));
        let one = ring.select(&mut all, Some(4), bounds(10, false));
        assert_eq!((ids(&one), one.next), (vec![5], 5));
    }

    #[test]
    fn memory_is_bounded() {
        let mut ring = Entries::new(1, usize::MAX, 10_000);
        for _ in 0..100 {
            ring.push(entry("a", &"x".repeat(1000)));
        }
        assert!(ring.cost() <= 10_000 && 2 < ring.ring.len());
        ring.push(entry("a", &"x".repeat(20_000)));
        assert_eq!((ring.cost(), ring.ring.len(), ring.end()), (0, 0, 102));
    }
}
