//! Controls a running engine: an [`EngineHandle`] reads its state, applies settings and stops it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::bound::{Bound, ListenerCloser, ListenerSettings, ListenerSlot};
use crate::admission::identity::DeviceTable;
use crate::admission::opening::Openings;
use crate::connection::context::EngineContext;
use crate::connection::reply::Spools;
use crate::counters::Counters;
use crate::device::DeviceRegistry;
use crate::engine::settings::{Applied, ListenerSpec, Listening, Settings};
use crate::error::Error;
use crate::listen::address::Address;
use crate::listen::listener::{Binder, Listener, Sockets};
use crate::permit::{Bounds, Connections};
use crate::pool::Pool;
use crate::session::Sessions;
use crate::sink::fanout::Fanout;

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
    devices: Arc<DeviceRegistry>,
    pool: Arc<Pool>,
    connections: Arc<Connections>,
    openings: Arc<Openings>,
    spools: Arc<Spools>,
    sessions: Option<Arc<Sessions>>,
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
    /// The devices with configured names.
    devices: Arc<DeviceTable>,
    listeners: Vec<OpenListener>,
}

#[derive(Debug)]
struct OpenListener {
    address: String,
    /// The bound addresses: several if systemd passed several sockets.
    names: Vec<Arc<str>>,
    settings: watch::Sender<Arc<ListenerSettings>>,
    removed: CancellationToken,
    /// Close the listeners while no task accepts their connections.
    closers: Vec<ListenerCloser>,
    /// Tracks the listeners until they are closed.
    open: TaskTracker,
}

/// A listener that is open, but not served yet.
pub(super) type Opened = (ListenerSpec, Vec<Listener>);

impl EngineHandle {
    pub(super) fn new(
        bounds: Bounds,
        (devices, registry): (DeviceTable, Arc<DeviceRegistry>),
        sockets: Sockets,
        echo_max_bytes: (u64, u64),
        sessions: Option<Arc<Sessions>>,
        stop: CancellationToken,
        added: mpsc::UnboundedSender<Bound>,
    ) -> Self {
        let (each, all) = echo_max_bytes;
        Self {
            counters: Arc::default(),
            devices: registry,
            pool: Pool::new(),
            openings: Openings::new(&bounds),
            connections: Connections::new(bounds),
            spools: Spools::new(each, all),
            sessions,
            context: Arc::default(),
            stop,
            open: Arc::new(Mutex::new(OpenListeners {
                binder: Binder::new(sockets),
                devices: Arc::new(devices),
                listeners: Vec::new(),
            })),
            added,
            applying: Arc::default(),
        }
    }

    /// Creates the context that all connections share.
    pub(super) fn run(&self, fanout: Fanout) -> Arc<EngineContext> {
        let context = Arc::new(EngineContext {
            devices: Arc::clone(&self.devices),
            pool: Arc::clone(&self.pool),
            counters: Arc::clone(&self.counters),
            fanout,
            connections: Arc::clone(&self.connections),
            spools: Arc::clone(&self.spools),
            sessions: self.sessions.clone(),
            stop: self.stop.clone(),
        });
        *lock(&self.context) = Arc::downgrade(&context);
        context
    }

    /// Returns the counters.
    #[must_use]
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Returns the devices, and what each has sent.
    #[must_use]
    pub const fn devices(&self) -> &Arc<DeviceRegistry> {
        &self.devices
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

    /// Returns the connections that are not admitted yet.
    pub(super) const fn openings(&self) -> &Arc<Openings> {
        &self.openings
    }

    /// Returns the messages that are stored for echo replies.
    #[must_use]
    pub const fn spools(&self) -> &Arc<Spools> {
        &self.spools
    }

    /// Returns the sessions, if the engine has any.
    #[must_use]
    pub const fn sessions(&self) -> Option<&Arc<Sessions>> {
        self.sessions.as_ref()
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

    /// Returns the open listeners: none after the engine has ended.
    #[must_use]
    pub fn listening(&self) -> Vec<Listening> {
        let open = lock(&self.open);
        if self.added.is_closed() {
            return Vec::new();
        }
        open.listeners
            .iter()
            .flat_map(OpenListener::listening)
            .collect()
    }

    /// Applies settings to the running engine, completely or not at all. New listeners are opened first. Open
    /// connections keep their policies, and continue if their listener is closed; only a serial line ends its connection
    /// when it is closed. A new connection gets its name and its policy from the same settings. If an address is listed
    /// several times, such as one with port 0, the listeners are matched in order.
    ///
    /// Returns when the removed listeners are closed, so that their addresses can be listened on again. Their last
    /// connections are accepted before, for a quarter of a second at most.
    ///
    /// If the future is dropped, the settings are applied completely or not at all. New listeners may have been opened
    /// for a moment, and removed ones may still be open for a moment.
    ///
    /// # Errors
    /// [`Error::Listen`] or [`Error::Stopped`]. Nothing has changed then.
    pub async fn apply(&self, settings: Settings) -> Result<Applied, Error> {
        let _applying = self.applying.lock().await;
        if self.added.is_closed() {
            return Err(Error::Stopped);
        }
        let Settings {
            listeners,
            bounds,
            devices,
        } = settings;
        let Plan {
            kept,
            new,
            removed: mut open,
        } = Plan::new(&lock(&self.open).listeners, listeners);
        let released = open.iter().flatten().cloned().collect();
        let opened = self.open_all(new, released).await?;
        // From here on nothing fails, unless the engine has stopped. The bounds change before the policies, so that the
        // memory for longer messages is available before such messages are accepted.
        if self.added.is_closed() {
            return Err(Error::Stopped);
        }
        self.connections.set_bounds(&bounds);
        self.openings.set_bounds(&bounds);
        let mut applied = Applied::default();
        let removed = {
            let mut now = lock(&self.open);
            now.devices = Arc::new(devices);
            for (at, spec) in kept {
                if let Some(listener) = now.listeners.get(at) {
                    let settings = spec.settings(&now.devices);
                    listener.settings.send_replace(Arc::new(settings));
                }
            }
            open.resize(now.listeners.len(), None);
            let mut is_removed = open.iter().map(Option::is_some);
            let (removed, left) = std::mem::take(&mut now.listeners)
                .into_iter()
                .partition::<Vec<_>, _>(|_| is_removed.next().unwrap_or_default());
            now.listeners = left;
            let first_new = now.listeners.len();
            // New listeners go first: the engine ends when it has none.
            let result = now.add(opened, &removed, &self.added);
            for listener in &removed {
                listener.remove();
            }
            result?;
            let added = now.listeners.iter().skip(first_new);
            applied.added = added.flat_map(OpenListener::listening).collect();
            removed
        };
        for listener in removed {
            listener.open.wait().await;
            applied.removed.push(listener.address);
        }
        Ok(applied)
    }

    /// Opens listeners, all or none, while those at the addresses in `released` are about to be closed. Resolves host
    /// names, which may take long.
    pub(super) async fn open_all(
        &self,
        listeners: Vec<ListenerSpec>,
        released: Vec<String>,
    ) -> Result<Vec<Opened>, Error> {
        if listeners.is_empty() {
            return Ok(Vec::new());
        }
        let open = Arc::clone(&self.open);
        let opening = tokio::task::spawn_blocking(move || {
            let mut open = lock(&open);
            let mut opened = Vec::new();
            for spec in listeners {
                match open.binder.bind_replacing(&spec.address, &released) {
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
        lock(&self.open).add(opened, &[], &self.added)
    }
}

/// What to do with listeners so that they become those of new settings.
struct Plan {
    /// Indexes of open listeners that stay open, with their new settings.
    kept: Vec<(usize, ListenerSpec)>,
    new: Vec<ListenerSpec>,
    /// For each open listener, its address if it is to be closed.
    removed: Vec<Option<String>>,
}

impl Plan {
    fn new(open: &[OpenListener], listeners: Vec<ListenerSpec>) -> Self {
        let mut plan = Self {
            kept: Vec::new(),
            new: Vec::new(),
            removed: open.iter().map(|it| Some(it.address.clone())).collect(),
        };
        // Which sockets `systemd` stands for depends on the names that other listeners use.
        let before = passed_sockets(open.iter().map(|it| &*it.address));
        let is_changed = before != passed_sockets(listeners.iter().map(|it| &*it.address));
        for spec in listeners {
            let is_kept = spec.address != ALL_PASSED || !is_changed;
            let mut open = plan.removed.iter();
            match open.position(|it| it.as_ref() == Some(&spec.address) && is_kept) {
                Some(at) => {
                    plan.removed[at] = None;
                    plan.kept.push((at, spec));
                }
                None => plan.new.push(spec),
            }
        }
        plan
    }
}

/// The address of all sockets that systemd passed and no other listener names.
const ALL_PASSED: &str = "systemd";

/// Returns the addresses that stand for sockets that systemd passed.
fn passed_sockets<'a>(addresses: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let is_passed = |address: &&str| matches!(address.parse(), Ok(Address::Systemd(_)));
    addresses.filter(is_passed).collect()
}

impl OpenListeners {
    /// Hands listeners to the acceptor through `added`. A serial line is not opened before the lines among `removed` are
    /// closed: it may be one of them, with other settings.
    fn add(
        &mut self,
        opened: Vec<Opened>,
        removed: &[OpenListener],
        added: &mpsc::UnboundedSender<Bound>,
    ) -> Result<(), Error> {
        let lines = removed.iter().filter(|it| it.is_serial());
        let lines: Vec<_> = lines.map(|it| it.open.clone()).collect();
        for (spec, listeners) in opened {
            let address = spec.address.clone();
            let settings = spec.settings(&self.devices);
            let (sender, settings) = watch::channel(Arc::new(settings));
            let mut listener = OpenListener {
                names: listeners.iter().map(|it| Arc::clone(it.name())).collect(),
                settings: sender,
                removed: CancellationToken::new(),
                closers: Vec::new(),
                open: TaskTracker::new(),
                address,
            };
            let address: Arc<str> = listener.address.as_str().into();
            for socket in listeners {
                let slot = ListenerSlot::new(socket, &listener.open);
                listener.closers.push(slot.closer());
                let bound = Bound {
                    address: Arc::clone(&address),
                    listener: slot,
                    settings: settings.clone(),
                    removed: listener.removed.clone(),
                    after: if listener.is_serial() {
                        lines.clone()
                    } else {
                        Vec::new()
                    },
                };
                added.send(bound).map_err(|_| Error::Stopped)?;
            }
            self.listeners.push(listener);
        }
        Ok(())
    }
}

impl OpenListener {
    /// Closes the listener. `open` is empty when that is done.
    fn remove(&self) {
        self.removed.cancel();
        self.open.close();
        for closer in &self.closers {
            closer.close();
        }
    }

    fn is_serial(&self) -> bool {
        matches!(self.address.parse(), Ok(Address::Serial(_)))
    }

    fn listening(&self) -> impl Iterator<Item = Listening> {
        let framing = self.settings.borrow().policies.default_policy().framing;
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
