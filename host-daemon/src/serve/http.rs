//! Opens the HTTP servers of a daemon: that of `--metrics`, and that of `--http`. Start with [`open`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use blocksd_engine::EngineHandle;
use blocksd_engine::listen::resolve::resolve;
use prometheus_client::registry::Registry;

use crate::commands::check_config::http::access;
use crate::config::Config;
use crate::error::CommandError;
use crate::http::access::check_exposure;
use crate::http::health::Health;
use crate::http::server::{Api, HttpServer, Site};
use crate::service::log::print_status;

/// Opens the configured servers, and serves them until the runtime ends.
pub(super) async fn open(
    config: &Config,
    engine: &EngineHandle,
    health: &Arc<Health>,
    registry: impl Fn() -> Registry,
) -> Result<(), CommandError> {
    if let Some(address) = &config.metrics {
        let server = bind("metrics", address, |_| Ok(())).await?;
        tokio::spawn(server.run(Site {
            registry: registry(),
            health: Arc::clone(health),
            api: None,
        }));
    }
    if let Some(address) = &config.http {
        let access = access(config)?;
        let has_token = config.http_token.is_some();
        let server = bind("http", address, |all| check_exposure(all, has_token)).await?;
        let devices = Arc::clone(engine.devices());
        tokio::spawn(server.run(Site {
            registry: registry(),
            health: Arc::clone(health),
            api: Some(Api { devices, access }),
        }));
    }
    Ok(())
}

async fn bind(
    what: &str,
    address: &str,
    check: impl Fn(&[SocketAddr]) -> io::Result<()>,
) -> Result<HttpServer, CommandError> {
    let failure = |error| CommandError::Listen {
        address: address.to_owned(),
        error,
    };
    let resolved = {
        let address = address.to_owned();
        super::run_blocking(move || {
            resolve(&address).map_err(|error| CommandError::Listen { address, error })
        })
    };
    let resolved = resolved.await?;
    check(&resolved).map_err(failure)?;
    let server = HttpServer::bind(&resolved).await.map_err(failure)?;
    let address = server.address().map_err(failure)?;
    print_status(format_args!("{what} on {address}"));
    Ok(server)
}
