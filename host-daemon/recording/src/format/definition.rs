//! The memory that readers take for the schemas and channels of a file: [`cost`], and its limits.

use mcap::records::op;

use crate::format::chunk::plain_max;
use crate::format::record::Raw;

/// Greatest cost of all schemas and channels of a file. The writer begins a new file at half of it.
pub(crate) const COST_MAX: u64 = 64 << 20;
/// Cost of a pair of texts in the metadata of a channel, besides its bytes.
const PAIR_COST: u64 = 64;

/// Returns the greatest cost of all schemas and channels in a file of this length. A short file cannot have many.
#[must_use]
pub(crate) const fn cost_max(file_len: u64) -> u64 {
    let max = plain_max(file_len);
    if max < COST_MAX { max } else { COST_MAX }
}

/// Returns the cost of a schema or a channel, about its bytes of memory.
#[must_use]
pub(crate) fn cost(raw: &Raw<'_>) -> u64 {
    let pairs = match raw.opcode {
        op::CHANNEL => raw.pairs() as u64,
        _ => 0,
    };
    raw.body.len() as u64 + pairs * PAIR_COST
}
