//! The page of the demo's daemon: [`DemoPage::open`].

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use blocksd_engine::{DeviceCollector, Engine, EngineCollector};
use prometheus_client::collector::Collector;
use tokio_util::sync::CancellationToken;

use crate::commands::demo::print_line;
use crate::error::CommandError;
use crate::http::access::Access;
use crate::http::health::{Health, Phase};
use crate::http::metrics;
use crate::http::server::HttpServer;
use crate::serve::http::serve_page;
use crate::view::{RecordingSource, UndecodedQueue, View, ViewSink};

/// The names of the sinks, as labels of metrics.
const SINKS: &[&str] = &["recording", "output", "view"];

/// A page that is served until the runtime ends.
#[derive(Debug)]
pub(super) struct DemoPage {
    view: Arc<View>,
    address: SocketAddr,
}

impl DemoPage {
    /// Serves the page of a daemon that records to `recording` and stops with `stop`.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) async fn open(
        engine: &mut Engine,
        recording: RecordingSource,
        stop: CancellationToken,
    ) -> Result<Self, CommandError> {
        let server = HttpServer::bind(&[(Ipv4Addr::LOCALHOST, 0).into()]).await?;
        let address = server.address()?;
        let handle = engine.handle().clone();
        let devices = Arc::clone(handle.devices());
        let stats = Arc::clone(&recording.stats);
        let health = Arc::new(Health::new(stop, move || stats.refusal()));
        health.enter(Phase::Ready);
        let view = View::new(Arc::clone(&devices), Some(recording), None);
        let registry = metrics::registry([
            Box::new(EngineCollector::new(handle, SINKS)) as Box<dyn Collector>,
            Box::new(DeviceCollector::new(devices, 0)),
        ]);
        serve_page(server, &view, Access::new([]), &health, registry);
        engine.add_sink(Box::new(ViewSink(Arc::clone(&view))), ViewSink::DELIVERY);
        Ok(Self { view, address })
    }

    /// The queue for messages that another sink could not decode.
    pub(super) fn undecoded(&self) -> &UndecodedQueue {
        self.view.undecoded()
    }

    /// Prints where it is.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(super) async fn announce(&self) -> Result<(), CommandError> {
        let Self { address, .. } = self;
        print_line(format!(
            "page on http://{address}/ (without meter, whose recorder is a process of its own)"
        ))
        .await
    }

    /// Prints that the page stays, and waits for ever.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(super) async fn stay(&self) -> Result<(), CommandError> {
        let Self { address, .. } = self;
        print_line(format!("the page stays on http://{address}/ until Ctrl-C")).await?;
        pending().await
    }
}
