//! Limits the memory that readers take for the schemas and channels of a file: [`DefinitionLengths`].

use std::collections::HashMap;

use mcap::records::op;

use crate::format::chunk::DEFINITIONS_MAX;
use crate::format::record::Raw;

/// The lengths of the schemas and channels of a file.
#[derive(Debug, Default)]
pub(super) struct DefinitionLengths {
    /// The longest of each number, by opcode and number: a definition may be repeated.
    longest: HashMap<(u8, [u8; 2]), u64>,
    total: u64,
}

impl DefinitionLengths {
    /// Adds the schemas and channels of a chunk. Returns whether all of the file are within the limit.
    pub(super) fn add(&mut self, mut records: &[u8]) -> bool {
        while let Some(raw) = Raw::take(&mut records) {
            if let (op::SCHEMA | op::CHANNEL, Some(id)) = (raw.opcode, raw.body.first_chunk()) {
                let longest = self.longest.entry((raw.opcode, *id)).or_default();
                let more = (raw.body.len() as u64).saturating_sub(*longest);
                *longest += more;
                self.total += more;
            }
        }
        self.total <= DEFINITIONS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::encode::record;

    #[test]
    fn repeated_definitions_count_once() {
        let mut lengths = DefinitionLengths::default();
        let mut definition = vec![0; 40 << 20];
        assert!(lengths.add(&record(op::CHANNEL, &definition)));
        assert!(lengths.add(&record(op::CHANNEL, &definition)));
        definition[0] = 1;
        assert!(!lengths.add(&record(op::CHANNEL, &definition)));
    }
}
