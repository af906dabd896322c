//! State shared by all connections of an engine: an [`EngineContext`].

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::connection::reply::Spools;
use crate::counters::Counters;
use crate::device::DeviceRegistry;
use crate::permit::Connections;
use crate::pool::Pool;
use crate::session::Sessions;
use crate::sink::fanout::Fanout;

/// State shared by all connections of an engine.
#[derive(Debug)]
pub struct EngineContext {
    /// The devices, and what each has sent.
    pub devices: Arc<DeviceRegistry>,
    /// The read buffers.
    pub pool: Arc<Pool>,
    /// The counters.
    pub counters: Arc<Counters>,
    /// The queues of the sinks. A full queue of a sink with backpressure stops the reads.
    pub fanout: Fanout,
    /// The open connections, with their limits.
    pub connections: Arc<Connections>,
    /// Messages that are stored for echo replies.
    pub spools: Arc<Spools>,
    /// The sessions; `None` if nothing is stored, so that nothing can be acknowledged.
    pub sessions: Option<Arc<Sessions>>,
    /// Cancelled to stop the engine.
    pub stop: CancellationToken,
}
