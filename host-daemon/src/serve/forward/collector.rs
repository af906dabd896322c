//! The metrics of the clusters: [`ForwardCollector`].

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use blocksd_engine::metrics::Page;
use blocksd_forward::{ProgressSnapshot, REASONS};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Forwards, age};
use crate::recorded::time::nanoseconds;

/// The metrics of all clusters.
#[derive(Clone, Debug)]
pub(crate) struct ForwardCollector(pub(crate) Arc<Forwards>);

impl Collector for ForwardCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return Ok(());
        }
        let read: Vec<_> = all
            .iter()
            .map(|it| (it.label(), it.state.progress.read(), &it.state))
            .collect();
        let mut page = Page::from(encoder);
        let counts = |of: fn(&ProgressSnapshot) -> u64| {
            let counts = read.iter().map(|(to, progress, _)| (&**to, of(progress)));
            counts.collect::<Vec<_>>()
        };
        page.counters(
            "blocksd_forward_messages",
            "Messages, pieces and events that a cluster has stored",
            "to",
            counts(|it| it.messages),
        )?;
        page.counters(
            "blocksd_forward_bytes",
            "Bytes of them, with the headers of their framing",
            "to",
            counts(|it| it.bytes),
        )?;
        page.counters(
            "blocksd_forward_published",
            "Messages of the stream that hold them",
            "to",
            counts(|it| it.published),
        )?;
        page.counters(
            "blocksd_forward_missed_messages",
            "Messages that the recording had deleted before they were read",
            "to",
            counts(|it| it.missed),
        )?;
        let failures = read.iter().flat_map(|(to, it, _)| {
            let counts = REASONS.into_iter().zip(it.failures);
            counts.map(move |(reason, count)| ([&**to, reason], count))
        });
        page.counters_of_two(
            "blocksd_forward_failures",
            "Requests that failed, or were refused because another daemon had written to the subject",
            ["to", "reason"],
            failures,
        )?;
        let now = nanoseconds(SystemTime::now());
        page.gauges(
            "blocksd_forward_backlog_seconds",
            "Age of the oldest message that is read and not stored",
            "to",
            read.iter().map(|(to, it, _)| {
                let age = age(it, now).unwrap_or_default();
                (&**to, age.as_secs_f64())
            }),
        )?;
        page.gauges(
            "blocksd_forward_backlog_bytes",
            "Bytes that wait: those that are read and not stored, and those that are not read",
            "to",
            read.iter()
                .map(|(to, _, state)| (&**to, state.backlog_bytes())),
        )?;
        page.gauges(
            "blocksd_forward_up",
            "Whether the cluster takes messages",
            "to",
            read.iter()
                .map(|(to, _, state)| (&**to, u64::from(state.problem().is_none()))),
        )
    }
}
