//! The channels of a log: [`ChannelSpec`] describes one, [`Channel`] names one of the present file.

use std::collections::BTreeMap;

/// The description of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The topic. Two channels may share one.
    pub topic: String,
    /// The encoding of its messages, such as `json`; empty if there is none.
    pub encoding: String,
    /// The schema of its messages.
    pub schema: Option<SchemaSpec>,
    /// Further facts, by a key.
    pub metadata: BTreeMap<String, String>,
    /// Whether [`Stats`](crate::Stats) count its messages.
    pub is_counted: bool,
}

/// The description of a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaSpec {
    /// Its name.
    pub name: String,
    /// The language of the schema, such as `jsonschema`.
    pub encoding: String,
    /// The schema itself.
    pub data: Vec<u8>,
}

/// A channel of the file that is being written; by default, of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    pub(super) file: u64,
    pub(super) id: u16,
    pub(super) is_counted: bool,
}
