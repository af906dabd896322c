//! The metrics of the log: a [`LogCollector`].

use std::fmt;

use blocksd_engine::metrics::Page;
use blocksd_engine::peer_log;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::service::log;

/// Collects the numbers of dropped and suppressed log lines.
#[derive(Clone, Copy, Debug)]
pub struct LogCollector;

impl Collector for LogCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::from(encoder);
        page.counter(
            "blocksd_log_dropped_lines",
            "Log lines dropped because standard error is blocked",
            log::lost(),
        )?;
        let kinds = peer_log::Kind::ALL.into_iter();
        page.counters(
            "blocksd_log_suppressed_lines",
            "Warnings about peers that the rate limit kept out of the log, by kind",
            "kind",
            kinds
                .map(peer_log::Kind::as_str)
                .zip(peer_log::suppressed()),
        )
    }
}
