//! One connection: reads when there is something to read, finds messages in it, and passes them to the sinks.

pub mod context;
mod deadline;
mod memory;
pub mod policy;
pub mod reply;
pub mod responder;
mod task;
mod waits;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use framing_core::{AnyDecoder, Fault, Framing, Part};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tracing::debug;

use self::context::EngineContext;
use self::deadline::{Deadlines, cut};
use self::policy::Policy;
use self::responder::{ReplyError, Responder};
use self::task::Running;
use crate::batch::{Batch, Decoded, Item, WholeMessages};
use crate::event::{ConnectionInfo, Event, EventKind, Peer, StreamPosition};
use crate::listen::transport::Transport;
use crate::peer_log::{Kind, warn_peer};
use crate::permit::ConnectionPermit;
use crate::pool::{BUFFER_LEN, Buffer, ConnectionQuota};
use crate::reason::{CloseReason, FaultKind};

/// How long a connection, or a listener, must be silent to be done with when the daemon is stopping.
pub(crate) const QUIET: Duration = Duration::from_millis(20);

/// How long a connection that is not silent is read from, and a listener accepts, when the daemon is stopping.
pub(crate) const LAST_READS: Duration = Duration::from_millis(250);

/// Reads in one turn: then the others have theirs. A turn given up too early costs a system call or two, and often
/// moves the task to a core whose cache knows nothing of it.
const READS_MAX: usize = 16;

/// Bytes that are read at once where no sink wants them. The next read goes over them, and finds the memory in the
/// cache: of more than this, too much was pushed out by what the kernel copies from.
const READ_LEN: usize = BUFFER_LEN / 2;

/// Faults of one connection that are logged; the rest is only counted.
const FAULTS_LOGGED: u32 = 5;

/// The receiving side of one connection.
///
/// Ten thousand of these wait at a time, so its task is kept small: it waits for something to read, for the end of
/// the daemon and for a deadline, and does the rest at once. Only what cannot be done at once has a future of its
/// own, on the heap, for as long as it lasts.
#[derive(Debug)]
pub struct Connection {
    source: Arc<ConnectionInfo>,
    transport: Box<dyn Transport>,
    policy: Arc<Policy>,
    context: Arc<EngineContext>,
    decoder: AnyDecoder,
    /// The unread bytes: of a message that is not whole. An idle connection holds no more than these.
    remainder: Vec<u8>,
    /// There may be messages in the unread bytes: so much was found in front of them that it went first.
    undecoded: bool,
    /// In the middle of a message that is handed out in pieces.
    streaming: bool,
    /// A byte has come.
    has_read: bool,
    /// Bytes up to the end of the present message; `u32::MAX` where nobody knows.
    want: u32,
    /// The first bytes that came, to recognise a peer that speaks something else.
    greeting: [u8; 4],
    position: StreamPosition,
    bytes: u64,
    faults: u32,
    quota: ConnectionQuota,
    responder: Option<Box<dyn Responder>>,
    deadlines: Deadlines,
    permit: ConnectionPermit,
}

/// What a connection came to, as far as it could at once.
enum Step {
    /// There may be more to do.
    Go,
    /// A fast device has had its turn: the others have theirs.
    Yield,
    /// No buffer is free.
    NoBuffer,
    /// Unfinished messages hold too much memory: this one is not read now.
    Paused,
    /// What was received must wait for room.
    Held(Box<PendingSend>),
    /// Nothing more is received.
    Close(CloseReason),
    /// Shutdown or eviction was ordered.
    Stop(CloseReason),
}

impl Step {
    /// What somebody else has decided.
    const fn for_close_request(reason: CloseReason) -> Self {
        match reason {
            // What has arrived would take memory.
            CloseReason::Memory => Self::Close(reason),
            _ => Self::Stop(reason),
        }
    }
}

/// What must wait for room, and why the connection is to be closed after it.
enum PendingSend {
    /// Not charged to the pool yet.
    Batch(Batch, Option<CloseReason>),
    /// Charged and counted.
    Event(Event, Option<CloseReason>),
}

impl Connection {
    /// Number `conn`, just accepted.
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
        };
        let responder = policy.reply.as_ref();
        let responder = responder.map(|kind| reply::responder(kind, &source, &engine.spools));
        Self {
            source: Arc::new(source),
            transport,
            decoder: policy.framing.decoder(),
            responder,
            policy,
            context: engine,
            remainder: Vec::new(),
            undecoded: false,
            streaming: false,
            has_read: false,
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

    /// Its number, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.source.conn
    }

    /// Passes to the sinks that it has opened.
    ///
    /// # Errors
    /// Gives back the event that must wait for room: send it before anything else.
    #[allow(
        clippy::result_large_err,
        reason = "the event itself is what there is to say"
    )]
    pub fn opened(&self, peer: Peer) -> Result<(), Event> {
        self.try_emit(EventKind::Opened { peer })
    }

    /// Receives until the device has said everything, answers if that was asked for, and closes. Whoever is told
    /// that it has closed can have its place.
    ///
    /// The sending side stays open until then, also where nothing is ever sent: most peers, proxies and NATs take a
    /// FIN as the end of the connection.
    ///
    /// Tell that it has [`opened`](Self::opened) first.
    pub fn run(self: Box<Self>) -> impl Future<Output = ()> + Send {
        Running::new(self)
    }

    /// Waits for something to read, and deals with it, and with what comes meanwhile.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        for _ in 0..READS_MAX {
            if let Some(reason) = self.permit.close_request() {
                return Poll::Ready(Step::for_close_request(reason));
            }
            if self.responder.is_some()
                && let Some(reason) = self.poll_respond(context)
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

    /// Has the responder write what it has ready. Returns the reason to close if that failed.
    fn poll_respond(&mut self, context: &mut Context<'_>) -> Option<CloseReason> {
        let responder = self.responder.as_mut()?;
        while responder.poll_ready(context).is_ready() {
            match responder.poll_write(context, &mut *self.transport) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    let reason = self.reply_failed(&error, "reply not sent");
                    return Some(reason.unwrap_or(CloseReason::Reset));
                }
                Poll::Pending => break,
            }
        }
        None
    }

    /// Logs why a reply failed. Returns the reason to close, if the failure is one.
    fn reply_failed(&self, error: &ReplyError, what: &str) -> Option<CloseReason> {
        let (conn, device) = (self.source.conn, &self.source.device);
        warn_peer!(Kind::Reply, device, conn, %device, "{what}: {error}");
        error.close_reason()
    }

    /// Reads what is there, as much as may be kept, and deals with it.
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

    /// There is nothing to read: sees to it that an order to close, and the deadline, wake this task.
    fn poll_nothing(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        if let Some(reason) = self.permit.poll_close_request(context) {
            return Poll::Ready(Step::for_close_request(reason));
        }
        let is_first = !self.has_read;
        let (decoder, remainder) = (&self.decoder, &self.remainder);
        let is_in_header = || cut(decoder, remainder) == Some(Part::Header);
        let late = self
            .deadlines
            .poll_late(context, &self.policy.timeouts, is_first, is_in_header);
        late.map(Step::Close)
    }

    /// Reads into a buffer, `most` bytes, and deals with what is in it then.
    fn read(&mut self, mut buffer: Buffer, most: usize, context: &mut Context<'_>) -> Step {
        if std::mem::take(&mut self.undecoded) {
            return self.decode(buffer);
        }
        // This knows that a read which does not fill the buffer has left nothing: it asks the system once.
        let read_len = if !self.context.fanout.wants_messages() {
            READ_LEN
        } else {
            BUFFER_LEN
        };
        let transport = (&mut self.transport).take(read_len.min(most) as u64);
        let reading = poll_read_buf(pin!(transport), context, buffer.parts_mut().0);
        let step = match reading {
            Poll::Ready(Ok(0)) => Step::Close(CloseReason::Eof),
            Poll::Ready(Ok(_)) => {
                self.has_read = true;
                self.permit.heard();
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

    /// Finds what is in the buffer and passes it on.
    fn decode(&mut self, buffer: Buffer) -> Step {
        if self.bytes == 0 && self.faults == 0 && self.position.seq == 0 {
            let greeting = buffer.bytes().first_chunk();
            self.greeting = greeting.copied().unwrap_or(self.greeting);
        }
        let Policy {
            limits,
            close,
            timeouts,
            ..
        } = &*self.policy;
        let responder = self.responder.as_ref();
        let is_replied = responder.is_some_and(|responder| responder.needs_messages());
        let messages = if !self.context.fanout.wants_messages() && !is_replied {
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
            // A batch that goes nowhere costs nothing.
            let is_charged = !self.context.fanout.wants_messages()
                || batch.try_charge(&self.context.pool, &mut self.quota);
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

    /// Counts a batch, keeps it for an echo, and sends it on.
    fn pass(&mut self, batch: Batch, reason: Option<CloseReason>) -> Step {
        let (mut messages, mut bytes) = batch.messages();
        for (_, mark) in batch.marks() {
            match mark {
                Item::Piece {
                    bytes: piece, last, ..
                } => {
                    bytes += piece.len() as u64;
                    messages += u64::from(last);
                }
                Item::End => self.context.counters.series(),
                Item::Fault(fault) => self.fault(&fault),
                Item::Message(_) => {}
            }
        }
        self.bytes += bytes;
        self.context.counters.messages(messages, bytes);
        let responder = self.responder.as_mut();
        let kept = responder.map_or(Ok(()), |responder| responder.on_batch(&batch));
        let reason = reason.or_else(|| self.reply_failed(&kept.err()?, "reply not kept"));
        let position = self.position;
        self.position.pass_all(&batch);
        if !self.context.fanout.wants_messages() {
            return reason.map_or(Step::Go, Step::Close);
        }
        let batch = Arc::new(batch);
        match self.try_emit(EventKind::Batch { batch, position }) {
            Ok(()) => reason.map_or(Step::Go, Step::Close),
            Err(event) => Step::Held(Box::new(PendingSend::Event(event, reason))),
        }
    }

    fn fault(&mut self, fault: &Fault) {
        self.faults = self.faults.saturating_add(1);
        self.context.counters.fault(FaultKind::of(fault));
        let (conn, device) = (self.source.conn, &self.source.device);
        if FAULTS_LOGGED < self.faults {
            return;
        }
        let hint = if self.position.seq == 0 {
            foreign(self.greeting)
        } else {
            ""
        };
        warn_peer!(Kind::Fault, device, conn, %device, "{fault}{hint}");
        if self.faults == FAULTS_LOGGED {
            warn_peer!(Kind::Fault, device, conn, %device, "further faults of this connection are counted, not logged");
        }
    }

    #[allow(
        clippy::result_large_err,
        reason = "the event itself is what there is to say"
    )]
    fn try_emit(&self, kind: EventKind) -> Result<(), Event> {
        if self.context.fanout.is_empty() {
            Ok(())
        } else {
            self.context.fanout.try_send(self.event(kind))
        }
    }

    fn event(&self, kind: EventKind) -> Event {
        Event {
            source: Arc::clone(&self.source),
            time: SystemTime::now(),
            kind,
        }
    }
}

/// What a peer seems to speak, that does not speak any framing.
const fn foreign(greeting: [u8; 4]) -> &'static str {
    match &greeting {
        [0x16, 0x03, ..] => "; this looks like TLS, and the port is a plain one",
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" => "; this looks like HTTP",
        b"SSH-" => "; this looks like SSH",
        _ => "",
    }
}
