//! In a build without the feature `nats`: [`Forwards`] refuses to begin.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blocksd_recording::{Durability, Retention};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::config::ForwardConfig;
use crate::error::CommandError;

/// No clusters.
#[derive(Debug, Default)]
pub(crate) struct Forwards;

/// The recording that would be forwarded.
pub(crate) struct Recorded {
    #[expect(dead_code, reason = "for the builds that forward")]
    pub(crate) folder: PathBuf,
    #[expect(dead_code, reason = "for the builds that forward")]
    pub(crate) durability: Arc<Durability>,
}

/// No files.
pub(crate) struct KeptFiles;

impl KeptFiles {
    pub(crate) fn new(_: Arc<Retention>) -> Arc<Self> {
        Arc::new(Self)
    }
}

impl Forwards {
    /// Refuses.
    ///
    /// # Errors
    /// [`CommandError::OptionNotBuilt`].
    #[expect(clippy::unused_async, reason = "the other builds wait for the cluster")]
    pub(crate) async fn begin(
        &self,
        _: &ForwardConfig,
        _: &Recorded,
        _: &Arc<KeptFiles>,
    ) -> Result<(), CommandError> {
        Err(CommandError::OptionNotBuilt {
            option: "forward",
            feature: "nats",
        })
    }

    #[expect(clippy::unused_async, reason = "the other builds wait for the cluster")]
    pub(crate) async fn finish(&self, _: Duration) {}

    pub(crate) const fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

/// No metrics.
#[derive(Debug)]
#[expect(dead_code, reason = "the other builds show the clusters")]
pub(crate) struct ForwardCollector(pub(crate) Arc<Forwards>);

impl Collector for ForwardCollector {
    fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}
