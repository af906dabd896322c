//! Opens the HTTP servers of a daemon: that of `--metrics`, and that of `--http`. Start with [`open`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use blocksd_engine::listen::resolve::resolve;
use prometheus_client::registry::Registry;
use tokio::time::MissedTickBehavior;

use crate::commands::check_config;
use crate::commands::check_config::http::access;
use crate::config::Config;
use crate::error::CommandError;
use crate::http::access::{Access, check_exposure};
use crate::http::api::Api;
use crate::http::health::Health;
use crate::http::server::{HttpServer, Site};
use crate::serve::tls::TlsServers;
use crate::service::log::print_status;
use crate::view::View;

/// Opens the configured servers, and serves them until the runtime ends.
pub(super) async fn open(
    config: &Config,
    view: Option<&Arc<View>>,
    health: &Arc<Health>,
    registry: impl Fn() -> Registry,
    tls: &TlsServers,
) -> Result<(), CommandError> {
    if let Some(address) = &config.metrics {
        let server = bind(address, |_| Ok(())).await?;
        print_status(format_args!("metrics on {}", server.address));
        tokio::spawn(server.server.run(Site {
            registry: registry(),
            health: Arc::clone(health),
            api: None,
        }));
    }
    if let (Some(address), Some(view)) = (&config.http, view) {
        let access = access(config)?;
        let has_token = config.http_token.is_some();
        let server = bind(address, |all| check_exposure(all, has_token)).await?;
        let secured = {
            let config = config.clone();
            super::run_blocking(move || check_config::tls::of_http(&config)).await?
        };
        if let Some(secured) = &secured {
            tls.add_http(address, Arc::clone(secured));
        }
        let scheme = config.http_scheme();
        print_status(format_args!("page on {scheme}://{}/", server.address));
        let server = server.server.secured_by(secured);
        serve_page(server, view, access, health, registry());
    }
    Ok(())
}

/// Serves the page and the API of a view to those who have access, and updates its rates, until the runtime ends.
pub(crate) fn serve_page(
    server: HttpServer,
    view: &Arc<View>,
    access: Access,
    health: &Arc<Health>,
    registry: Registry,
) {
    tokio::spawn(tick(Arc::downgrade(view)));
    tokio::spawn(server.run(Site {
        registry,
        health: Arc::clone(health),
        api: Some(Api::new(Arc::clone(view), access)),
    }));
}

/// Updates the rates of a view each second.
async fn tick(view: Weak<View>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let Some(view) = view.upgrade() else {
            return;
        };
        // There may be thousands of devices.
        if tokio::task::spawn_blocking(move || view.tick())
            .await
            .is_err()
        {
            return;
        }
    }
}

/// A server, and the address on which it listens.
struct BoundServer {
    server: HttpServer,
    address: SocketAddr,
}

async fn bind(
    address: &str,
    check: impl Fn(&[SocketAddr]) -> io::Result<()>,
) -> Result<BoundServer, CommandError> {
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
    Ok(BoundServer { server, address })
}
