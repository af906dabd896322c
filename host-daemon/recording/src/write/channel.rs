//! The channels of a log: [`ChannelSpec`] describes one, [`Channel`] refers to one of the current file.

use std::collections::BTreeMap;

use crate::format::private::SESSION_KEY;

/// The description of a channel.
///
/// # Examples
/// ```
/// use blocksd_recording::{ChannelSpec, SchemaSpec};
///
/// let temperature = ChannelSpec {
///     topic: "/temperature".to_owned(),
///     encoding: "json".to_owned(),
///     schema: Some(SchemaSpec {
///         name: "Temperature".to_owned(),
///         encoding: "jsonschema".to_owned(),
///         data: br#"{"type":"object"}"#.to_vec(),
///     }),
///     is_counted: true,
///     ..ChannelSpec::default()
/// };
/// # let _ = temperature;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The topic. Several channels may have the same.
    pub topic: String,
    /// Encoding of the messages, such as `json`. May be empty.
    pub encoding: String,
    /// Schema of the messages.
    pub schema: Option<SchemaSpec>,
    /// Additional metadata. The messages of a channel with the key `session` are numbered: if a sync fails, those that were
    /// not durable are [set aside](crate::Recovered::unconfirmed) by a repair, because their sender sends them again.
    pub metadata: BTreeMap<String, String>,
    /// Whether [`Stats`](crate::Stats) counts its messages.
    pub is_counted: bool,
}

impl ChannelSpec {
    /// Whether its messages have the numbers of a session.
    pub(super) fn is_numbered(&self) -> bool {
        self.metadata.contains_key(SESSION_KEY)
    }
}

/// The description of a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaSpec {
    /// Name of the schema.
    pub name: String,
    /// Language of the schema, such as `jsonschema`.
    pub encoding: String,
    /// The schema itself.
    pub data: Vec<u8>,
}

/// A channel of the current file. The default value belongs to no file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    pub(super) file: u64,
    pub(super) id: u16,
    pub(super) is_counted: bool,
}
