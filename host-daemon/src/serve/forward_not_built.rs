//! In a build without the feature `nats`: [`UnbuiltForwards`] refuses to begin.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blocksd_engine::session::Sessions;
use blocksd_recording::{Durability, LogReport, Retention};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::config::{ForwardConfig, ValueOrigin};
use crate::error::CommandError;
use crate::view::{Cluster, ForwardSource};

/// Refuses a cluster, with [`CommandError::OptionNotBuilt`].
pub(crate) fn check(cluster: &ForwardConfig) -> Vec<(ValueOrigin, CommandError)> {
    let error = CommandError::OptionNotBuilt {
        option: "forward",
        feature: "nats",
    };
    vec![(cluster.origin(), error)]
}

/// No clusters.
#[derive(Debug, Default)]
pub(crate) struct UnbuiltForwards;

/// The recording that would be forwarded.
pub(crate) struct UnbuiltRecording {
    #[expect(dead_code, reason = "for the builds that forward")]
    pub(crate) folder: PathBuf,
    #[expect(dead_code, reason = "for the builds that forward")]
    pub(crate) durability: Arc<Durability>,
    #[expect(dead_code, reason = "for the builds that forward")]
    pub(crate) sessions: Arc<Sessions>,
}

/// No files.
pub(crate) struct UnbuiltKeptFiles;

impl UnbuiltKeptFiles {
    pub(crate) fn new(_: Arc<Retention>, _: &[ForwardConfig]) -> Arc<Self> {
        Arc::new(Self)
    }

    #[expect(clippy::unused_self, reason = "the other builds count messages")]
    pub(crate) const fn reported(&self, _: &LogReport<'_>) {}
}

impl UnbuiltForwards {
    /// Refuses.
    ///
    /// # Errors
    /// [`CommandError::OptionNotBuilt`].
    #[expect(clippy::unused_async, reason = "the other builds wait for the cluster")]
    pub(crate) async fn begin(
        &self,
        configs: &[ForwardConfig],
        _: &UnbuiltRecording,
        _: &Arc<UnbuiltKeptFiles>,
    ) -> Result<(), CommandError> {
        let first = configs.iter().flat_map(check).next();
        first.map_or(Ok(()), |(_, error)| Err(error))
    }

    #[expect(clippy::unused_async, reason = "the other builds wait for the cluster")]
    pub(crate) async fn finish(&self, _: Duration) {}

    pub(crate) const fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    pub(crate) const fn is_behind(&self) -> bool {
        false
    }
}

impl ForwardSource for UnbuiltForwards {
    fn stored(&self) -> Vec<u64> {
        Vec::new()
    }

    fn clusters(&self) -> Vec<Cluster> {
        Vec::new()
    }
}

/// No metrics.
#[derive(Debug)]
#[expect(dead_code, reason = "the other builds show the clusters")]
pub(crate) struct UnbuiltCollector(pub(crate) Arc<UnbuiltForwards>);

impl Collector for UnbuiltCollector {
    fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}
