//! The metrics of an engine: an [`EngineCollector`].

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::engine::EngineHandle;
use crate::metrics::Page;
use crate::pool::Pool;
use crate::reason::{CloseReason, FaultKind, HandshakeRefusal};
use crate::session::SessionCounters;

/// Collects the metrics of one engine for a registry of `prometheus_client`.
///
/// # Examples
/// ```
/// use blocksd_engine::{Engine, EngineCollector};
///
/// let engine = Engine::builder().build();
/// let collector = EngineCollector::new(engine.handle().clone(), &["recording"]);
/// let mut registry = prometheus_client::registry::Registry::default();
/// registry.register_collector(Box::new(collector));
/// let mut text = String::new();
/// prometheus_client::encoding::text::encode(&mut text, &registry)?;
/// assert!(text.contains("blocksd_connections 0"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
#[derive(Debug)]
pub struct EngineCollector {
    engine: EngineHandle,
    sinks: &'static [&'static str],
}

impl EngineCollector {
    /// Creates a collector. `sinks` names the queues to report. A queue that does not exist is reported as empty, so
    /// that alerting rules always find it.
    #[must_use]
    pub const fn new(engine: EngineHandle, sinks: &'static [&'static str]) -> Self {
        Self { engine, sinks }
    }

    fn received(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = self.engine.counters().totals();
        page.counter("blocksd_blocks", "Whole messages received", totals.messages)?;
        page.counter(
            "blocksd_payload_bytes",
            "Bytes of payload received, in whole messages and in pieces",
            totals.bytes,
        )?;
        page.counter(
            "blocksd_series",
            "Series that ended with an end mark",
            totals.series,
        )?;
        page.counter(
            "blocksd_series_incomplete",
            "Connections closed within a series: after a message and before the end mark",
            self.engine.counters().series_left_open(),
        )?;
        page.counter(
            "blocksd_after_end",
            "Connections that sent bytes after the end mark that closed them",
            self.engine.counters().after_ends(),
        )?;
        page.counter(
            "blocksd_truncated_bytes",
            "Bytes of truncated messages that were kept; not in blocksd_payload_bytes",
            self.engine.counters().truncated_bytes_total(),
        )?;
        let faults = FaultKind::ALL.map(FaultKind::as_str).into_iter();
        page.counters(
            "blocksd_faults",
            "Messages refused, cut off, or not decodable, and connections reset between messages, by kind",
            "fault",
            faults.zip(totals.faults_by_kind()),
        )?;
        page.counter(
            "blocksd_messages_undecoded",
            "Messages not decoded for the reason of an earlier fault of their connection",
            self.engine.counters().undecoded_messages(),
        )
    }

    fn connections(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = self.engine.counters().totals();
        let closed = self.engine.counters().closed_by_reason();
        page.counter(
            "blocksd_connections_accepted",
            "Connections accepted",
            totals.connections,
        )?;
        page.gauge(
            "blocksd_connections",
            "Open connections",
            totals.connections.saturating_sub(closed.iter().sum()),
        )?;
        page.counters(
            "blocksd_connections_closed",
            "Connections closed, by reason",
            "reason",
            CloseReason::ALL
                .map(CloseReason::as_str)
                .into_iter()
                .zip(closed),
        )?;
        page.counters(
            "blocksd_connections_refused",
            "Connections refused, by reason",
            "reason",
            totals
                .refused_by()
                .map(|(why, count)| (why.as_str(), count)),
        )?;
        let (handshakes, refused) = self.engine.counters().handshakes();
        page.counter(
            "blocksd_tls_handshakes",
            "TLS handshakes that succeeded",
            handshakes,
        )?;
        page.counters(
            "blocksd_tls_refused",
            "Connections refused in their handshake, by reason",
            "reason",
            HandshakeRefusal::ALL
                .map(HandshakeRefusal::as_str)
                .into_iter()
                .zip(refused),
        )
    }

    /// Memory, queues, and messages dropped from the output.
    fn held(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "blocksd_pool_used_bytes",
            "Memory of the read buffers that connections and queues hold",
            self.engine.pool().used_bytes(),
        )?;
        page.gauge(
            "blocksd_pool_idle_bytes",
            "Memory of the read buffers that are kept for reuse",
            self.engine.pool().kept_bytes(),
        )?;
        page.gauge(
            "blocksd_pool_limit_bytes",
            "Limit on the memory of read buffers",
            Pool::LIMIT_BYTES,
        )?;
        let connections = self.engine.connections();
        page.gauge(
            "blocksd_unfinished_bytes",
            "Memory of unfinished messages",
            connections.unfinished_bytes(),
        )?;
        page.gauge(
            "blocksd_unfinished_limit_bytes",
            "Limit on the memory of unfinished messages",
            connections.unfinished_limit(),
        )?;
        page.gauge(
            "blocksd_connections_paused",
            "Connections that are not read because unfinished messages hold too much memory",
            connections.paused(),
        )?;
        page.gauge(
            "blocksd_reply_spool_bytes",
            "Bytes to be echoed that peers have not read yet",
            self.engine.spools().bytes(),
        )?;
        page.gauge(
            "blocksd_reply_spool_limit_bytes",
            "Limit on the bytes to be echoed",
            self.engine.spools().limit_bytes(),
        )?;
        page.counter(
            "blocksd_reply_echoes",
            "Series that were replies of the daemon itself, came back over a serial line, and were not answered",
            self.engine.counters().reply_echoes(),
        )?;
        let context = self.engine.context();
        let depth = |sink: &str| {
            let mut depths = context.iter().flat_map(|context| context.fanout.depths());
            let depth = depths.find(|depth| depth.sink == sink);
            depth.map_or(0, |depth| depth.events)
        };
        let depths = self.sinks.iter().map(|sink| (*sink, depth(sink)));
        page.gauges(
            "blocksd_queue_events",
            "Events in the queue of a sink",
            "queue",
            depths,
        )?;
        page.counter(
            "blocksd_output_dropped_messages",
            "Messages that were recorded and not printed, because the reader of the output is too slow",
            self.engine.counters().blocks_not_shown(),
        )?;
        page.counter(
            "blocksd_output_dropped_events",
            "Opened and closed connections, end marks, faults and pieces that were recorded and not printed",
            self.engine.counters().events_not_shown(),
        )?;
        let missed = self.engine.counters().missed_by_views();
        page.counter(
            "blocksd_view_not_shown_messages",
            "Messages that were received while somebody watched their device, and that no page shows",
            missed.messages,
        )?;
        page.counter(
            "blocksd_view_not_shown_events",
            "Connections, faults and pieces that no page shows, because there were too many at once",
            missed.others,
        )
    }
}

impl EngineCollector {
    /// Acknowledged sessions. Without any, the metrics are zero.
    fn sessions(&self, page: &mut Page<'_>) -> fmt::Result {
        let sessions = self.engine.sessions();
        let totals = sessions.map(|sessions| sessions.counters().totals());
        let totals = totals.unwrap_or_else(|| SessionCounters::default().totals());
        page.gauge(
            "blocksd_sessions",
            "Sessions that are remembered",
            sessions.map_or(0, |sessions| sessions.len() as u64),
        )?;
        page.counters(
            "blocksd_session_hellos",
            "Connections that opened a session, by how it began",
            "kind",
            totals.opened,
        )?;
        page.counters(
            "blocksd_session_closings",
            "Sessions refused or closed by the daemon, by the code that the device got",
            "code",
            totals.closings,
        )?;
        page.counters(
            "blocksd_session_gap_messages",
            "Numbers without a message, by cause",
            "cause",
            totals.gaps,
        )?;
        for (name, help, count) in [
            (
                "blocksd_session_acks",
                "Acknowledgements and heartbeats sent",
                totals.acks,
            ),
            (
                "blocksd_session_repeated_messages",
                "Messages received again, and skipped",
                totals.repeated,
            ),
            (
                "blocksd_session_dropped_messages",
                "Messages not recorded because those before them were lost in a failed sync; their devices send them again",
                totals.dropped,
            ),
            (
                "blocksd_session_resets",
                "Sessions interrupted by a failed sync",
                totals.resets,
            ),
        ] {
            page.counter(name, help, count)?;
        }
        Ok(())
    }
}

impl Collector for EngineCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::from(encoder);
        self.received(&mut page)?;
        self.connections(&mut page)?;
        self.held(&mut page)?;
        self.sessions(&mut page)
    }
}
