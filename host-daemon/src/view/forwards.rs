//! The clusters that the recording is forwarded to, as the view shows them: a [`ForwardSource`] knows them, and [`ForwardRates`]
//! has their rates.

use std::fmt::Debug;
use std::time::Duration;

use crate::api::daemon::{ForwardReport, UP};
use crate::view::rates::{mix, tenths};

/// The clusters that a recording is forwarded to.
pub trait ForwardSource: Debug + Send + Sync {
    /// The number of messages that each has stored. A cluster keeps its place.
    fn stored(&self) -> Vec<u64>;

    /// The clusters, in the same order.
    fn clusters(&self) -> Vec<Cluster>;
}

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its servers, separated by commas.
    pub to: String,
    /// The stream.
    pub stream: String,
    /// Why it takes nothing.
    pub problem: Option<String>,
    /// Bytes that wait.
    pub backlog_bytes: u64,
    /// Age of the oldest message that waits; `None` if nothing was read yet.
    pub backlog: Option<Duration>,
}

/// Messages a second.
#[derive(Debug, Default)]
pub(super) struct ForwardRates {
    stored: Vec<u64>,
    messages_per_s: Vec<Option<f64>>,
}

impl ForwardRates {
    /// Takes the counts. Call it once a second.
    pub(super) fn tick(&mut self, stored: Vec<u64>) {
        self.messages_per_s.resize(stored.len(), None);
        let former = self.stored.iter().map(Some).chain(std::iter::repeat(None));
        let rates = self.messages_per_s.iter_mut().zip(&stored).zip(former);
        for ((rate, now), former) in rates {
            if let Some(former) = former {
                mix(rate, now.saturating_sub(*former));
            }
        }
        self.stored = stored;
    }

    /// The clusters with their rates.
    pub(super) fn report(&self, clusters: Vec<Cluster>) -> Vec<ForwardReport> {
        let rates = self.messages_per_s.iter().copied();
        let rates = rates.chain(std::iter::repeat(None));
        let report = |(cluster, rate): (Cluster, Option<f64>)| {
            let Cluster {
                to,
                stream,
                problem,
                backlog_bytes,
                backlog,
            } = cluster;
            let state = if problem.is_none() { UP } else { "down" };
            ForwardReport {
                to,
                stream,
                state: state.to_owned(),
                problem,
                messages_per_s: tenths(rate),
                backlog_bytes,
                backlog_s: backlog.map(|age| (age.as_secs_f64() * 1e3).round() / 1e3),
            }
        };
        clusters.into_iter().zip(rates).map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cluster_has_its_rate_and_its_backlog() {
        let mut rates = ForwardRates::default();
        let up = Cluster {
            to: "nats://a:4222".to_owned(),
            backlog: Some(Duration::from_micros(1_234_567)),
            ..Cluster::default()
        };
        let down = Cluster {
            problem: Some("no answer".to_owned()),
            backlog_bytes: 7,
            ..up.clone()
        };
        // What was stored before the first tick belongs to no second, and a cluster may be added later.
        rates.tick(vec![1000]);
        for second in 1..=50 {
            rates.tick(vec![1000 + 10 * second, 5]);
        }
        let shown = rates.report(vec![up, down]);
        let figures: Vec<_> = shown
            .iter()
            .map(|it| (&*it.state, it.messages_per_s, it.backlog_bytes))
            .collect();
        assert_eq!(figures, [("up", 10.0, 0), ("down", 0.0, 7)]);
        assert_eq!(shown[0].backlog_s, Some(1.235));
        assert_eq!(shown[1].problem.as_deref(), Some("no answer"));
        // They are taken down when the daemon stops.
        rates.tick(Vec::new());
        assert_eq!(rates.report(Vec::new()), []);
    }
}
