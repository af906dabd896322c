//! Writes counters, gauges and histograms for the collectors of all rooms: [`MetricWriter`].

use std::collections::HashMap;
use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, u64>> = None;

/// Writes the metrics of one collector, each with its name and help text.
///
/// ```
/// use blocksd::engine::metric_writer::MetricWriter;
/// use prometheus_client::collector::Collector;
/// use prometheus_client::encoding::{DescriptorEncoder, text};
/// use prometheus_client::registry::Registry;
///
/// #[derive(Debug)]
/// struct Frames(u64);
///
/// impl Collector for Frames {
///     fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
///         MetricWriter::new(encoder).counter("frames", "Frames received", self.0)
///     }
/// }
///
/// let mut registry = Registry::default();
/// registry.register_collector(Box::new(Frames(7)));
/// let mut page = String::new();
/// text::encode(&mut page, &registry).unwrap();
/// assert!(page.contains("frames_total 7\n"));
/// ```
pub struct MetricWriter<'a>(DescriptorEncoder<'a>);

impl<'a> MetricWriter<'a> {
    /// Writes to the encoder that a collector is given.
    #[must_use]
    pub const fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }
}

impl MetricWriter<'_> {
    /// Writes a counter. The encoder adds `_total` to its name.
    ///
    /// # Errors
    /// Returns the error of the encoder, as all methods do.
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
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// Writes a counter for each value of a label.
    ///
    /// # Errors
    /// Returns the error of the encoder.
    pub fn counter_family(
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

    /// Writes a gauge for each value of a label.
    ///
    /// # Errors
    /// Returns the error of the encoder.
    pub fn gauge_family(
        &mut self,
        name: &'static str,
        help: &str,
        label: &'static str,
        gauges: impl IntoIterator<Item = (&'static str, impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        for (value, gauge) in gauges {
            let labels = [(label, value)];
            metric.encode_family(&labels)?.encode_gauge(&gauge)?;
        }
        Ok(())
    }

    /// Writes a histogram: the sum of all observations, and the number of them in each bucket with its upper bound.
    /// The bound of the last bucket is infinity.
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
        let no_exemplars = None::<&HashMap<usize, Exemplar<NoLabelSet, f64>>>;
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        metric.encode_histogram(sum, count, buckets, no_exemplars)
    }

    fn metric(
        &mut self,
        name: &'static str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }
}

impl fmt::Debug for MetricWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricWriter").finish_non_exhaustive()
    }
}
