//! Metrics for Prometheus: what is counted anyway, read when it is asked for. `docs/metrics.md` explains each.
//!
//! No label has a value that a peer can choose: what is kept by the scraper is bounded, whoever connects.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use crate::engine::peer_log;
use crate::http::process;

use crate::engine::connection::Shared;
use crate::engine::connection::reply::Spools;
use crate::engine::counters::{Counters, FaultKind};
use crate::engine::event::Reason;
use crate::engine::permit::Connections;
use crate::engine::pool::Pool;
use crate::engine::sink::fanout::Waiting;
use crate::http::health::Health;
use crate::recorded::counters::{SuppressedCounters, SuppressedKind};
use crate::service::log;
use blocksd_recording::{SYNC_BOUNDS_MS, Stats, StatsSnapshot, WriteErrorKind};

/// What the metrics are read from.
#[derive(Debug)]
pub struct Sources {
    counters: Arc<Counters>,
    pool: Arc<Pool>,
    connections: Arc<Connections>,
    spools: Arc<Spools>,
    pub(super) health: Arc<Health>,
    /// From when it listens. Weak: the sinks end when nobody can send to them any more.
    shared: OnceLock<Weak<Shared>>,
    recording: Option<Arc<Stats>>,
    suppressed: Arc<SuppressedCounters>,
    started: SystemTime,
}

impl Sources {
    /// Those of a daemon that starts now, and may record.
    #[must_use]
    pub fn new(
        counters: Arc<Counters>,
        pool: Arc<Pool>,
        connections: Arc<Connections>,
        spools: Arc<Spools>,
        health: Arc<Health>,
        recording: Option<Arc<Stats>>,
    ) -> Self {
        Self {
            counters,
            pool,
            connections,
            spools,
            health,
            shared: OnceLock::new(),
            recording,
            suppressed: Arc::default(),
            started: SystemTime::now(),
        }
    }

    /// What is counted.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The open connections.
    #[must_use]
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    /// What is kept to be echoed.
    #[must_use]
    pub fn spools(&self) -> Arc<Spools> {
        Arc::clone(&self.spools)
    }

    /// The events that are recorded as counts only.
    #[must_use]
    pub fn suppressed(&self) -> Arc<SuppressedCounters> {
        Arc::clone(&self.suppressed)
    }

    /// The read buffers.
    #[must_use]
    pub fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }

    /// Has its queues counted from now on.
    pub fn attach(&self, shared: &Arc<Shared>) {
        // Attached again, it would be the same.
        let _ = self.shared.set(Arc::downgrade(shared));
    }
}

/// What is written, and in which words.
#[derive(Debug)]
struct Metrics(Arc<Sources>);

pub(super) fn registry(sources: Arc<Sources>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(sources)));
    registry
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.received(&mut page)?;
        self.connections(&mut page)?;
        self.held(&mut page)?;
        let recording = self.0.recording.as_ref();
        // Without a recording all of these are there, and zero: a rule that reads them finds them.
        recorded(
            &mut page,
            &recording.map(|stats| stats.read()).unwrap_or_default(),
        )?;
        let kinds = SuppressedKind::ALL.map(SuppressedKind::as_str).into_iter();
        page.counters(
            "blocksd_record_events_suppressed",
            "Events without payload that were recorded as counts only",
            "kind",
            kinds.zip(self.0.suppressed.read()),
        )?;
        self.process(&mut page)
    }
}

impl Metrics {
    fn received(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = self.0.counters.totals();
        page.counter("blocksd_blocks", "Blocks received whole", totals.blocks)?;
        page.counter(
            "blocksd_payload_bytes",
            "Bytes of payload in blocks and in pieces",
            totals.bytes,
        )?;
        page.counter(
            "blocksd_series",
            "Series ended by their mark",
            totals.series,
        )?;
        page.counter(
            "blocksd_series_torn",
            "Connections that closed within a series",
            self.0.counters.torn(),
        )?;
        let faults = FaultKind::ALL.map(FaultKind::as_str).into_iter();
        page.counters(
            "blocksd_faults",
            "Messages that were refused or could not be read",
            "fault",
            faults.zip(totals.faults_by_kind()),
        )
    }

    fn connections(&self, page: &mut Page<'_>) -> fmt::Result {
        let totals = self.0.counters.totals();
        let closed = self.0.counters.closed_by_reason();
        page.counter(
            "blocksd_connections_accepted",
            "Connections accepted",
            totals.connections,
        )?;
        page.gauge(
            "blocksd_connections",
            "Connections that are open",
            totals.connections.saturating_sub(closed.iter().sum()),
        )?;
        page.counters(
            "blocksd_connections_closed",
            "Connections closed, by reason",
            "reason",
            Reason::ALL.map(Reason::as_str).into_iter().zip(closed),
        )?;
        page.counters(
            "blocksd_connections_refused",
            "Connections refused, by reason",
            "reason",
            totals
                .refused_by()
                .map(|(why, count)| (why.as_str(), count)),
        )
    }

    /// What waits, and what was not waited for.
    fn held(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "blocksd_pool_lent_bytes",
            "Memory lent to connections and queues",
            self.0.pool.lent_bytes(),
        )?;
        page.gauge(
            "blocksd_pool_kept_bytes",
            "Memory of buffers that are free, for the next that need one",
            self.0.pool.kept_bytes(),
        )?;
        page.gauge(
            "blocksd_pool_limit_bytes",
            "Memory that may be lent",
            Pool::LIMIT_BYTES,
        )?;
        let connections = &self.0.connections;
        page.gauge(
            "blocksd_unfinished_bytes",
            "Memory that unfinished messages hold",
            connections.unfinished_bytes(),
        )?;
        page.gauge(
            "blocksd_unfinished_limit_bytes",
            "Memory that unfinished messages may hold",
            connections.unfinished_limit(),
        )?;
        page.gauge(
            "blocksd_connections_paused",
            "Connections that wait for memory for their unfinished messages",
            connections.paused(),
        )?;
        page.gauge(
            "blocksd_reply_spool_bytes",
            "Bytes that are kept to be echoed",
            self.0.spools.bytes(),
        )?;
        page.gauge(
            "blocksd_reply_spool_limit_bytes",
            "Bytes that may be kept to be echoed",
            self.0.spools.limit_bytes(),
        )?;
        let shared = self.0.shared.get().and_then(Weak::upgrade);
        let Waiting { patient, latest } = shared
            .map(|shared| shared.sinks.waiting())
            .unwrap_or_default();
        let (recording, output) = match self.0.recording {
            Some(_) => (patient, latest),
            None => (0, patient),
        };
        page.gauges(
            "blocksd_queue_events",
            "Events that wait for a sink",
            "queue",
            [("recording", recording), ("output", output)],
        )?;
        page.counter(
            "blocksd_output_lost_blocks",
            "Blocks that were recorded and not shown",
            self.0.counters.blocks_not_shown(),
        )?;
        page.counter(
            "blocksd_log_lost_lines",
            "Lines of the log that standard error did not take",
            log::lost(),
        )?;
        let kinds = peer_log::Kind::ALL.into_iter();
        page.counters(
            "blocksd_log_suppressed_lines",
            "Warnings about peers that were over the rate limit of the log",
            "kind",
            kinds
                .map(peer_log::Kind::as_str)
                .zip(peer_log::suppressed()),
        )
    }

    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let started = self.0.started.duration_since(UNIX_EPOCH);
        let started = started.unwrap_or_default().as_secs_f64();
        page.gauge(
            "process_start_time_seconds",
            "When the daemon started",
            started,
        )?;
        if let Some(bytes) = process::resident_bytes() {
            page.gauge("process_resident_memory_bytes", "Resident memory", bytes)?;
        }
        if let Some(count) = process::open_fds() {
            page.gauge("process_open_fds", "Open file descriptors", count)?;
        }
        if let Some(count) = process::max_fds() {
            page.gauge(
                "process_max_fds",
                "File descriptors that may be open",
                count,
            )?;
        }
        // Not of the type `info`, which who reads the older text format does not know.
        page.gauges(
            "blocksd_build_info",
            "The program",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1_u64)],
        )
    }
}

fn recorded(page: &mut Page<'_>, reading: &StatsSnapshot) -> fmt::Result {
    for (name, help, count) in [
        (
            "blocksd_record_blocks_written",
            "Blocks handed to the system",
            reading.blocks_written,
        ),
        (
            "blocksd_record_bytes_written",
            "Bytes handed to the system",
            reading.bytes_written,
        ),
        (
            "blocksd_record_chunks_written",
            "Chunks handed to the system",
            reading.chunks_written,
        ),
        (
            "blocksd_record_blocks_synced",
            "Blocks on the disk",
            reading.blocks_synced,
        ),
        (
            "blocksd_record_bytes_synced",
            "Bytes on the disk",
            reading.bytes_synced,
        ),
        (
            "blocksd_record_chunks_synced",
            "Chunks on the disk",
            reading.chunks_synced,
        ),
        (
            "blocksd_record_files_sealed",
            "Files ended",
            reading.files_sealed,
        ),
        (
            "blocksd_record_files_deleted",
            "Files deleted to make room",
            reading.files_deleted,
        ),
        (
            "blocksd_record_bytes_deleted",
            "Bytes of them",
            reading.bytes_deleted,
        ),
        (
            "blocksd_record_files_repaired",
            "Torn files repaired at the start",
            reading.files_repaired,
        ),
        (
            "blocksd_record_blocks_recovered",
            "Blocks found whole in them",
            reading.blocks_recovered,
        ),
        (
            "blocksd_record_bytes_lost",
            "Bytes not found whole in them",
            reading.bytes_lost,
        ),
    ] {
        page.counter(name, help, count)?;
    }
    page.syncs(reading)?;
    let kinds = WriteErrorKind::ALL.map(WriteErrorKind::as_str).into_iter();
    page.counters(
        "blocksd_record_errors",
        "Failures of the disk, by kind",
        "error",
        kinds.zip(reading.errors),
    )?;
    page.gauge(
        "blocksd_record_retrying",
        "1 while the recording waits for the disk",
        u64::from(reading.retrying),
    )
}

/// The page that is written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn metric(
        &mut self,
        name: &'static str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn counter(&mut self, name: &'static str, help: &str, count: u64) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        metric.encode_counter(&count, NO_EXEMPLAR)
    }

    fn gauge(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    /// A counter for each value of a label.
    fn counters(
        &mut self,
        name: &'static str,
        help: &str,
        label: &'static str,
        counts: impl IntoIterator<Item = (&'static str, impl EncodeCounterValue)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        for (value, count) in counts {
            let labels = [(label, value)];
            metric
                .encode_family(&labels)?
                .encode_counter(&count, NO_EXEMPLAR)?;
        }
        Ok(())
    }

    /// A gauge for each value of a label.
    fn gauges(
        &mut self,
        name: &'static str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        for (at, value) in values {
            let labels = [(label, at)];
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn syncs(&mut self, reading: &StatsSnapshot) -> fmt::Result {
        let bounds = SYNC_BOUNDS_MS.map(|ms| Duration::from_millis(ms).as_secs_f64());
        // Of the last one the encoder makes +Inf.
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(reading.syncs).collect();
        let count = reading.syncs.iter().sum();
        let mut metric = self.metric(
            "blocksd_record_sync_seconds",
            "How long group commits took",
            MetricType::Histogram,
        )?;
        metric.encode_histogram(
            reading.sync_time.as_secs_f64(),
            count,
            &buckets,
            None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>,
        )
    }
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, u64>> = None;
