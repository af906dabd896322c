//! The engine connects listeners, connections and sinks: a [`Builder`] builds it, and [`Engine::run`] runs it.

mod collector;
mod device_collector;
mod handle;
mod settings;
mod silence;
mod sinks;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::error;

pub use self::collector::EngineCollector;
pub use self::device_collector::DeviceCollector;
pub use self::handle::EngineHandle;
pub use self::settings::{Applied, ListenerSpec, Listening, Settings};
use self::sinks::{AddedSink, SinkThread, end_all};
pub use crate::admission::accept::STOP_MAX;
pub use crate::admission::opening::OPENINGS_MIN;

use crate::admission::accept::Acceptor;
use crate::admission::bound::Bound;
use crate::admission::identity::{DeviceBy, DeviceTable};
use crate::connection::QUIET;
use crate::connection::policy::Policies;
use crate::device::DeviceRegistry;
use crate::error::Error;
use crate::event::Peer;
use crate::listen::listener::{Listener, Sockets};
use crate::listen::transport::Transport;
use crate::permit::{Bounds, Connections};
use crate::session::Sessions;
use crate::sink::fanout::Fanout;
use crate::sink::{Delivery, Events, Interest, Sink};

/// Configures an engine. [`Engine::builder`] returns one with default settings.
///
/// # Examples
/// ```
/// use blocksd_engine::Engine;
/// use blocksd_engine::admission::identity::DeviceBy;
/// use blocksd_engine::permit::Bounds;
///
/// let engine = Engine::builder()
///     .bounds(Bounds { connections: 100, ..Bounds::default() })
///     .device_by(DeviceBy::Peer)
///     .build();
/// assert!(engine.handle().listening().is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    bounds: Bounds,
    device_by: DeviceBy,
    devices: DeviceTable,
    max_gone_devices: usize,
    sockets: Sockets,
    once: bool,
    echo_max_bytes: (u64, u64),
    sessions: Option<Arc<Sessions>>,
    stop: CancellationToken,
}

/// Receives messages from many devices, and sends them to sinks.
///
/// # Examples
/// ```
/// use blocksd_engine::connection::policy::Policy;
/// use blocksd_engine::engine::{Engine, ListenerSpec};
/// use blocksd_engine::sink::{Delivery, Interest};
/// use framing_core::{AnyFraming, Lines};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), blocksd_engine::error::Error> {
/// let mut engine = Engine::builder().build();
/// let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
/// let policy = Policy::new(AnyFraming::Lines(Lines));
/// engine.listen(vec![ListenerSpec::new("127.0.0.1:0", policy)]).await?;
/// # engine.handle().stop();
/// engine.run().await?;
/// # let _ = events.poll();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Engine {
    acceptor: (DeviceBy, bool),
    fanout: Fanout,
    sinks: Vec<AddedSink>,
    handle: EngineHandle,
    added: mpsc::UnboundedReceiver<Bound>,
}

impl Builder {
    /// Sets the limits that apply to all connections together.
    #[must_use]
    pub const fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Sets the rule by which connections are grouped into devices.
    #[must_use]
    pub const fn device_by(mut self, device_by: DeviceBy) -> Self {
        self.device_by = device_by;
        self
    }

    /// Sets the devices with configured names.
    #[must_use]
    pub fn devices(mut self, devices: DeviceTable) -> Self {
        self.devices = devices;
        self
    }

    /// Sets how many devices are remembered after their last connection was closed. Default: 1000.
    #[must_use]
    pub const fn max_gone_devices(mut self, max_gone: usize) -> Self {
        self.max_gone_devices = max_gone;
        self
    }

    /// Sets the socket options of all TCP listeners.
    #[must_use]
    pub const fn sockets(mut self, sockets: Sockets) -> Self {
        self.sockets = sockets;
        self
    }

    /// With `true`, serves only the first connection.
    #[must_use]
    pub const fn once(mut self, once: bool) -> Self {
        self.once = once;
        self
    }

    /// Sets how many bytes may be stored for echo replies: of one connection, and of all.
    #[must_use]
    pub const fn echo_max_bytes(mut self, each: u64, all: u64) -> Self {
        self.echo_max_bytes = (each, all);
        self
    }

    /// Sets the sessions that devices may open, where the [policy](crate::connection::policy::SessionPolicy) of their listener
    /// allows it. A sink must [write](crate::session::Session::write) and sync them.
    #[must_use]
    pub fn sessions(mut self, sessions: Option<Arc<Sessions>>) -> Self {
        self.sessions = sessions;
        self
    }

    /// Sets a token that stops the engine when it is cancelled.
    #[must_use]
    pub fn stop(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// Builds the engine. Opens no socket.
    #[must_use]
    pub fn build(self) -> Engine {
        let (listeners, added) = mpsc::unbounded_channel();
        let handle = EngineHandle::new(
            self.bounds,
            (self.devices, DeviceRegistry::new(self.max_gone_devices)),
            self.sockets,
            self.echo_max_bytes,
            self.sessions,
            self.stop,
            listeners,
        );
        Engine {
            acceptor: (self.device_by, self.once),
            fanout: Fanout::counting(Arc::clone(handle.counters())),
            sinks: Vec::new(),
            handle,
            added,
        }
    }
}

impl Engine {
    /// Returns a builder with default settings: at most 10,000 connections, a device for each IP address, and no memory
    /// for echo replies.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            bounds: Bounds::default(),
            device_by: DeviceBy::default(),
            devices: DeviceTable::default(),
            max_gone_devices: 1000,
            sockets: Sockets::default(),
            once: false,
            echo_max_bytes: (0, 0),
            sessions: None,
            stop: CancellationToken::new(),
        }
    }

    /// Adds a sink. It runs on a dedicated thread, which [`run`](Self::run) starts.
    pub fn add_sink(&mut self, sink: Box<dyn Sink>, delivery: Delivery) {
        let events = self.fanout.add(sink.name(), sink.interest(), delivery);
        self.sinks.push(AddedSink {
            sink,
            delivery,
            events,
        });
    }

    /// Adds a sink that the caller runs, and returns its events. With [`Delivery::Backpressure`], the caller must
    /// receive the events, or drop them.
    pub fn subscribe(
        &mut self,
        name: &'static str,
        interest: Interest,
        delivery: Delivery,
    ) -> Events {
        self.fanout.add(name, interest, delivery)
    }

    /// Opens listeners. [`run`](Self::run) accepts their connections.
    ///
    /// # Errors
    /// [`Error::Listen`] if an address cannot be listened on. Then none of these listeners is open.
    pub async fn listen(&mut self, listeners: Vec<ListenerSpec>) -> Result<(), Error> {
        let opened = self.handle.open_all(listeners, Vec::new()).await?;
        self.handle.add(opened)
    }

    /// Adds a listener that takes connections from a channel instead of a socket. `name` stands for its address.
    pub fn listen_on_channel(
        &mut self,
        name: &str,
        connections: mpsc::Receiver<(Box<dyn Transport>, Peer)>,
        policies: impl Into<Policies>,
    ) {
        let listener = Listener::from_channel(name, connections);
        let spec = ListenerSpec::new(name, policies);
        // Adding cannot fail: the receiver is in this engine.
        let _ = self.handle.add(vec![(spec, vec![listener])]);
    }

    /// Returns a handle that remains usable while the engine runs.
    #[must_use]
    pub const fn handle(&self) -> &EngineHandle {
        &self.handle
    }

    /// Runs the engine until it is stopped, or until no listener and no connection is left. Then waits until the sinks
    /// have received all events and have ended.
    ///
    /// Dropping the future stops the engine, as [`EngineHandle::stop`] does, without a wait: listeners are closed,
    /// connections read what has arrived and close, and sinks get their last events and end. That needs the runtime to
    /// continue.
    ///
    /// # Errors
    /// [`Error::Sink`] for the first sink with backpressure that failed, or for a sink that panicked;
    /// [`Error::Undelivered`] if connections could not close, because a queue that the caller receives from stayed full;
    /// [`Error::Thread`] if a thread cannot be started.
    pub async fn run(self) -> Result<(), Error> {
        let Self {
            acceptor: (device_by, once),
            fanout,
            sinks,
            handle,
            added,
        } = self;
        let has_sinks = !fanout.is_empty();
        let openings = Arc::clone(handle.openings());
        let context = handle.run(fanout);
        let mut running = StopOnDrop {
            stop: context.stop.clone(),
            connections: Arc::clone(&context.connections),
            is_running: true,
        };
        let sinks = sinks.into_iter();
        let threads = sinks.map(|sink| SinkThread::start(sink, context.stop.clone()));
        let threads = threads.collect::<Result<Vec<_>, _>>()?;
        tokio::spawn(silence::watch(Arc::downgrade(&context)));
        // The sinks end when the last connection, and this function, have dropped the context.
        let acceptor = Acceptor::new(device_by, once, context, openings);
        let connections = acceptor.connections().clone();
        acceptor.serve(added).await;
        let mut result = Ok(());
        for ended in end_all(threads).await {
            match (ended, &result) {
                (Err(error), Ok(())) => result = Err(error),
                (Err(error), Err(_)) => error!("{error}"),
                (Ok(()), _) => {}
            }
        }
        // The last event of a connection may end a sink a moment before the task of the connection ends.
        connections.close();
        let closed = tokio::time::timeout(QUIET, connections.wait()).await;
        if has_sinks && closed.is_err() && result.is_ok() {
            let connections = connections.len();
            result = Err(Error::Undelivered { connections });
        }
        running.is_running = false;
        result
    }
}

/// Stops the engine if [`Engine::run`] is dropped before it has ended.
struct StopOnDrop {
    stop: CancellationToken,
    connections: Arc<Connections>,
    is_running: bool,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if self.is_running {
            self.stop.cancel();
            self.connections.stop();
        }
    }
}
