//! The log's Prometheus collector. Register [`LogMetrics`].

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::engine::metric_writer::MetricWriter;

/// Reads the number of dropped log lines at each scrape.
#[derive(Clone, Copy, Debug)]
pub struct LogMetrics;

impl Collector for LogMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        MetricWriter::new(encoder).counter(
            "blocksd_log_dropped_lines",
            "Log lines dropped because standard error is blocked",
            super::lost(),
        )
    }
}
