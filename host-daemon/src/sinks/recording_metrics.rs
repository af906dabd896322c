//! The recording's Prometheus collector. Register [`RecordingMetrics`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use blocksd_recording::write::stats::{
    Reading, SYNC_BOUNDS_MS, Stats, SuppressedKind, WriteErrorKind,
};

use crate::engine::metric_writer::MetricWriter;

/// Reads the statistics of the recording at each scrape. Without a recording every metric is there and zero, so that
/// alert rules find it.
#[derive(Debug)]
pub struct RecordingMetrics(Option<Arc<Stats>>);

impl RecordingMetrics {
    /// Reads these statistics; `None` without a recording.
    #[must_use]
    pub const fn new(stats: Option<Arc<Stats>>) -> Self {
        Self(stats)
    }
}

impl Collector for RecordingMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = MetricWriter::new(encoder);
        let reading = self.0.as_ref().map(|stats| stats.read());
        let reading = reading.unwrap_or_default();
        for (name, help, count) in counters(&reading) {
            writer.counter(name, help, count)?;
        }
        writer.histogram(
            "blocksd_record_sync_seconds",
            "Duration of group commits",
            reading.sync_time.as_secs_f64(),
            &buckets(&reading),
        )?;
        let kinds = WriteErrorKind::ALL.map(WriteErrorKind::as_str).into_iter();
        writer.counter_family(
            "blocksd_record_errors",
            "Failed writes, syncs and file creations, by kind of error",
            "error",
            kinds.zip(reading.errors),
        )?;
        let kinds = SuppressedKind::ALL.map(SuppressedKind::as_str).into_iter();
        writer.counter_family(
            "blocksd_record_events_suppressed",
            "Events without payload that were recorded as counts only, by kind",
            "kind",
            kinds.zip(reading.suppressed),
        )?;
        writer.gauge(
            "blocksd_record_retrying",
            "1 while the recording waits for the disk, else 0",
            u64::from(reading.retrying),
        )
    }
}

/// Name, help text and value of each counter without labels.
const fn counters(reading: &Reading) -> [(&'static str, &'static str, u64); 12] {
    [
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
            "blocksd_record_files_deleted",
            "Files deleted to keep the recording within its maximum size",
            reading.files_deleted,
        ),
        (
            "blocksd_record_bytes_deleted",
            "Bytes of the deleted files",
            reading.bytes_deleted,
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
    ]
}

/// The upper bound in seconds and the count of each bucket.
fn buckets(reading: &Reading) -> Vec<(f64, u64)> {
    let bounds = SYNC_BOUNDS_MS.map(|ms| Duration::from_millis(ms).as_secs_f64());
    let bounds = bounds.into_iter().chain([f64::INFINITY]);
    bounds.zip(reading.syncs).collect()
}
