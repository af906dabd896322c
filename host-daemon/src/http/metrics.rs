//! The registry of all metrics for Prometheus: [`registry`]. `docs/metrics.md` explains each metric.

use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;

use crate::http::process::ProcessCollector;

/// Registers the collectors of a daemon that starts now, and that of the process.
#[must_use]
pub fn registry(collectors: impl IntoIterator<Item = Box<dyn Collector>>) -> Registry {
    let mut registry = Registry::default();
    for collector in collectors {
        registry.register_collector(collector);
    }
    registry.register_collector(Box::new(ProcessCollector::now()));
    registry
}
