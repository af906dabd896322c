//! The newest messages, faults and events, as `/api/v1/tail`, `/api/v1/faults` and `/api/v1/events` show them: a [`Tail`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::recorded::time::Time;

/// The newest entries that a request has selected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// When they were read.
    pub time: Time,
    /// The `after` of the next request.
    pub next: u64,
    /// Entries after the `after` of the request that are no longer kept; `None` if that is unknown.
    pub lost: Option<u64>,
    /// Messages of the selected devices that were received while somebody watched, and are not shown.
    pub not_shown: u64,
    /// The entries, the oldest first: events with their `id`.
    pub entries: Vec<Map<String, Value>>,
}
