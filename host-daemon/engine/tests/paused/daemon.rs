//! An engine on a paused clock, with devices that connect to it and a sink that collects its events. Start with
//! [`Daemon::start`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use blocksd_engine::Engine;
use blocksd_engine::batch::Item;
use blocksd_engine::connection::policy::Policy;
use blocksd_engine::engine::{Builder, EngineHandle};
use blocksd_engine::event::{EventKind, Peer};
use blocksd_engine::listen::transport::Transport;
use blocksd_engine::reason::CloseReason;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Events, Interest};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, DuplexStream, ReadBuf, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Capacity of a pipe in each direction, in bytes.
pub(crate) const PIPE_LEN: usize = 64 << 10;

/// Tolerance of asserted times, in simulated time: it does not depend on the speed of the machine.
const PRECISION: Duration = Duration::from_secs(1);

/// Longer than any timeout of a test, in simulated time.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The engine's end of a pipe.
#[derive(Debug)]
struct Pipe(BufReader<DuplexStream>);

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Transport for Pipe {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let bytes = Pin::new(&mut self.0).poll_fill_buf(context);
        bytes.map_ok(drop)
    }
}

/// A pipe with a capacity of `len` bytes in each direction: the end of the engine, and that of the device.
pub(crate) fn pipe(len: usize) -> (Box<dyn Transport>, DuplexStream) {
    let (near, far) = duplex(len);
    (Box::new(Pipe(BufReader::new(near))), far)
}

/// The events of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    /// Lengths of the complete messages.
    pub(crate) messages: Vec<usize>,
    /// Number of end marks.
    pub(crate) ends: usize,
    /// The text of each fault.
    pub(crate) faults: Vec<String>,
    /// Time and reason of the close.
    pub(crate) closed: Option<(Instant, CloseReason)>,
    /// Silences that began, and those that ended: the time, and the name of the device.
    pub(crate) silent: Vec<(Instant, String)>,
    pub(crate) back: Vec<(Instant, String)>,
}

impl Story {
    /// Asserts that the connection was closed for this reason, `timeout` after `since`.
    #[track_caller]
    pub(crate) fn assert_closed(&self, reason: CloseReason, since: Instant, timeout: Duration) {
        let (at, closed) = self.closed.expect("a closed connection");
        assert_eq!(closed, reason, "{self:?}");
        let after = at - since;
        assert!(
            timeout <= after && after < timeout + PRECISION,
            "closed after {after:?} instead of {timeout:?}"
        );
    }
}

/// The events of each connection, by its number: 0 has those of devices.
type Stories = Arc<Mutex<Vec<Story>>>;

/// A running engine with one sink.
pub(crate) struct Daemon {
    pub(crate) handle: EngineHandle,
    connections: mpsc::Sender<(Box<dyn Transport>, Peer)>,
    stories: Stories,
    /// Whether the sink receives events.
    taking: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Daemon {
    /// Starts an engine with a sink that receives events at once.
    pub(crate) fn start(policy: Policy) -> Self {
        Self::of(Engine::builder(), policy, 1024, true)
    }

    /// Starts an engine with a queue of this length. If `taking` is false, the sink receives nothing until
    /// [`take_events`](Self::take_events).
    pub(crate) fn of(builder: Builder, policy: Policy, queue_len: usize, taking: bool) -> Self {
        let mut engine = builder.build();
        let delivery = Delivery::Backpressure { queue_len };
        let events = engine.subscribe("test", Interest::All, delivery);
        let (connections, accepted) = mpsc::channel(4);
        engine.listen_on_channel("memory", accepted, policy);
        let stories = Stories::default();
        let (taking, is_taken) = watch::channel(taking);
        let handle = engine.handle().clone();
        let running = {
            let taken = tokio::spawn(take(events, Arc::clone(&stories), is_taken));
            tokio::spawn(async move {
                engine.run().await.unwrap();
                taken.await.unwrap();
            })
        };
        Self {
            handle,
            connections,
            stories,
            taking,
            running,
        }
    }

    /// Connects a device with the address 192.0.2.`host`, through a pipe.
    pub(crate) async fn connect(&self, host: u8) -> DuplexStream {
        self.connect_through(host, PIPE_LEN).await
    }

    /// The same, through a pipe with a capacity of `len` bytes in each direction.
    pub(crate) async fn connect_through(&self, host: u8, len: usize) -> DuplexStream {
        let (transport, far) = pipe(len);
        let peer = Peer::Network(SocketAddr::from(([192, 0, 2, host], 7)));
        self.connections.send((transport, peer)).await.unwrap();
        far
    }

    /// Lets the sink receive events from now on.
    pub(crate) fn take_events(&self) {
        self.taking.send_replace(true);
    }

    /// The events so far of the connection with this number, which begins at 1; those of devices for 0.
    pub(crate) fn story(&self, conn: usize) -> Story {
        let stories = self.stories.lock().unwrap();
        stories.get(conn).cloned().unwrap_or_default()
    }

    /// Waits until the connection is closed; returns all of its events.
    pub(crate) async fn until_closed(&self, conn: usize) -> Story {
        let begin = Instant::now();
        loop {
            let story = self.story(conn);
            if story.closed.is_some() {
                return story;
            }
            assert!(begin.elapsed() < DAY, "not closed: {story:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Shuts the engine down, and waits for its end. Returns the events of each connection, and the duration of the
    /// shutdown.
    pub(crate) async fn stop(self) -> (Vec<Story>, Duration) {
        let begin = Instant::now();
        self.handle.stop();
        self.running.await.unwrap();
        let mut stories = std::mem::take(&mut *self.stories.lock().unwrap());
        if !stories.is_empty() {
            stories.remove(0);
        }
        (stories, begin.elapsed())
    }
}

/// Receives events, and sorts them by connection.
async fn take(mut events: Events, stories: Stories, mut taking: watch::Receiver<bool>) {
    taking.wait_for(|taking| *taking).await.unwrap();
    while let Next::Event(event) = events.recv().await {
        let mut stories = stories.lock().unwrap();
        let index = event.source.conn as usize;
        let len = stories.len().max(index + 1);
        stories.resize_with(len, Story::default);
        let story = &mut stories[index];
        match event.kind {
            EventKind::Batch { batch, .. } => {
                for item in batch.items() {
                    match item {
                        Item::Message(message) => story.messages.push(message.len()),
                        Item::End => story.ends += 1,
                        Item::Fault(fault) => story.faults.push(fault.to_string()),
                        Item::Piece { .. } | Item::Reset | Item::AfterEnd { .. } => {}
                    }
                }
            }
            EventKind::Silent { .. } => {
                let device = event.source.device.to_string();
                story.silent.push((Instant::now(), device));
            }
            EventKind::Back { .. } => {
                let device = event.source.device.to_string();
                story.back.push((Instant::now(), device));
            }
            EventKind::Closed { reason, .. } => story.closed = Some((Instant::now(), reason)),
            _ => {}
        }
    }
}
