//! One connection: [`Connection`] reads from a transport, finds messages, and passes them to the sinks.

pub mod context;
mod deadline;
mod emit;
mod guard;
mod memory;
pub mod policy;
pub mod reply;
pub mod responder;
mod session;
mod step;
mod task;
mod waits;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use framing_core::{AnyDecoder, Framing, Part};
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tracing::{debug, error};

use self::context::EngineContext;
use self::deadline::{Deadlines, cut};
use self::policy::Policy;
use self::responder::ReplyError;
use self::session::{SendingSide, may_begin_with_hello};
use self::step::{PendingSend, Step};
use self::task::Running;
use crate::batch::{Batch, Decoded, WholeMessages};
use crate::certificate::PeerCertificate;
use crate::event::{ConnectionInfo, Event, EventKind, Peer, StreamPosition};
use crate::listen::transport::Transport;
use crate::moment::Moment;
use crate::peer_log::{Kind, warn_peer};
use crate::permit::ConnectionPermit;
use crate::pool::{BUFFER_LEN, Buffer, ConnectionQuota};
use crate::reason::CloseReason;

/// Silence after which a connection, or a listener, is finished during a shutdown.
pub(crate) const QUIET: Duration = Duration::from_millis(20);

/// Longest time for the last reads of a connection, and the last accepts of a listener, during a shutdown.
pub(crate) const LAST_READS: Duration = Duration::from_millis(250);

/// Reads before the task yields to others. Yielding earlier costs a system call or two, and often moves the task to a
/// core with a cold cache.
const READS_MAX: usize = 16;

/// Writes of a responder before the connection reads, and yields to others.
const WRITES_MAX: usize = 64;

/// Bytes per read when no queue needs messages. The next read reuses the same memory: with more than this, copying in
/// the kernel evicts too much of it from the cache.
const READ_LEN: usize = BUFFER_LEN / 2;

/// Least length of an incomplete message that may [trickle](Connection::trickles), in bytes.
const TRICKLE_MIN: usize = 1 << 10;

/// The receiving side of one connection.
///
/// Ten thousand of these may be idle, so its task is small: it waits for readable bytes, for a request to close and for
/// a deadline, and handles them without waiting. An operation that must wait gets a future of its own, allocated for
/// its duration.
#[derive(Debug)]
pub struct Connection {
    source: Arc<ConnectionInfo>,
    transport: Box<dyn Transport>,
    policy: Arc<Policy>,
    context: Arc<EngineContext>,
    decoder: AnyDecoder,
    /// The bytes of an incomplete message. An idle connection holds no other memory.
    remainder: Vec<u8>,
    /// The last batch was full, so `remainder` may contain complete messages. Decode it before reading more.
    undecoded: bool,
    /// Within an oversize message that is emitted in pieces.
    streaming: bool,
    /// The stream ended within a series.
    series_open: bool,
    /// The incomplete message grows by small reads, so it stays in memory of its own between them.
    trickles: bool,
    /// The connection was emitted as opened, and not as closed yet.
    is_open: bool,
    /// The decision from the first bytes.
    beginning: Beginning,
    /// When the connection was opened, until it is decided that it is one of the device of `source`.
    undecided: Option<Moment>,
    /// Bytes up to the end of the current message; `u32::MAX` if unknown.
    want: u32,
    /// The first bytes, to recognise a peer that uses another protocol.
    greeting: [u8; 4],
    position: StreamPosition,
    bytes: u64,
    /// Faults, up to 65,535.
    faults: u16,
    quota: ConnectionQuota,
    sending: Option<Box<SendingSide>>,
    deadlines: Deadlines,
    permit: ConnectionPermit,
}

/// Whether the first bytes of a connection have decided if it has a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// No byte has arrived.
    Silent,
    /// The first bytes may be a HELLO, or plain messages.
    Undecided,
    /// The connection has a session, or sends plain messages.
    Decided,
}

impl Connection {
    /// Creates the connection with number `conn`.
    #[must_use]
    pub fn new(
        conn: u64,
        device: Arc<str>,
        transport: Box<dyn Transport>,
        policy: Arc<Policy>,
        engine: Arc<EngineContext>,
        permit: ConnectionPermit,
    ) -> Self {
        let source = ConnectionInfo {
            conn,
            device,
            framing: policy.framing,
            encoding: policy.encoding.clone(),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        };
        let responder = policy.reply.as_ref();
        let responder = responder.map(|kind| reply::responder(kind, &source, &engine.spools));
        let reply = |responder| Box::new(SendingSide::Reply(responder));
        Self {
            source: Arc::new(source),
            transport,
            decoder: policy.framing.decoder(),
            sending: responder.map(reply),
            policy,
            context: engine,
            remainder: Vec::new(),
            undecoded: false,
            streaming: false,
            series_open: false,
            trickles: false,
            is_open: false,
            beginning: Beginning::Silent,
            undecided: None,
            want: u32::MAX,
            greeting: [0; 4],
            position: StreamPosition::default(),
            bytes: 0,
            faults: 0,
            quota: ConnectionQuota::default(),
            deadlines: Deadlines::default(),
            permit,
        }
    }

    /// Sets the certificate of the peer. Call it before [`opened`](Self::opened).
    #[must_use]
    pub(crate) fn with_certificate(mut self, certificate: Option<Arc<PeerCertificate>>) -> Self {
        // Nobody else has it yet.
        if let Some(source) = Arc::get_mut(&mut self.source) {
            source.certificate = certificate;
        }
        self
    }

    /// Returns the number of the connection, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.source.conn
    }

    /// Returns the name of the device.
    pub(crate) fn device(&self) -> &str {
        &self.source.device
    }

    /// Sends the event that the connection opened, unless a queue is full.
    ///
    /// # Errors
    /// Returns the event. [Send](crate::sink::fanout::Fanout::send) it before calling [`run`](Self::run).
    #[allow(clippy::result_large_err, reason = "the event goes back to the caller")]
    pub fn opened(&mut self, peer: Peer) -> Result<(), Event> {
        self.is_open = true;
        let time = SystemTime::now();
        // Nobody else has it yet.
        if let Some(source) = Arc::get_mut(&mut self.source) {
            let devices = &self.context.devices;
            source.stats = Some(match may_begin_with_hello(&self.policy) {
                true => {
                    self.undecided = Some(Moment::now());
                    devices.open_undecided(&source.device, time)
                }
                false => devices.open(&source.device, time),
            });
        }
        self.try_send(self.event_at(EventKind::Opened { peer }, time))
    }

    /// Reads until the peer is done, sends the configured reply, then closes. Send the event of
    /// [`opened`](Self::opened) first.
    ///
    /// The sending side stays open until the end, even if there is no reply: most peers, proxies and NATs treat a FIN
    /// as the end of the connection. The permit and the socket are released before the closing event is sent.
    pub fn run(self: Box<Self>) -> impl Future<Output = ()> + Send {
        Running::new(self)
    }

    /// Reads and decodes until there is nothing to read, or something must wait.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        for _ in 0..READS_MAX {
            if let Some(reason) = self.permit.close_request() {
                return Poll::Ready(Step::for_close_request(reason));
            }
            if let Some(reason) = self.rechecked() {
                return Poll::Ready(Step::Close(reason));
            }
            if self.sending.is_some()
                && let Some(reason) = self.poll_sending(context)
            {
                return Poll::Ready(Step::Close(reason));
            }
            if !self.undecoded {
                match self.transport.poll_readable(context) {
                    Poll::Ready(Ok(())) => self.deadlines.heard(),
                    Poll::Ready(Err(_)) => return Poll::Ready(Step::Close(CloseReason::Reset)),
                    Poll::Pending => return self.poll_nothing(context),
                }
            }
            match self.read_now(context) {
                Step::Go => {}
                step => return Poll::Ready(step),
            }
        }
        Poll::Ready(Step::Yield)
    }

    /// Checks again, if that was requested, whether the peer may stay connected. Returns the reason to close if not.
    fn rechecked(&mut self) -> Option<CloseReason> {
        if !self.permit.takes_recheck() {
            return None;
        }
        let reason = self.transport.recheck()?;
        let (conn, device) = (self.source.conn, &self.source.device);
        warn_peer!(Kind::Refused, device, conn, %device, "closed: its certificate is revoked, or no longer allowed");
        Some(reason)
    }

    /// Writes the data that is ready. Returns the reason to close if that failed.
    fn poll_sending(&mut self, context: &mut Context<'_>) -> Option<CloseReason> {
        let sending = self.sending.as_deref_mut()?;
        let Some(responder) = sending.responder() else {
            return sending.poll(context, &mut *self.transport);
        };
        for _ in 0..WRITES_MAX {
            if responder.poll_ready(context).is_pending() {
                return None;
            }
            match responder.poll_write(context, &mut *self.transport) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    let reason = self.reply_failed(&error, "reply not sent");
                    return Some(reason.unwrap_or(CloseReason::Reset));
                }
                Poll::Pending => return None,
            }
        }
        // There may be more to write.
        context.waker().wake_by_ref();
        None
    }

    /// Logs why a reply failed. Returns the reason to close, if the failure has one of its own.
    fn reply_failed(&self, error: &ReplyError, what: &str) -> Option<CloseReason> {
        let (conn, device) = (self.source.conn, &self.source.device);
        warn_peer!(Kind::Reply, device, conn, %device, "{what}: {error}");
        error.close_reason()
    }

    /// Reads what has arrived, as far as memory allows, and decodes it.
    fn read_now(&mut self, context: &mut Context<'_>) -> Step {
        let Some(most) = self.allowance() else {
            return Step::Paused;
        };
        let step = match self.try_buffer() {
            Some(buffer) => self.read(buffer, most, context),
            None => Step::NoBuffer,
        };
        self.charge(&step);
        step
    }

    /// Nothing can be read: registers for a request to close, and for the deadline.
    fn poll_nothing(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        if let Some(reason) = self.permit.poll_close_request(context) {
            return Poll::Ready(Step::for_close_request(reason));
        }
        // The request may have come before this task was to be woken.
        if let Some(reason) = self.rechecked() {
            return Poll::Ready(Step::Close(reason));
        }
        let is_first = self.beginning == Beginning::Silent;
        let (decoder, remainder) = (&self.decoder, &self.remainder);
        let is_in_header = || cut(decoder, remainder) == Some(Part::Header);
        let late = self
            .deadlines
            .poll_late(context, &self.policy.timeouts, is_first, is_in_header);
        late.map(Step::Close)
    }

    /// Reads up to `most` bytes into a buffer, and decodes its content.
    fn read(&mut self, mut buffer: Buffer, most: usize, context: &mut Context<'_>) -> Step {
        if std::mem::take(&mut self.undecoded) {
            return self.decode(buffer);
        }
        // `poll_read_buf` knows that a read that does not fill the buffer has left nothing, and saves a system call.
        let read_len = if !self.queues_messages() {
            READ_LEN
        } else {
            BUFFER_LEN
        };
        let transport = (&mut self.transport).take(read_len.min(most) as u64);
        let reading = poll_read_buf(pin!(transport), context, buffer.parts_mut().0);
        let step = match reading {
            Poll::Ready(Ok(0)) => Step::Close(CloseReason::Eof),
            Poll::Ready(Ok(len)) => {
                let (before, spare) = memory_before(&mut buffer, len);
                self.trickles = TRICKLE_MIN <= before && len < (before / 8).min(spare);
                if self.beginning == Beginning::Silent {
                    self.beginning = match may_begin_with_hello(&self.policy) {
                        true => Beginning::Undecided,
                        false => Beginning::Decided,
                    };
                }
                let now = self.permit.heard();
                // A HELLO does not come from the device of the address.
                if self.beginning != Beginning::Undecided
                    && let Some(stats) = &self.source.stats
                {
                    stats.arrived_at(now);
                }
                return self.decode(buffer);
            }
            Poll::Pending => Step::Go,
            Poll::Ready(Err(error)) => {
                debug!(conn = self.source.conn, device = %self.source.device, "connection failed: {error}");
                Step::Close(CloseReason::Reset)
            }
        };
        self.remainder = buffer.into_remainder(0);
        step
    }

    /// Decodes the content of a buffer, and passes the result on.
    fn decode(&mut self, buffer: Buffer) -> Step {
        if self.bytes == 0 && self.faults == 0 && self.position.seq == 0 {
            let greeting = buffer.bytes().first_chunk();
            self.greeting = greeting.copied().unwrap_or(self.greeting);
        }
        if self.beginning == Beginning::Undecided || self.has_session() {
            return self.decode_session(buffer);
        }
        let Policy {
            limits,
            close,
            timeouts,
            ..
        } = &*self.policy;
        let responder = self.sending.as_deref_mut().and_then(SendingSide::responder);
        let is_replied = responder.is_some_and(|responder| responder.needs_messages());
        // The answer may change before the batch is sent.
        let is_wanted = self.context.fanout.wants_messages(&self.source);
        let messages = if !is_wanted && !is_replied {
            WholeMessages::Counted
        } else {
            WholeMessages::Kept
        };
        let Decoded {
            mut batch,
            used,
            stop,
            ended,
            full,
            want,
        } = Batch::decode(
            buffer,
            &mut self.decoder,
            limits,
            *close,
            messages,
            &mut self.streaming,
        );
        self.undecoded = full;
        self.want = u32::try_from(want).unwrap_or(u32::MAX);
        let found = if batch.is_empty() {
            self.remainder = batch.into_buffer().into_remainder(used);
            None
        } else {
            self.remainder = batch.rest(used).to_vec();
            let is_charged =
                !self.queues_messages() || batch.try_charge(&self.context.pool, &mut self.quota);
            Some((batch, is_charged))
        };
        let part = cut(&self.decoder, &self.remainder);
        self.deadlines.decoded(timeouts, part.is_some(), ended);
        let late = || {
            let is_in_header = || part == Some(Part::Header);
            let (at, reason) = self.deadlines.message_deadline(timeouts, is_in_header)?;
            (!ended && at <= Instant::now()).then_some(reason)
        };
        let reason = stop.map(CloseReason::from).or_else(late);
        match found {
            Some((batch, true)) => self.pass(batch, reason),
            Some((batch, false)) => Step::Held(Box::new(PendingSend::Batch(batch, reason))),
            None => reason.map_or(Step::Go, Step::Close),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_open {
            self.emit_closed();
        }
        self.decide_device();
        if let Some(stats) = &self.source.stats {
            self.context.devices.close(stats);
        }
    }
}

impl Connection {
    /// Counts the connection for the device of its address, unless it counts for a device already.
    fn decide_device(&mut self) {
        if let (Some(opened), Some(stats)) = (self.undecided.take(), &self.source.stats) {
            let since = Moment::now().nanos().saturating_sub(opened.nanos());
            let time = SystemTime::now() - Duration::from_nanos(since);
            self.context.devices.decide(stats, time);
        }
    }

    /// Emits that the connection closed, if its task ended early: it panicked, or the runtime shuts down.
    fn emit_closed(&mut self) {
        if std::thread::panicking() {
            let (conn, device) = (self.source.conn, &self.source.device);
            error!(conn, %device, "the task of the connection panicked; the connection is closed");
        }
        let reason = self.permit.close_request();
        let closed = self.closed(reason.unwrap_or(CloseReason::Reset));
        if let Err(event) = self.context.fanout.try_send(closed)
            && let Ok(runtime) = Handle::try_current()
        {
            let context = Arc::clone(&self.context);
            runtime.spawn(async move { context.fanout.send(event).await });
        }
    }
}

/// Returns the length of a buffer, and its spare capacity, before the last `len` bytes were read.
fn memory_before(buffer: &mut Buffer, len: usize) -> (usize, usize) {
    let (bytes, _) = buffer.parts_mut();
    let before = bytes.len().saturating_sub(len);
    (before, bytes.capacity() - before)
}
