//! What all connections of an engine share: an [`EngineContext`].

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::connection::reply::Spools;
use crate::counters::Counters;
use crate::permit::Connections;
use crate::pool::Pool;
use crate::sink::fanout::Fanout;

/// What all connections of an engine share.
#[derive(Debug)]
pub struct EngineContext {
    /// Read buffers.
    pub pool: Arc<Pool>,
    /// Totals.
    pub counters: Arc<Counters>,
    /// The sinks. A full queue of one holds the devices back, unless it may drop events.
    pub fanout: Fanout,
    /// The open connections, and how many there may be.
    pub connections: Arc<Connections>,
    /// Messages that are kept to be echoed.
    pub spools: Arc<Spools>,
    /// Cancelled when the engine is to stop.
    pub stop: CancellationToken,
}
