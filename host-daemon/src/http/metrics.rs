//! Registers the collectors that are scraped at `/metrics`. `docs/metrics.md` explains each metric.

use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;

use crate::http::process::ProcessMetrics;

/// Registers these collectors, and that of the process.
#[must_use]
pub fn registry(collectors: Vec<Box<dyn Collector>>) -> Registry {
    let mut registry = Registry::default();
    for collector in collectors {
        registry.register_collector(collector);
    }
    registry.register_collector(Box::new(ProcessMetrics::new()));
    registry
}
