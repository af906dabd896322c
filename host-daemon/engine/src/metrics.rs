//! Writes Prometheus metrics: start with [`Page`]. Each module has its own collector next to the values that it counts.
//!
//! No label value can be chosen by a peer, so the number of time series is bounded. The exception are names of devices: the
//! caller bounds their number.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

/// A page of metrics in the Prometheus text format, while it is written.
///
/// # Examples
/// ```
/// use blocksd_engine::metrics::Page;
/// use prometheus_client::collector::Collector;
/// use prometheus_client::encoding::DescriptorEncoder;
///
/// #[derive(Debug)]
/// struct Uptime(std::time::Instant);
///
/// impl Collector for Uptime {
///     fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
///         let seconds = self.0.elapsed().as_secs_f64();
///         Page::from(encoder).gauge("uptime_seconds", "Time since the start", seconds)
///     }
/// }
///
/// let mut registry = prometheus_client::registry::Registry::default();
/// registry.register_collector(Box::new(Uptime(std::time::Instant::now())));
/// let mut text = String::new();
/// prometheus_client::encoding::text::encode(&mut text, &registry)?;
/// assert!(text.contains("# TYPE uptime_seconds gauge"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
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

    /// Writes a counter. The encoder appends `_total` to the name.
    ///
    /// # Errors
    /// Returns the error of the encoder.
    pub fn counter(&mut self, name: &'static str, help: &str, count: u64) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        metric.encode_counter(&count, NO_EXEMPLAR)
    }

    /// Writes a gauge.
    ///
    /// # Errors
    /// Returns the error of the encoder.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    /// Writes a counter with one label. `counts` holds each value of the label with its count.
    ///
    /// # Errors
    /// Returns the error of the encoder.
    pub fn counters<'v>(
        &mut self,
        name: &'static str,
        help: &str,
        label: &'static str,
        counts: impl IntoIterator<Item = (&'v str, impl EncodeCounterValue)>,
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

    /// Writes a counter with two labels. `counts` holds each pair of their values with its count.
    ///
    /// # Errors
    /// Returns the error of the encoder.
    pub fn counters_of_two<'v>(
        &mut self,
        name: &'static str,
        help: &str,
        labels: [&'static str; 2],
        counts: impl IntoIterator<Item = ([&'v str; 2], impl EncodeCounterValue)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        for (values, count) in counts {
            let labels = [(labels[0], values[0]), (labels[1], values[1])];
            metric
                .encode_family(&labels)?
                .encode_counter(&count, NO_EXEMPLAR)?;
        }
        Ok(())
    }

    /// Writes a gauge with one label. `values` holds each value of the label with that of the gauge.
    ///
    /// # Errors
    /// Returns the error of the encoder.
    pub fn gauges<'v>(
        &mut self,
        name: &'static str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'v str, impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        for (at, value) in values {
            let labels = [(label, at)];
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Writes a histogram. `buckets` holds the upper bound and the count of each bucket. The last bound must be
    /// infinity.
    ///
    /// # Errors
    /// Returns the error of the encoder.
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
