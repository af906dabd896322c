//! The metrics of a recording: a [`RecordingCollector`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use blocksd_engine::metrics::Page;
use blocksd_recording::{SYNC_BOUNDS_MS, Stats, WriteErrorKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::recorded::counters::{SuppressedCounters, SuppressedKind};

/// Collects what a recording has written.
#[derive(Debug)]
pub struct RecordingCollector {
    stats: Option<Arc<Stats>>,
    suppressed: Arc<SuppressedCounters>,
}

impl RecordingCollector {
    /// The metrics of a recording. Without one all of them are there, and zero, so that a rule that reads them finds them.
    #[must_use]
    pub const fn new(stats: Option<Arc<Stats>>, suppressed: Arc<SuppressedCounters>) -> Self {
        Self { stats, suppressed }
    }
}

impl Collector for RecordingCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::from(encoder);
        let stats = self.stats.as_ref();
        let reading = stats.map(|stats| stats.read()).unwrap_or_default();
        for (name, help, count) in [
            (
                "blocksd_record_messages_written",
                "Messages handed to the system",
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
                "blocksd_record_messages_synced",
                "Messages on the disk",
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
                "Files sealed",
                reading.files_sealed,
            ),
            (
                "blocksd_record_files_deleted",
                "Files deleted to make room",
                reading.files_deleted,
            ),
            (
                "blocksd_record_bytes_deleted",
                "Bytes of deleted files",
                reading.bytes_deleted,
            ),
            (
                "blocksd_record_files_repaired",
                "Torn files repaired at the start",
                reading.files_repaired,
            ),
            (
                "blocksd_record_messages_recovered",
                "Messages found whole in them",
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
        let bounds = SYNC_BOUNDS_MS.map(|ms| Duration::from_millis(ms).as_secs_f64());
        // The encoder writes the last bound as +Inf.
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(reading.syncs).collect();
        page.histogram(
            "blocksd_record_sync_seconds",
            "How long group commits took",
            reading.sync_time.as_secs_f64(),
            &buckets,
        )?;
        let kinds = WriteErrorKind::ALL.map(WriteErrorKind::as_str).into_iter();
        page.counters(
            "blocksd_record_errors",
            "Failures of the disk, by kind",
            "error",
            kinds.zip(reading.errors),
        )?;
        let kinds = SuppressedKind::ALL.map(SuppressedKind::as_str).into_iter();
        page.counters(
            "blocksd_record_events_suppressed",
            "Events without payload that were recorded as counts only",
            "kind",
            kinds.zip(self.suppressed.read()),
        )?;
        page.gauge(
            "blocksd_record_retrying",
            "1 while the recording waits for the disk",
            u64::from(reading.retrying),
        )
    }
}
