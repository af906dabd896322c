//! What waits in lanes, and the memory that it takes: [`Waiting`].

use std::collections::BTreeMap;

use crate::batch::{BATCH_COST, Batch, ITEM_COST};
use crate::lane::Done;
use crate::place::Place;

/// Largest number of bytes that batches take which wait in lanes.
const QUEUED_MAX: usize = 64 << 20;

/// The batches that are not stored.
#[derive(Debug)]
pub(super) struct Waiting {
    /// By their order: where they begin, and when their first message was received.
    batches: BTreeMap<u64, (Place, u64)>,
    /// The sum of their lengths, in bytes.
    bytes: usize,
    /// The number of their messages.
    items: usize,
    /// Bytes that were read, and are not kept.
    left: usize,
    /// [`QUEUED_MAX`]; less in tests.
    pub(super) max: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            batches: BTreeMap::new(),
            bytes: 0,
            items: 0,
            left: 0,
            max: QUEUED_MAX,
        }
    }
}

impl Waiting {
    /// A batch waits.
    pub(super) fn add(&mut self, batch: &Batch) {
        self.bytes += batch.len();
        self.items += batch.items();
        self.batches
            .insert(batch.order, (batch.begin(), batch.time()));
    }

    /// Batches, or parts of them, do not wait any more.
    pub(super) fn remove(&mut self, done: &Done) {
        self.bytes -= done.bytes;
        self.items -= done.items;
        self.left += done.left;
        for order in &done.orders {
            self.batches.remove(order);
        }
        #[cfg(test)]
        assert!(!self.batches.is_empty() || (self.bytes, self.items) == (0, 0));
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether no more can be kept.
    pub(super) fn is_full(&self) -> bool {
        self.max <= self.memory()
    }

    /// Whether half of what can be kept waits.
    pub(super) fn is_half_full(&self) -> bool {
        self.max / 2 <= self.memory()
    }

    /// What the batches take: short messages take more than their bytes.
    fn memory(&self) -> usize {
        self.bytes + self.items * ITEM_COST + self.batches.len() * BATCH_COST
    }

    /// The bytes of the messages that were read, and are not stored.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes + self.left
    }

    /// Where the first batch begins, and when its first message was received.
    pub(super) fn first(&self) -> Option<(Place, u64)> {
        let first = self.batches.first_key_value();
        first.map(|(_, first)| *first)
    }
}
