//! Metrics for Prometheus: a [`Page`] writes them. Each room has a collector of its own beside what it counts.
//!
//! No label has a value that a peer can choose, so the scraper keeps a bounded number of them.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

/// The page of metrics that is written.
pub struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> From<DescriptorEncoder<'a>> for Page<'a> {
    fn from(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }
}

impl fmt::Debug for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Page<'_> {
    fn metric(
        &mut self,
        name: &'static str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    /// A counter. Its name gets the ending `_total`.
    ///
    /// # Errors
    /// As the encoder returns them.
    pub fn counter(&mut self, name: &'static str, help: &str, count: u64) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        metric.encode_counter(&count, NO_EXEMPLAR)
    }

    /// A gauge.
    ///
    /// # Errors
    /// As the encoder returns them.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    /// A counter for each value of a label.
    ///
    /// # Errors
    /// As the encoder returns them.
    pub fn counters(
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
    ///
    /// # Errors
    /// As the encoder returns them.
    pub fn gauges(
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

    /// A histogram: its sum, and the count of each bucket with its upper bound. The last bound is infinity.
    ///
    /// # Errors
    /// As the encoder returns them.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &str,
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> fmt::Result {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        metric.encode_histogram(
            sum,
            count,
            buckets,
            None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>,
        )
    }
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, u64>> = None;
