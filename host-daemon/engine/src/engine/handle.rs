//! A running engine, seen from outside: an [`EngineHandle`] reads its state, changes its settings and stops it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use framing_core::AnyFraming;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::admission::accept::Bound;
use crate::admission::identity::DeviceTable;
use crate::connection::context::EngineContext;
use crate::connection::policy::Policies;
use crate::connection::reply::Spools;
use crate::counters::Counters;
use crate::error::Error;
use crate::listen::listener::{Binder, Listener, Sockets};
use crate::permit::{Bounds, Connections};
use crate::pool::Pool;
use crate::sink::fanout::Fanout;

/// An address to listen on, and how its connections are treated.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// As an [`Address`](crate::listen::address::Address) is written.
    pub address: String,
    /// How its connections are treated.
    pub policies: Policies,
}

impl ListenerSpec {
    /// An address whose connections are all treated in this way.
    #[must_use]
    pub fn new(address: impl Into<String>, policies: impl Into<Policies>) -> Self {
        Self {
            address: address.into(),
            policies: policies.into(),
        }
    }
}

/// What can be changed while an engine runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All listeners that there are to be.
    pub listeners: Vec<ListenerSpec>,
    /// The bounds that all connections share.
    pub bounds: Bounds,
    /// The devices that have names of their own.
    pub devices: DeviceTable,
}

/// What [`EngineHandle::apply`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Listeners that were opened.
    pub added: Vec<Listening>,
    /// Addresses that are not listened on any more.
    pub removed: Vec<String>,
}

/// A listener that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address as it was given.
    pub address: String,
    /// The address with the port that the system chose.
    pub name: Arc<str>,
    /// The framing of its connections.
    pub framing: AnyFraming,
}

/// What remains usable while the engine runs.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    counters: Arc<Counters>,
    pool: Arc<Pool>,
    connections: Arc<Connections>,
    spools: Arc<Spools>,
    devices: Arc<watch::Sender<Arc<DeviceTable>>>,
    /// Weak: the sinks end when nothing can send to them any more.
    context: Arc<Mutex<Weak<EngineContext>>>,
    stop: CancellationToken,
    open: Arc<Mutex<OpenListeners>>,
    added: mpsc::UnboundedSender<Bound>,
    /// Held while settings are applied.
    applying: Arc<tokio::sync::Mutex<()>>,
}

/// The listeners that are open.
#[derive(Debug)]
struct OpenListeners {
    binder: Binder,
    listeners: Vec<OpenListener>,
}

#[derive(Debug)]
struct OpenListener {
    address: String,
    /// The sockets: several if the service manager has passed several.
    names: Vec<Arc<str>>,
    policies: watch::Sender<Arc<Policies>>,
    removed: CancellationToken,
}

/// A listener that is opened, and not served yet.
pub(super) type Opened = (ListenerSpec, Vec<Listener>);

impl EngineHandle {
    pub(super) fn new(
        bounds: Bounds,
        devices: DeviceTable,
        sockets: Sockets,
        echo_max_bytes: (u64, u64),
        stop: CancellationToken,
        added: mpsc::UnboundedSender<Bound>,
    ) -> Self {
        let (each, all) = echo_max_bytes;
        Self {
            counters: Arc::default(),
            pool: Pool::new(),
            connections: Connections::new(bounds),
            spools: Spools::new(each, all),
            devices: Arc::new(watch::Sender::new(Arc::new(devices))),
            context: Arc::default(),
            stop,
            open: Arc::new(Mutex::new(OpenListeners {
                binder: Binder::new(sockets),
                listeners: Vec::new(),
            })),
            added,
            applying: Arc::default(),
        }
    }

    /// What all connections share, from now on.
    pub(super) fn run(&self, fanout: Fanout) -> Arc<EngineContext> {
        let context = Arc::new(EngineContext {
            pool: Arc::clone(&self.pool),
            counters: Arc::clone(&self.counters),
            fanout,
            connections: Arc::clone(&self.connections),
            spools: Arc::clone(&self.spools),
            stop: self.stop.clone(),
        });
        *lock(&self.context) = Arc::downgrade(&context);
        context
    }

    pub(super) fn devices(&self) -> watch::Receiver<Arc<DeviceTable>> {
        self.devices.subscribe()
    }

    /// The totals.
    #[must_use]
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The read buffers.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The open connections.
    #[must_use]
    pub const fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Messages that are kept to be echoed.
    #[must_use]
    pub const fn spools(&self) -> &Arc<Spools> {
        &self.spools
    }

    /// What all connections share; `None` if the engine does not run.
    #[must_use]
    pub fn context(&self) -> Option<Arc<EngineContext>> {
        lock(&self.context).upgrade()
    }

    /// Shuts the engine down gracefully: what has arrived is read and passed on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// The listeners that are open.
    #[must_use]
    pub fn listening(&self) -> Vec<Listening> {
        let open = lock(&self.open);
        open.listeners
            .iter()
            .flat_map(OpenListener::listening)
            .collect()
    }

    /// Changes the running engine to these settings, or not at all. New listeners are opened first. Connections that are
    /// open keep their policies, and go on if their listener is removed. Of an address that is given several times, such
    /// as one with port 0, the first is the first.
    ///
    /// # Errors
    /// [`Error::Listen`], [`Error::Stopped`]: nothing has changed.
    pub async fn apply(&self, settings: Settings) -> Result<Applied, Error> {
        let _applying = self.applying.lock().await;
        let Settings {
            listeners,
            bounds,
            devices,
        } = settings;
        let mut open: Vec<_> = {
            let open = lock(&self.open);
            let addresses = open.listeners.iter().map(|it| it.address.clone());
            addresses.map(Some).collect()
        };
        let mut kept = Vec::new();
        let mut new = Vec::new();
        for spec in listeners {
            let at = open
                .iter()
                .position(|it| it.as_ref() == Some(&spec.address));
            match at {
                Some(at) => {
                    open[at] = None;
                    kept.push((at, spec.policies));
                }
                None => new.push(spec),
            }
        }
        let opened = self.open_all(new).await?;
        // From here on nothing fails, unless the engine has stopped. Before the policies: a longer message that is taken
        // has its memory.
        if self.added.is_closed() {
            return Err(Error::Stopped);
        }
        self.connections.set_bounds(&bounds);
        self.devices.send_replace(Arc::new(devices));
        let mut applied = Applied::default();
        {
            let mut now = lock(&self.open);
            for (at, policies) in kept {
                if let Some(listener) = now.listeners.get(at) {
                    listener.policies.send_replace(Arc::new(policies));
                }
            }
            let first_new = now.listeners.len();
            drop(now);
            self.add(opened)?;
            now = lock(&self.open);
            let added = now.listeners.iter().skip(first_new);
            applied.added = added.flat_map(OpenListener::listening).collect();
            let mut index = 0;
            now.listeners.retain(|listener| {
                let is_removed = matches!(open.get(index), Some(Some(_)));
                index += 1;
                if is_removed {
                    listener.removed.cancel();
                    applied.removed.push(listener.address.clone());
                }
                !is_removed
            });
        }
        Ok(applied)
    }

    /// Opens listeners, all or none. Resolves names, which may take long.
    pub(super) async fn open_all(
        &self,
        listeners: Vec<ListenerSpec>,
    ) -> Result<Vec<Opened>, Error> {
        if listeners.is_empty() {
            return Ok(Vec::new());
        }
        let open = Arc::clone(&self.open);
        let opening = tokio::task::spawn_blocking(move || {
            let mut open = lock(&open);
            let mut opened = Vec::new();
            for spec in listeners {
                match open.binder.bind(&spec.address) {
                    Ok(sockets) => opened.push((spec, sockets)),
                    Err(source) => {
                        let address = spec.address;
                        return Err(Error::Listen { address, source });
                    }
                }
            }
            Ok(opened)
        });
        match opening.await {
            Ok(opened) => opened,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::Stopped),
            },
        }
    }

    /// Has listeners served.
    pub(super) fn add(&self, opened: Vec<Opened>) -> Result<(), Error> {
        let mut open = lock(&self.open);
        for (ListenerSpec { address, policies }, listeners) in opened {
            let (sender, policies) = watch::channel(Arc::new(policies));
            let removed = CancellationToken::new();
            let names = listeners.iter().map(|it| Arc::clone(it.name())).collect();
            for listener in listeners {
                let bound = Bound {
                    address: address.as_str().into(),
                    listener,
                    policies: policies.clone(),
                    removed: removed.clone(),
                };
                self.added.send(bound).map_err(|_| Error::Stopped)?;
            }
            open.listeners.push(OpenListener {
                address,
                names,
                policies: sender,
                removed,
            });
        }
        Ok(())
    }
}

impl OpenListener {
    fn listening(&self) -> impl Iterator<Item = Listening> {
        let framing = self.policies.borrow().default_policy().framing;
        self.names.iter().map(move |name| Listening {
            address: self.address.clone(),
            name: Arc::clone(name),
            framing,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
