//! The metrics of a recording: a [`RecordingCollector`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use blocksd_engine::metrics::Page;
use blocksd_recording::{Retention, SYNC_BOUNDS_MS, Stats, WriteErrorKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::recorded::commits::{Commits, DURABLE_BOUNDS_MS};
use crate::recorded::counters::{SuppressedCounters, SuppressedKind};

/// Collects the metrics of a recording.
#[derive(Debug)]
pub struct RecordingCollector {
    recording: Option<(Arc<Stats>, Arc<Retention>)>,
    suppressed: Arc<SuppressedCounters>,
    commits: Arc<Commits>,
}

impl RecordingCollector {
    /// The metrics of a recording. Without a recording they are present and zero, so that alert rules find them.
    #[must_use]
    pub const fn new(
        recording: Option<(Arc<Stats>, Arc<Retention>)>,
        suppressed: Arc<SuppressedCounters>,
        commits: Arc<Commits>,
    ) -> Self {
        Self {
            recording,
            suppressed,
            commits,
        }
    }
}

impl Collector for RecordingCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::from(encoder);
        let recording = self.recording.as_ref();
        let reading = recording.map(|(stats, _)| stats.read()).unwrap_or_default();
        let limit = |of: fn(&Retention) -> Option<u64>| {
            recording
                .and_then(|(_, retention)| of(retention))
                .unwrap_or_default()
        };
        for (name, help, count) in [
            (
                "blocksd_record_messages_written",
                "Messages handed to the kernel",
                reading.blocks_written,
            ),
            (
                "blocksd_record_bytes_written",
                "Bytes of the files handed to the kernel",
                reading.bytes_written,
            ),
            (
                "blocksd_record_chunks_written",
                "Chunks handed to the kernel",
                reading.chunks_written,
            ),
            (
                "blocksd_record_messages_synced",
                "Messages synced to the disk",
                reading.blocks_synced,
            ),
            (
                "blocksd_record_bytes_synced",
                "Bytes of the files synced to the disk",
                reading.bytes_synced,
            ),
            (
                "blocksd_record_chunks_synced",
                "Chunks synced to the disk",
                reading.chunks_synced,
            ),
            (
                "blocksd_record_files_sealed",
                "Files completed and renamed to their final names",
                reading.files_sealed,
            ),
            (
                "blocksd_record_files_packed",
                "Sealed files of slow senders rewritten with longer chunks",
                reading.files_packed,
            ),
            (
                "blocksd_record_bytes_saved",
                "Bytes by which rewriting made sealed files shorter",
                reading.bytes_packed_away,
            ),
            (
                "blocksd_record_files_deleted",
                "Files deleted to keep the recording within its limits",
                reading.files_deleted,
            ),
            (
                "blocksd_record_bytes_deleted",
                "Bytes of the deleted files",
                reading.bytes_deleted,
            ),
            (
                "blocksd_record_messages_deleted",
                "Messages of the deleted files that were sealed",
                reading.messages_deleted,
            ),
            (
                "blocksd_record_files_repaired",
                "Torn files repaired at the start",
                reading.files_repaired,
            ),
            (
                "blocksd_record_messages_recovered",
                "Whole messages found in the torn files",
                reading.blocks_recovered,
            ),
            (
                "blocksd_record_bytes_lost",
                "Bytes of the torn files that belong to no whole chunk",
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
            "Duration of group commits",
            reading.sync_time.as_secs_f64(),
            &buckets,
        )?;
        let times = self.commits.durable_times();
        let bounds = DURABLE_BOUNDS_MS.map(|ms| Duration::from_millis(ms).as_secs_f64());
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(times.counts).collect();
        page.histogram(
            "blocksd_session_durable_seconds",
            "Time from the first message of a session in a group commit until it is durable",
            times.sum,
            &buckets,
        )?;
        let kinds = WriteErrorKind::ALL.map(WriteErrorKind::as_str).into_iter();
        page.counters(
            "blocksd_record_errors",
            "Failed writes, syncs and file creations, by kind of error",
            "error",
            kinds.zip(reading.errors),
        )?;
        let kinds = SuppressedKind::ALL.map(SuppressedKind::as_str).into_iter();
        page.counters(
            "blocksd_record_events_suppressed",
            "Events without payload that were recorded as counts only, by kind",
            "kind",
            kinds.zip(self.suppressed.read()),
        )?;
        for (name, help, value) in [
            (
                "blocksd_record_bytes_on_disk",
                "Bytes of all files of the recording",
                reading.bytes_on_disk,
            ),
            (
                "blocksd_record_limit_bytes",
                "Limit on these bytes; 0 for none",
                limit(Retention::max_bytes),
            ),
            (
                "blocksd_record_over_limit_bytes",
                "Bytes beyond the limit, in files that are kept because they are not forwarded",
                reading.bytes_over_limit,
            ),
            (
                "blocksd_record_free_bytes",
                "Free bytes in the file system of the recording",
                reading.bytes_free,
            ),
            (
                "blocksd_record_min_free_bytes",
                "Bytes that are kept free there; 0 for none",
                limit(Retention::min_free),
            ),
        ] {
            page.gauge(name, help, value)?;
        }
        page.gauge(
            "blocksd_record_retrying",
            "1 while the recording waits for the disk, else 0",
            u64::from(reading.retrying),
        )
    }
}
