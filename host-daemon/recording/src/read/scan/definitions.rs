//! Limits the memory that readers take for the schemas and channels of a file: [`DefinitionCosts`].

use std::collections::HashMap;

use mcap::records::op;

use crate::format::definition::cost;
use crate::format::record::Raw;

/// The costs of the schemas and channels of a file.
#[derive(Debug, Default)]
pub(super) struct DefinitionCosts {
    /// The greatest of each number, by opcode and number: a definition may be repeated.
    greatest: HashMap<(u8, [u8; 2]), u64>,
    total: u64,
}

impl DefinitionCosts {
    /// Adds the schemas and channels of a chunk. Returns the cost of all.
    pub(super) fn add(&mut self, mut records: &[u8]) -> u64 {
        while let Some(raw) = Raw::take(&mut records) {
            if let (op::SCHEMA | op::CHANNEL, Some(id)) = (raw.opcode, raw.body.first_chunk()) {
                let greatest = self.greatest.entry((raw.opcode, *id)).or_default();
                let more = cost(&raw).saturating_sub(*greatest);
                *greatest += more;
                self.total += more;
            }
        }
        self.total
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mcap::records::Channel;

    use super::*;
    use crate::format::encode::{channel_record, record};

    #[test]
    fn repeated_definitions_count_once() {
        let mut costs = DefinitionCosts::default();
        assert_eq!(costs.add(&record(op::SCHEMA, &[0; 100])), 100);
        assert_eq!(costs.add(&record(op::SCHEMA, &[0; 100])), 100);
        assert_eq!(costs.add(&record(op::SCHEMA, &[0; 150])), 150);
        assert_eq!(costs.add(&record(op::SCHEMA, &[1; 100])), 250);
    }

    #[test]
    fn each_pair_of_the_metadata_has_a_cost() {
        let cost_of = |pairs: usize| {
            let pair = |n: usize| (format!("{n:08}"), String::new());
            let channel = Channel {
                id: 1,
                schema_id: 0,
                topic: String::new(),
                message_encoding: String::new(),
                metadata: (0..pairs).map(pair).collect::<BTreeMap<_, _>>(),
            };
            DefinitionCosts::default().add(&channel_record(&channel))
        };
        assert_eq!(cost_of(10) - cost_of(0), 10 * (16 + 64));
    }
}
