//! One device: reads when there is something to read, and passes on what it is.

pub mod deadline;
mod memory;
pub mod reply;
mod task;
mod waits;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use framing_core::{AnyDecoder, AnyFraming, Fault, Framing, Limits, Part};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::task::Running;
use crate::engine::batch::{Batch, Decoded, Item, StopAt, WholeBlocks};
use crate::engine::connection::deadline::{Patience, Waiting, cut};
use crate::engine::connection::reply::{Answer, Reply, Spools, is_own};
use crate::engine::counters::{Counters, FaultKind};
use crate::engine::event::{Event, Peer, Position, Reason, Source, What};
use crate::engine::listen::transport::Transport;
use crate::engine::peer_log::{Kind, warn_peer};
use crate::engine::permit::{Connections, Permit};
use crate::engine::pool::{BUFFER_LEN, Buffer, Pool, Share};
use crate::engine::sink::fanout::Sinks;
use crate::payload::{Decoder, Decoding};

/// What all connections of a daemon share.
#[derive(Debug)]
pub struct Shared {
    /// Read buffers.
    pub pool: Arc<Pool>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Where events go; a full queue holds the devices back.
    pub sinks: Sinks,
    /// The open connections, and how many there may be.
    pub connections: Arc<Connections>,
    /// What is kept to be echoed, of all connections.
    pub spools: Arc<Spools>,
    /// Cancelled when the daemon is to stop.
    pub stop: CancellationToken,
}

/// How the connections of one listener are treated.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How messages are framed, in both directions.
    pub framing: AnyFraming,
    /// How blocks are read, by sinks that show what they mean.
    pub decoding: Decoding,
    /// How long a message may be.
    pub limits: Limits,
    /// Which results end the connection.
    pub stop_at: StopAt,
    /// How long a device may be silent, and a message take.
    pub patience: Patience,
    /// What is sent back when the device has said everything.
    pub reply: Option<Reply>,
}

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
    source: Arc<Source>,
    stream: Box<dyn Transport>,
    policy: Arc<Policy>,
    shared: Arc<Shared>,
    decoder: AnyDecoder,
    /// The unread bytes: of a message that is not whole. An idle connection holds no more than these.
    carry: Vec<u8>,
    /// There may be messages in the unread bytes: so much was found in front of them that it went first.
    undecoded: bool,
    /// In the middle of a message that is handed out in pieces.
    in_pieces: bool,
    /// A byte has come.
    has_read: bool,
    /// Bytes up to the end of the present message; `u32::MAX` where nobody knows.
    want: u32,
    /// The first bytes that came, to recognise a peer that speaks something else.
    greeting: [u8; 4],
    position: Position,
    bytes: u64,
    faults: u32,
    share: Share,
    answer: Option<Box<Answer>>,
    waiting: Waiting,
    permit: Permit,
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
    Held(Box<Held>),
    /// Nothing more is received.
    Close(Reason),
    /// Shutdown or eviction was ordered.
    Stop(Reason),
}

impl Step {
    /// What somebody else has decided.
    const fn ordered(reason: Reason) -> Self {
        match reason {
            // What has arrived would take memory.
            Reason::Memory => Self::Close(reason),
            _ => Self::Stop(reason),
        }
    }
}

/// What must wait for room, and why the connection is to be closed after it.
enum Held {
    /// Not weighed yet.
    Batch(Batch, Option<Reason>),
    /// Weighed and counted.
    Event(Event, Option<Reason>),
}

impl Connection {
    /// Number `conn`, just accepted.
    #[must_use]
    pub fn new(
        conn: u64,
        device: Arc<str>,
        stream: Box<dyn Transport>,
        policy: Arc<Policy>,
        shared: Arc<Shared>,
        permit: Permit,
    ) -> Self {
        Self {
            source: Arc::new(Source {
                conn,
                device,
                framing: policy.framing,
                decoder: Decoder::new(policy.decoding.clone()),
            }),
            stream,
            decoder: policy.framing.decoder(),
            answer: policy
                .reply
                .as_ref()
                .map(|reply| Box::new(Answer::new(reply, policy.framing, &shared.spools))),
            policy,
            shared,
            carry: Vec::new(),
            undecoded: false,
            in_pieces: false,
            has_read: false,
            want: u32::MAX,
            greeting: [0; 4],
            position: Position::default(),
            bytes: 0,
            faults: 0,
            share: Share::default(),
            waiting: Waiting::default(),
            permit,
        }
    }

    /// Tells the sinks that the other end is there.
    ///
    /// # Errors
    /// Gives back the event that must wait for room: send it before anything else.
    #[allow(
        clippy::result_large_err,
        reason = "the event itself is what there is to say"
    )]
    pub fn opened(&self, peer: Peer) -> Result<(), Event> {
        self.try_emit(What::Opened { peer })
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
            if let Some(reason) = self.permit.ordered() {
                return Poll::Ready(Step::ordered(reason));
            }
            if !self.undecoded {
                match self.stream.poll_readable(context) {
                    Poll::Ready(Ok(())) => self.waiting.heard(),
                    Poll::Ready(Err(_)) => return Poll::Ready(Step::Close(Reason::Reset)),
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
        if let Some(reason) = self.permit.poll_ordered(context) {
            return Poll::Ready(Step::ordered(reason));
        }
        let is_first = !self.has_read;
        let (decoder, carry) = (&self.decoder, &self.carry);
        let is_in_header = || cut(decoder, carry) == Some(Part::Header);
        let late = self
            .waiting
            .poll_late(context, &self.policy.patience, is_first, is_in_header);
        late.map(Step::Close)
    }

    /// Reads into a buffer, `most` bytes, and deals with what is in it then.
    fn read(&mut self, mut buffer: Buffer, most: usize, context: &mut Context<'_>) -> Step {
        if std::mem::take(&mut self.undecoded) {
            return self.decode(buffer);
        }
        // This knows that a read which does not fill the buffer has left nothing: it asks the system once.
        let read_len = if self.shared.sinks.is_empty() {
            READ_LEN
        } else {
            BUFFER_LEN
        };
        let stream = (&mut self.stream).take(read_len.min(most) as u64);
        let reading = poll_read_buf(pin!(stream), context, buffer.parts_mut().0);
        let step = match reading {
            Poll::Ready(Ok(0)) => Step::Close(Reason::Eof),
            Poll::Ready(Ok(_)) => {
                self.has_read = true;
                self.permit.heard();
                return self.decode(buffer);
            }
            Poll::Pending => Step::Go,
            Poll::Ready(Err(error)) => {
                debug!(conn = self.source.conn, device = %self.source.device, "connection failed: {error}");
                Step::Close(Reason::Reset)
            }
        };
        self.carry = buffer.into_carry(0);
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
            stop_at,
            patience,
            ..
        } = &*self.policy;
        let is_echo = self.answer.as_ref().is_some_and(|answer| answer.is_echo());
        let blocks = if self.shared.sinks.is_empty() && !is_echo {
            WholeBlocks::Counted
        } else {
            WholeBlocks::Kept
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
            *stop_at,
            blocks,
            &mut self.in_pieces,
        );
        self.undecoded = full;
        self.want = u32::try_from(want).unwrap_or(u32::MAX);
        let found = if batch.is_empty() {
            self.carry = batch.into_buffer().into_carry(used);
            None
        } else {
            self.carry = batch.rest(used).to_vec();
            // What goes nowhere need not be weighed.
            let weighed =
                self.shared.sinks.is_empty() || batch.try_weigh(&self.shared.pool, &mut self.share);
            Some((batch, weighed))
        };
        let part = cut(&self.decoder, &self.carry);
        self.waiting.decoded(patience, part.is_some(), ended);
        let late = || {
            let is_in_header = || part == Some(Part::Header);
            let (at, reason) = self.waiting.message_deadline(patience, is_in_header)?;
            (!ended && at <= Instant::now()).then_some(reason)
        };
        let reason = stop.map(Reason::from).or_else(late);
        match found {
            Some((batch, true)) => self.pass(batch, reason),
            Some((batch, false)) => Step::Held(Box::new(Held::Batch(batch, reason))),
            None => reason.map_or(Step::Go, Step::Close),
        }
    }

    /// Counts a batch, keeps it for an echo, and sends it on.
    fn pass(&mut self, batch: Batch, reason: Option<Reason>) -> Step {
        let (mut blocks, mut bytes) = batch.blocks();
        for (_, mark) in batch.marks() {
            match mark {
                Item::Piece {
                    bytes: piece, last, ..
                } => {
                    bytes += piece.len() as u64;
                    blocks += u64::from(last);
                }
                Item::End => self.shared.counters.series(),
                Item::Fault(fault) => self.fault(&fault),
                Item::Block(_) => {}
            }
        }
        self.bytes += bytes;
        self.shared.counters.blocks(blocks, bytes);
        let kept = self
            .answer
            .as_mut()
            .map_or(Ok(()), |answer| answer.keep(&batch, &self.source.device));
        let kept = kept.map_err(|failure| {
            let (conn, device) = (self.source.conn, &self.source.device);
            warn_peer!(Kind::Reply, device, conn, %device, "echo not kept: {failure}");
            if is_own(&failure) {
                Reason::ReplyFailed
            } else {
                Reason::Limit
            }
        });
        let reason = reason.or_else(|| kept.err());
        let position = self.position;
        self.position.pass_all(&batch);
        if self.shared.sinks.is_empty() {
            return reason.map_or(Step::Go, Step::Close);
        }
        let batch = Arc::new(batch);
        match self.try_emit(What::Batch { batch, position }) {
            Ok(()) => reason.map_or(Step::Go, Step::Close),
            Err(event) => Step::Held(Box::new(Held::Event(event, reason))),
        }
    }

    fn fault(&mut self, fault: &Fault) {
        self.faults = self.faults.saturating_add(1);
        self.shared.counters.fault(FaultKind::of(fault));
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
    fn try_emit(&self, what: What) -> Result<(), Event> {
        if self.shared.sinks.is_empty() {
            Ok(())
        } else {
            self.shared.sinks.try_send(self.event(what))
        }
    }

    fn event(&self, what: What) -> Event {
        Event {
            source: Arc::clone(&self.source),
            time: SystemTime::now(),
            what,
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
