//! Controls a running engine: an [`EngineHandle`] reads its state, applies settings and stops it.

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

/// An address to listen on, and the policies of its connections.
///
/// # Examples
/// ```
/// use blocksd_engine::ListenerSpec;
/// use blocksd_engine::connection::policy::Policy;
/// use framing_core::{AnyFraming, Lines};
///
/// let spec = ListenerSpec::new("unix:/run/sensors.sock", Policy::new(AnyFraming::Lines(Lines)));
/// assert_eq!(spec.address, "unix:/run/sensors.sock");
/// ```
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// The address, in the syntax of [`Address`](crate::listen::address::Address).
    pub address: String,
    /// The policies of its connections.
    pub policies: Policies,
}

impl ListenerSpec {
    /// Creates a specification. A single [`Policy`](crate::connection::policy::Policy) converts to [`Policies`].
    #[must_use]
    pub fn new(address: impl Into<String>, policies: impl Into<Policies>) -> Self {
        Self {
            address: address.into(),
            policies: policies.into(),
        }
    }
}

/// The settings that can change while an engine runs; see [`EngineHandle::apply`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// All listeners. Listeners that are not listed are closed.
    pub listeners: Vec<ListenerSpec>,
    /// The limits that apply to all connections together.
    pub bounds: Bounds,
    /// The devices with configured names.
    pub devices: DeviceTable,
}

/// The changes that [`EngineHandle::apply`] made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Listeners that were opened.
    pub added: Vec<Listening>,
    /// Addresses of listeners that were closed.
    pub removed: Vec<String>,
}

/// An open listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address as it was configured.
    pub address: String,
    /// The bound address, with the port that the system chose.
    pub name: Arc<str>,
    /// Default framing of its connections.
    pub framing: AnyFraming,
}

/// A handle to an engine. Clones refer to the same engine.
///
/// # Examples
/// Replaces the policy of a listener while the engine runs:
///
/// ```
/// use blocksd_engine::admission::identity::DeviceTable;
/// use blocksd_engine::connection::policy::Policy;
/// use blocksd_engine::permit::Bounds;
/// use blocksd_engine::{Engine, ListenerSpec, Settings};
/// use framing_core::{AnyFraming, Blocks, Lines};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), blocksd_engine::Error> {
/// let spec = |framing| ListenerSpec::new("127.0.0.1:0", Policy::new(framing));
/// let mut engine = Engine::builder().build();
/// engine.listen(vec![spec(AnyFraming::Lines(Lines))]).await?;
/// let handle = engine.handle().clone();
/// let running = tokio::spawn(engine.run());
/// let settings = Settings {
///     listeners: vec![spec(AnyFraming::Blocks(Blocks))],
///     bounds: Bounds::default(),
///     devices: DeviceTable::default(),
/// };
/// let applied = handle.apply(settings).await?;
/// assert!(applied.added.is_empty() && applied.removed.is_empty());
/// handle.stop();
/// running.await.expect("no panic")
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EngineHandle {
    counters: Arc<Counters>,
    pool: Arc<Pool>,
    connections: Arc<Connections>,
    spools: Arc<Spools>,
    devices: Arc<watch::Sender<Arc<DeviceTable>>>,
    /// Weak, because the sinks end when the last reference to the context is dropped.
    context: Arc<Mutex<Weak<EngineContext>>>,
    stop: CancellationToken,
    open: Arc<Mutex<OpenListeners>>,
    added: mpsc::UnboundedSender<Bound>,
    /// Locked while settings are applied.
    applying: Arc<tokio::sync::Mutex<()>>,
}

/// The open listeners.
#[derive(Debug)]
struct OpenListeners {
    binder: Binder,
    listeners: Vec<OpenListener>,
}

#[derive(Debug)]
struct OpenListener {
    address: String,
    /// The bound addresses: several if systemd passed several sockets.
    names: Vec<Arc<str>>,
    policies: watch::Sender<Arc<Policies>>,
    removed: CancellationToken,
}

/// A listener that is open, but not served yet.
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

    /// Creates the context that all connections share.
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

    /// Returns the counters.
    #[must_use]
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Returns the read buffers.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Returns the open connections.
    #[must_use]
    pub const fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Returns the messages that are stored for echo replies.
    #[must_use]
    pub const fn spools(&self) -> &Arc<Spools> {
        &self.spools
    }

    /// Returns the state shared by all connections, or `None` while the engine does not run.
    #[must_use]
    pub fn context(&self) -> Option<Arc<EngineContext>> {
        lock(&self.context).upgrade()
    }

    /// Shuts the engine down gracefully: bytes that have arrived are read and their messages sent to the sinks. Returns
    /// at once.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns the open listeners.
    #[must_use]
    pub fn listening(&self) -> Vec<Listening> {
        let open = lock(&self.open);
        open.listeners
            .iter()
            .flat_map(OpenListener::listening)
            .collect()
    }

    /// Applies settings to the running engine, completely or not at all. New listeners are opened first. Open
    /// connections keep their policies, and continue if their listener is closed. If an address is listed several
    /// times, such as one with port 0, the listeners are matched in order.
    ///
    /// If the future is dropped, the settings are not applied. New listeners may have been opened for a moment.
    ///
    /// # Errors
    /// [`Error::Listen`] or [`Error::Stopped`]. Nothing has changed then.
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
        // From here on nothing fails, unless the engine has stopped. The bounds change before the policies, so that the
        // memory for longer messages is available before such messages are accepted.
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

    /// Opens listeners, all or none. Resolves host names, which may take long.
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

    /// Hands listeners to the acceptor.
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
