//! The servers of a daemon that have TLS, and their new files: [`TlsServers`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blocksd_engine::listen::handshake::Handshake;
use blocksd_engine::metrics::Page;
use blocksd_engine::{EngineHandle, ListenerSpec};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{error, info, warn};

use crate::error::with_causes;
use crate::output::counted;

/// Interval between two looks at the files.
const CHECK: Duration = Duration::from_secs(60);

/// The servers with TLS: those of listeners, and that of `--http`.
#[derive(Debug, Default)]
pub(crate) struct TlsServers {
    servers: Mutex<Vec<NamedServer>>,
    /// Servers whose listeners are removed, or have no TLS any more. Their connections are open.
    retired: Mutex<Vec<NamedServer>>,
    reloads: AtomicU64,
    failures: AtomicU64,
    /// The problems that were logged last.
    logged: Mutex<Vec<String>>,
}

#[derive(Clone, Debug)]
struct NamedServer {
    /// The address, as it was configured.
    address: String,
    server: Arc<dyn Handshake>,
    of_listener: bool,
}

/// The servers of a new configuration.
#[derive(Debug)]
pub(crate) struct NewServers {
    all: Vec<NamedServer>,
    /// Servers that stay, and the files that each takes.
    replaced: Vec<(Arc<dyn Handshake>, Arc<dyn Handshake>)>,
    /// Servers without a listener.
    retired: Vec<NamedServer>,
}

impl TlsServers {
    /// Whether no server has TLS.
    pub(crate) fn is_empty(&self) -> bool {
        self.servers().is_empty()
    }

    /// Adds the server of `--http`.
    pub(crate) fn add_http(&self, address: &str, server: Arc<dyn Handshake>) {
        self.servers().push(NamedServer {
            address: address.to_owned(),
            server,
            of_listener: false,
        });
    }

    /// Has the listeners of a new configuration use the servers that run, if they have the same address. So what
    /// connections of these listeners are checked against changes too. Nothing changes before [`commit`](Self::commit).
    pub(crate) fn adopt(&self, plan: &mut [ListenerSpec]) -> NewServers {
        let (mut left, mut all): (Vec<_>, Vec<_>) = self
            .servers()
            .iter()
            .cloned()
            .partition(|it| it.of_listener);
        // A listener that comes back takes its connections back.
        left.extend(self.retired().iter().cloned());
        let mut replaced = Vec::new();
        for spec in plan {
            let Some(new) = spec.handshake.clone() else {
                continue;
            };
            let known = left.iter().position(|it| it.address == spec.address);
            let server = match known.map(|at| left.remove(at).server) {
                Some(server) => {
                    replaced.push((Arc::clone(&server), new));
                    server
                }
                None => new,
            };
            spec.handshake = Some(Arc::clone(&server));
            all.push(NamedServer {
                address: spec.address.clone(),
                server,
                of_listener: true,
            });
        }
        NewServers {
            all,
            replaced,
            retired: left,
        }
    }

    /// Takes the files of a new configuration, and checks the open connections.
    pub(crate) fn commit(&self, new: NewServers, engine: &EngineHandle) {
        *self.servers() = new.all;
        *self.retired() = new.retired;
        for (server, new) in &new.replaced {
            server.replace(&**new);
        }
        if !new.replaced.is_empty() {
            self.reloads.fetch_add(1, Ordering::Relaxed);
            info!(
                "TLS of {}: the files were read again",
                counted(new.replaced.len() as u64, "listener")
            );
            engine.connections().recheck();
            self.log_problems();
        }
    }

    /// Reads the files again: all, or those that were written since. Logs what fails, and checks the open connections if
    /// something is new. Blocks.
    pub(crate) fn renew(&self, always: bool, engine: &EngineHandle) {
        let servers = self.servers().clone();
        self.renew_some(servers, always, engine);
    }

    /// Reads the files again of which a new configuration has not taken care: those of `--http`, and of listeners that are
    /// removed. Blocks.
    pub(crate) fn renew_others(&self, engine: &EngineHandle) {
        let servers = self.servers().clone();
        let others = servers.into_iter().filter(|it| !it.of_listener);
        self.renew_some(others.collect(), true, engine);
    }

    fn renew_some(&self, mut servers: Vec<NamedServer>, always: bool, engine: &EngineHandle) {
        self.retired().retain(|it| it.server.is_used());
        servers.extend(self.retired().iter().cloned());
        let mut is_new = false;
        for NamedServer {
            address, server, ..
        } in servers
        {
            match server.renew(always) {
                Ok(false) => {}
                Ok(true) => {
                    is_new = true;
                    self.reloads.fetch_add(1, Ordering::Relaxed);
                    info!("TLS of {address}: the files were read again");
                }
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    error!(
                        "TLS of {address}: new files refused, the old ones stay in effect: {}",
                        with_causes(&*error)
                    );
                }
            }
        }
        if is_new {
            engine.connections().recheck();
        }
        self.log_problems();
    }

    /// What a person should know, a line for each problem.
    pub(crate) fn problems(&self) -> Vec<String> {
        let servers = self.servers().clone();
        let problems = servers.iter().flat_map(|it| {
            let problems = it.server.problems().into_iter();
            problems.map(|problem| format!("TLS of {}: {problem}", it.address))
        });
        problems.collect()
    }

    /// Logs each problem once.
    fn log_problems(&self) {
        let problems = self.problems();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems.iter().filter(|it| !logged.contains(it)) {
            warn!("{problem}");
        }
        *logged = problems;
    }

    fn retired(&self) -> MutexGuard<'_, Vec<NamedServer>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn servers(&self) -> MutexGuard<'_, Vec<NamedServer>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks each minute whether a file was written, until the runtime ends.
pub(crate) async fn watch(servers: Arc<TlsServers>, engine: EngineHandle) {
    // The files were read a moment ago.
    servers.log_problems();
    let mut minutes = interval_at(Instant::now() + CHECK, CHECK);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        minutes.tick().await;
        let (servers, engine) = (Arc::clone(&servers), engine.clone());
        let renewed = tokio::task::spawn_blocking(move || servers.renew(false, &engine));
        if renewed.await.is_err() {
            return;
        }
    }
}

/// The metrics of the files.
#[derive(Debug)]
pub(crate) struct TlsCollector(pub(crate) Arc<TlsServers>);

impl Collector for TlsCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(servers) = self;
        let mut page = Page::from(encoder);
        page.counter(
            "blocksd_tls_reloads",
            "Times that files of TLS were read again",
            servers.reloads.load(Ordering::Relaxed),
        )?;
        page.counter(
            "blocksd_tls_reloads_failed",
            "Times that new files of TLS were refused",
            servers.failures.load(Ordering::Relaxed),
        )?;
        let ends: Vec<_> = servers
            .servers()
            .iter()
            .flat_map(|it| it.server.ends())
            .collect();
        let earliest = ["certificate", "ca", "crl"].into_iter().filter_map(|kind| {
            let ends = ends.iter().filter(|(of, _)| *of == kind);
            Some((kind, ends.map(|(_, end)| *end).min()?))
        });
        page.gauges(
            "blocksd_tls_not_after_seconds",
            "When the first certificate of a server or an authority expires, or the list of revoked certificates is to be updated, in seconds since 1970",
            "kind",
            earliest,
        )
    }
}
