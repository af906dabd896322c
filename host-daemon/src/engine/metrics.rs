//! The engine's Prometheus collector: messages, connections, memory, queues, suppressed warnings. Register
//! [`EngineMetrics`].
//!
//! No label has a value that a peer can choose, so the number of time series is fixed.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::engine::connection::reply::Spools;
use crate::engine::counters::{Counters, FaultKind};
use crate::engine::event::Reason;
use crate::engine::metric_writer::MetricWriter;
use crate::engine::peer_log;
use crate::engine::permit::Connections;
use crate::engine::pool::Pool;

/// Returns the name and the length of each sink's queue.
pub type QueueReader = Box<dyn Fn() -> Vec<(&'static str, usize)> + Send + Sync>;

/// Reads the engine's counters and gauges at each scrape.
pub struct EngineMetrics {
    /// Messages, connections and faults.
    pub counters: Arc<Counters>,
    /// The read buffers.
    pub pool: Arc<Pool>,
    /// The open connections, and their unfinished messages.
    pub connections: Arc<Connections>,
    /// The echoes that peers have not read yet.
    pub spools: Arc<Spools>,
    /// The queues of the sinks.
    pub queues: QueueReader,
}

impl Collector for EngineMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = MetricWriter::new(encoder);
        self.messages(&mut writer)?;
        self.connections(&mut writer)?;
        self.memory(&mut writer)?;
        writer.gauge_family(
            "blocksd_queue_events",
            "Events in the queue of a sink",
            "queue",
            (self.queues)(),
        )?;
        writer.counter(
            "blocksd_output_dropped_messages",
            "Messages that were recorded and not printed, because the reader of the output is too slow",
            self.counters.blocks_not_shown(),
        )?;
        let kinds = peer_log::Kind::ALL.map(peer_log::Kind::as_str).into_iter();
        writer.counter_family(
            "blocksd_log_suppressed_lines",
            "Warnings about peers that the rate limit kept out of the log, by kind",
            "kind",
            kinds.zip(peer_log::suppressed()),
        )
    }
}

impl EngineMetrics {
    fn messages(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let totals = self.counters.totals();
        writer.counter("blocksd_blocks", "Whole messages received", totals.blocks)?;
        writer.counter(
            "blocksd_payload_bytes",
            "Bytes of payload received, in whole messages and in pieces",
            totals.bytes,
        )?;
        writer.counter(
            "blocksd_series",
            "Series that ended with an end mark",
            totals.series,
        )?;
        writer.counter(
            "blocksd_series_incomplete",
            "Connections closed within a series: after a message and before the end mark",
            self.counters.torn(),
        )?;
        let kinds = FaultKind::ALL.map(FaultKind::as_str).into_iter();
        writer.counter_family(
            "blocksd_faults",
            "Messages refused, cut off, or not decodable, by kind",
            "fault",
            kinds.zip(totals.faults_by_kind()),
        )
    }

    fn connections(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        let totals = self.counters.totals();
        let closed = self.counters.closed_by_reason();
        writer.counter(
            "blocksd_connections_accepted",
            "Connections accepted",
            totals.connections,
        )?;
        writer.gauge(
            "blocksd_connections",
            "Open connections",
            totals.connections.saturating_sub(closed.iter().sum()),
        )?;
        writer.counter_family(
            "blocksd_connections_closed",
            "Connections closed, by reason",
            "reason",
            Reason::ALL.map(Reason::as_str).into_iter().zip(closed),
        )?;
        let refused = totals.refused_by();
        writer.counter_family(
            "blocksd_connections_refused",
            "Connections refused, by reason",
            "reason",
            refused.map(|(reason, count)| (reason.as_str(), count)),
        )
    }

    fn memory(&self, writer: &mut MetricWriter<'_>) -> fmt::Result {
        writer.gauge(
            "blocksd_pool_used_bytes",
            "Memory of the read buffers that connections and queues hold",
            self.pool.lent_bytes(),
        )?;
        writer.gauge(
            "blocksd_pool_idle_bytes",
            "Memory of the read buffers that are kept for reuse",
            self.pool.kept_bytes(),
        )?;
        writer.gauge(
            "blocksd_pool_limit_bytes",
            "Limit on the memory of read buffers",
            Pool::LIMIT_BYTES,
        )?;
        writer.gauge(
            "blocksd_unfinished_bytes",
            "Memory of unfinished messages",
            self.connections.unfinished_bytes(),
        )?;
        writer.gauge(
            "blocksd_unfinished_limit_bytes",
            "Limit on the memory of unfinished messages",
            self.connections.unfinished_limit(),
        )?;
        writer.gauge(
            "blocksd_connections_paused",
            "Connections that are not read because unfinished messages hold too much memory",
            self.connections.paused(),
        )?;
        writer.gauge(
            "blocksd_reply_spool_bytes",
            "Bytes to be echoed that peers have not read yet",
            self.spools.bytes(),
        )?;
        writer.gauge(
            "blocksd_reply_spool_limit_bytes",
            "Limit on the bytes to be echoed",
            self.spools.limit_bytes(),
        )
    }
}

impl fmt::Debug for EngineMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineMetrics").finish_non_exhaustive()
    }
}
