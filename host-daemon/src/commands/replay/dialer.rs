//! Opens outgoing connections within the limits on descriptors and memory. Start with [`Dialer`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use framing_core::AnyFraming;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::commands::replay::pieces::{Collected, CutMessage, PieceCollector};
use crate::commands::replay::sender::{Queued, SendCommand, SenderTask};
use crate::commands::replay::session::{SessionFailure, SessionTask};
use crate::commands::replay::totals::ReplayTotals;
use crate::error::{CommandError, is_final};
use crate::tls::client::{ClientStream, Connector};
use blocksd_engine::listen::resolve::resolve;

/// How long to retry a failed connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay between two attempts.
const RETRY: Duration = Duration::from_millis(100);
/// Connections that may wait for their peer to close, besides as many as were open at once in the recording.
const CLOSING_MAX: usize = 32;
/// Descriptors for other things than connections: files of the recording, temporary files, and the runtime.
const OTHER_DESCRIPTORS: u64 = 32;
/// Batches in the queue of a connection.
const QUEUE_LEN: usize = 64;
/// Bytes in the queues of all connections.
const MEMORY: u32 = 64 << 20;
/// Memory of a batch besides its bytes.
const BATCH_COST: usize = 256;
/// Memory that a message in a temporary file counts as, so few files are in queues.
const STORED_COST: usize = (MEMORY / 16) as usize;
/// A wait for a peer is reported after this time.
const STALL: Duration = Duration::from_secs(10);

/// Opens and closes connections.
#[derive(Debug)]
pub(super) struct Dialer {
    address: String,
    connector: Connector,
    resolved: Vec<SocketAddr>,
    shared: Shared,
    /// Connections with everything in their queues.
    closing: Vec<Closing>,
    /// Connections that were opened.
    opened: usize,
    /// Most connections that were open at once in the recording.
    most: usize,
    /// Most connections that the limit on descriptors permits.
    max: usize,
    descriptors: u64,
    /// Messages are sent over sessions, and the first failure is stored here.
    session: Option<SessionFailure>,
}

/// What all connections share.
#[derive(Debug, Clone)]
struct Shared {
    memory: Arc<Semaphore>,
    totals: Arc<ReplayTotals>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Closing {
    device: Arc<str>,
    label: String,
    task: JoinHandle<()>,
}

/// An outgoing connection, and the recorded state that it follows.
#[derive(Debug)]
pub(super) struct OutgoingConnection {
    /// The device.
    pub(super) device: Arc<str>,
    /// Its open is not recorded.
    pub(super) is_implicit: bool,
    /// The recorded framing, once it is known.
    pub(super) recorded: Option<AnyFraming>,
    /// The framing in use, once it is known.
    pub(super) framing: Option<AnyFraming>,
    /// The message that is recorded in pieces.
    pub(super) pieces: PieceCollector,
    /// The end mark was sent after the last message.
    pub(super) is_ended: bool,
    /// Messages were sent.
    pub(super) has_messages: bool,
    /// Its messages are those of a session, in which the end of a series does not close the connection.
    pub(super) has_session: bool,
    /// A fault was recorded after the last message.
    pub(super) has_fault: bool,
    /// Number of the event that used it last.
    pub(super) used: u64,
    label: String,
    queue: mpsc::Sender<Queued>,
    task: JoinHandle<()>,
    shared: Shared,
}

impl Dialer {
    /// Connects to `address`.
    pub(super) fn new(
        address: &str,
        connector: Connector,
        totals: Arc<ReplayTotals>,
        stop: CancellationToken,
        session: Option<SessionFailure>,
    ) -> Self {
        // Without the limit, as many as are common.
        let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
        let max = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(1);
        Self {
            address: address.to_owned(),
            connector,
            resolved: Vec::new(),
            shared: Shared {
                memory: Arc::new(Semaphore::new(MEMORY as usize)),
                totals,
                stop,
            },
            closing: Vec::new(),
            opened: 0,
            most: 0,
            max: usize::try_from(max).unwrap_or(usize::MAX),
            descriptors,
            session,
        }
    }

    /// Number of connections that were opened.
    pub(super) const fn opened(&self) -> usize {
        self.opened
    }

    /// Whether `open` connections are as many as the system permits.
    pub(super) const fn is_full(&self, open: usize) -> bool {
        self.max <= open
    }

    /// Opens a connection for connection `conn` of a device, or 0 if its number is unknown. `open` others are open.
    ///
    /// Connections of a device do not overlap unless they did in the recording.
    pub(super) async fn open(
        &mut self,
        device: &Arc<str>,
        conn: u64,
        open: usize,
    ) -> Result<OutgoingConnection, CommandError> {
        self.closing.retain(|it| !it.task.is_finished());
        while let Some(index) = self.closing.iter().position(|it| it.device == *device) {
            self.wait_closed(index).await;
        }
        if self.is_full(open) {
            return Err(self.too_many(open));
        }
        self.most = self.most.max(open + 1);
        let most = self.most.saturating_add(CLOSING_MAX).min(self.max);
        while most <= open + self.closing.len() {
            self.wait_closed(0).await;
        }
        let label = match conn {
            0 => device.to_string(),
            conn => format!("{device}, connection {conn}"),
        };
        let (queue, receiver) = mpsc::channel(QUEUE_LEN);
        let task = match self.session.clone() {
            Some(failure) => self.session_task(device, &label, receiver, failure),
            None => self.sender_task(&label, receiver, open).await?,
        };
        self.opened += 1;
        Ok(OutgoingConnection {
            device: Arc::clone(device),
            is_implicit: false,
            recorded: None,
            has_session: false,
            framing: None,
            pieces: PieceCollector::default(),
            is_ended: false,
            has_messages: false,
            has_fault: false,
            used: 0,
            label,
            queue,
            task,
            shared: self.shared.clone(),
        })
    }

    /// Connects, and starts the task of the connection.
    async fn sender_task(
        &mut self,
        label: &str,
        queue: mpsc::Receiver<Queued>,
        open: usize,
    ) -> Result<JoinHandle<()>, CommandError> {
        let stream = loop {
            match self.connect().await {
                Ok(stream) => break stream,
                Err(error) if !is_descriptors(&error) => return Err(self.unreachable(error)),
                Err(_) if self.closing.is_empty() => return Err(self.too_many(open)),
                Err(_) => self.wait_closed(0).await,
            }
        };
        let task = SenderTask {
            label: label.to_owned(),
            queue,
            totals: Arc::clone(&self.shared.totals),
            stop: self.shared.stop.clone(),
            sent: 0,
            has_refused: false,
        };
        Ok(tokio::spawn(task.run(stream)))
    }

    /// Starts the task of a session, which connects by itself.
    fn session_task(
        &self,
        device: &Arc<str>,
        label: &str,
        queue: mpsc::Receiver<Queued>,
        failure: SessionFailure,
    ) -> JoinHandle<()> {
        let task = SessionTask {
            address: self.address.clone(),
            connector: self.connector.clone(),
            device: Arc::clone(device),
            label: label.to_owned(),
            queue,
            totals: Arc::clone(&self.shared.totals),
            stop: self.shared.stop.clone(),
            failure,
        };
        tokio::spawn(task.run())
    }

    /// Closes a connection after everything in its queue was sent. Does not wait.
    pub(super) fn close(&mut self, connection: OutgoingConnection) {
        self.closing.push(Closing {
            device: connection.device,
            label: connection.label,
            task: connection.task,
        });
    }

    /// Waits until all connections have ended.
    pub(super) async fn finish(&mut self) {
        while !self.closing.is_empty() {
            self.wait_closed(0).await;
        }
    }

    async fn wait_closed(&mut self, index: usize) {
        let Some(closing) = self.closing.get_mut(index) else {
            return;
        };
        let totals = &self.shared.totals;
        let ended = reported(&mut closing.task, totals, &closing.label).await;
        self.closing.remove(index);
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }

    /// Connects, and retries until the timeout has elapsed.
    async fn connect(&mut self) -> io::Result<ClientStream> {
        let until = Instant::now() + CONNECT_TIMEOUT;
        loop {
            match self.connect_once(until).await {
                Ok(stream) => return Ok(stream),
                Err(error)
                    if until <= Instant::now() || is_final(&error) || is_descriptors(&error) =>
                {
                    return Err(error);
                }
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    async fn connect_once(&mut self, until: Instant) -> io::Result<ClientStream> {
        if self.resolved.is_empty() {
            let address = self.address.clone();
            let resolving = tokio::task::spawn_blocking(move || resolve(&address));
            let resolved = timeout_at(until, resolving).await;
            let resolved = resolved.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            self.resolved = resolved.map_err(io::Error::other)??;
        }
        self.connector.connect(&self.resolved, Some(until)).await
    }

    fn unreachable(&self, error: io::Error) -> CommandError {
        let address = self.address.clone();
        match self.opened {
            // Only the first connection belongs to the start, whose errors have their own exit codes.
            0 => CommandError::Connect { address, error },
            _ => CommandError::Reconnect { address, error },
        }
    }

    const fn too_many(&self, open: usize) -> CommandError {
        CommandError::TooManyConnections {
            open,
            descriptors: self.descriptors,
        }
    }
}

impl OutgoingConnection {
    /// Queues something to send; waits while the queues are full. Once the connection has failed, drops it.
    pub(super) async fn send(&mut self, command: SendCommand) {
        let cost = match &command {
            SendCommand::Framing(_) | SendCommand::End => 0,
            SendCommand::Batch(batch) => batch.cost() + BATCH_COST,
            SendCommand::Message(bytes)
            | SendCommand::Cut(CutMessage {
                begun: Collected::Memory(bytes),
                ..
            }) => bytes.len() + BATCH_COST,
            SendCommand::Stored(message)
            | SendCommand::Cut(CutMessage {
                begun: Collected::Stored(message),
                ..
            }) => STORED_COST.max(message.len as usize),
        };
        let cost = u32::try_from(cost).unwrap_or(MEMORY).min(MEMORY);
        let (memory, queue) = (&self.shared.memory, &self.queue);
        let place = async {
            // A connection that fails meanwhile frees its memory.
            let place = queue.reserve().await.ok()?;
            let memory = Arc::clone(memory).acquire_many_owned(cost);
            memory.await.ok().map(|memory| (place, memory))
        };
        if let Some((place, memory)) = reported(place, &self.shared.totals, &self.label).await {
            place.send(Queued { command, memory });
        }
    }

    /// The device and the number of the connection.
    pub(super) fn label(&self) -> &str {
        &self.label
    }
}

/// Waits for a peer, and reports a wait that takes long.
async fn reported<T>(future: impl Future<Output = T>, totals: &ReplayTotals, label: &str) -> T {
    let mut future = pin!(future);
    if let Ok(done) = timeout(STALL, &mut future).await {
        return done;
    }
    let seconds = STALL.as_secs();
    totals.print(format_args!(
        "blocksd: {label}: still waiting after {seconds} s for the peer to accept data"
    ));
    future.await
}

/// Whether the process or the system has no descriptor left.
fn is_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
