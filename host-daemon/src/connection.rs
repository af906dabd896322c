//! One device: reads when there is something to read, and passes on what it is.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use framing_core::{AnyDecoder, AnyFraming, Decode, Fault, Framing, Limits, Part};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::batch::{Batch, Decoded, Item, StopAt};
use crate::counters::{Counters, FaultKind};
use crate::decode::{Decoder, Decoding};
use crate::event::{Event, Peer, Position, Reason, Source, What};
use crate::pool::{BUFFER_LEN, Buffer, Pool};
use crate::reply::{Answer, Reply};
use crate::sinks::Sinks;

/// What all connections of a daemon share.
#[derive(Debug)]
pub struct Shared {
    /// Read buffers.
    pub pool: Arc<Pool>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Where events go; a full queue holds the devices back.
    pub sinks: Sinks,
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
    /// How long a device may be silent.
    pub idle_timeout: Option<Duration>,
    /// What is sent back when the device has said everything.
    pub reply: Option<Reply>,
}

/// How long a connection, or a listener, must be silent to be done with when the daemon is stopping.
pub(crate) const QUIET: Duration = Duration::from_millis(20);

/// How long a connection that is not silent is read from when the daemon is stopping.
const LAST_READS: Duration = Duration::from_millis(250);

/// Faults of one connection that are logged; the rest is only counted.
const FAULTS_LOGGED: u64 = 5;

/// The receiving side of one connection.
#[derive(Debug)]
pub struct Connection {
    source: Arc<Source>,
    stream: TcpStream,
    policy: Arc<Policy>,
    shared: Arc<Shared>,
    decoder: AnyDecoder,
    /// The unread bytes: of a message that is not whole. An idle connection holds no more than these.
    carry: Vec<u8>,
    /// In the middle of a message that is handed out in pieces.
    in_pieces: bool,
    position: Position,
    blocks: u64,
    bytes: u64,
    faults: u64,
    /// The first bytes that came, to recognise a peer that speaks something else.
    greeting: [u8; 4],
    answer: Option<Box<Answer>>,
    /// Since when the daemon is known to be stopping.
    stopping: Option<Instant>,
}

/// What waiting for bytes came to.
enum Read {
    Bytes(Buffer),
    Nothing(Reason),
}

impl Connection {
    /// Number `conn`, just accepted.
    #[must_use]
    pub fn new(
        conn: u64,
        peer: SocketAddr,
        stream: TcpStream,
        policy: Arc<Policy>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            source: Arc::new(Source {
                conn,
                device: peer.ip().to_string().into(),
                framing: policy.framing,
                decoder: Decoder::new(policy.decoding.clone()),
            }),
            stream,
            decoder: policy.framing.decoder(),
            answer: policy
                .reply
                .as_ref()
                .map(|reply| Box::new(Answer::new(reply, policy.framing))),
            policy,
            shared,
            carry: Vec::new(),
            in_pieces: false,
            position: Position::default(),
            blocks: 0,
            bytes: 0,
            faults: 0,
            greeting: [0; 4],
            stopping: None,
        }
    }

    /// Receives until the device has said everything, answers if that was asked for, and closes. Whoever is told
    /// that it has closed can have its place.
    pub async fn run(mut self: Box<Self>, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let peer = Peer::Network(peer);
        self.emit(What::Opened { peer }).await;
        if self.answer.is_none() {
            // Nothing will be sent: say so at once. A peer that is gone already is found by reading.
            let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
        }
        let reason = self.receive().await;
        self.end(reason).await;
        if let Some(answer) = self.answer.take()
            && matches!(reason, Reason::End | Reason::Eof)
        {
            // Boxed: what answering needs is not to weigh on every connection that is idle.
            Box::pin(self.reply(answer)).await;
        }
        drop(place);
        // Only in series of blocks is there a mark that ends one.
        let in_series = self.position.in_series != 0;
        let torn = in_series && matches!(self.policy.framing, AnyFraming::Blocks(_));
        self.shared.counters.closed(reason, torn);
        let Self { blocks, bytes, .. } = *self;
        self.emit(What::Closed {
            blocks,
            bytes,
            reason,
        })
        .await;
    }

    async fn reply(&mut self, answer: Box<Answer>) {
        let (conn, device) = (self.source.conn, &self.source.device);
        let patience = self.policy.idle_timeout;
        let sending = answer.send(&mut self.stream, patience, self.blocks, self.bytes);
        tokio::select! {
            sent = sending => if let Err(failure) = sent {
                warn!(conn, %device, "reply not sent: {failure}");
            },
            () = self.shared.stop.cancelled() => warn!(conn, %device, "reply cut short: stopping"),
        }
    }

    async fn receive(&mut self) -> Reason {
        loop {
            match self.read().await {
                Read::Nothing(reason) => return reason,
                Read::Bytes(buffer) => {
                    if let Some(reason) = self.decode(buffer).await {
                        return reason;
                    }
                }
            }
        }
    }

    /// Waits until there is something to read, then borrows a buffer and reads it.
    async fn read(&mut self) -> Read {
        let stop = &self.shared.stop;
        let idle = async {
            match self.policy.idle_timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(idle);
        loop {
            if stop.is_cancelled() {
                // What has arrived is still read. The runtime may not know yet that it has, and a device that
                // goes on sending is not waited for.
                if self.stopping.get_or_insert_with(Instant::now).elapsed() > LAST_READS {
                    return Read::Nothing(Reason::Shutdown);
                }
                match tokio::time::timeout(QUIET, self.stream.readable()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Read::Nothing(Reason::Reset),
                    Err(_) => return Read::Nothing(Reason::Shutdown),
                }
            } else {
                tokio::select! {
                    biased;
                    ready = self.stream.readable() => if ready.is_err() {
                        return Read::Nothing(Reason::Reset);
                    },
                    () = stop.cancelled() => continue,
                    () = &mut idle => return Read::Nothing(Reason::Idle),
                }
            }
            let mut buffer = if BUFFER_LEN / 2 < self.carry.len() {
                // A large message: its own memory, which grows by what has come, not by what was declared.
                let mut bytes = std::mem::take(&mut self.carry);
                bytes.reserve(bytes.len().max(BUFFER_LEN));
                Buffer::own(bytes)
            } else {
                let mut buffer = self.shared.pool.take().await;
                buffer.parts_mut().0.append(&mut self.carry);
                buffer
            };
            let before = buffer.bytes().len();
            let reason = match self.stream.try_read_buf(buffer.parts_mut().0) {
                Ok(0) => Some(Reason::Eof),
                Ok(_) => {
                    if buffer.is_full() {
                        // A fast device: let the others have their turn, and the runtime see what is new.
                        tokio::task::yield_now().await;
                    }
                    return Read::Bytes(buffer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => {
                    debug!(conn = self.source.conn, device = %self.source.device, "connection failed: {error}");
                    Some(Reason::Reset)
                }
            };
            self.carry = buffer.bytes().get(..before).unwrap_or_default().to_vec();
            if let Some(reason) = reason {
                return Read::Nothing(reason);
            }
        }
    }

    /// Finds what is in the buffer and passes it on. Gives a reason to close, if there is one.
    async fn decode(&mut self, buffer: Buffer) -> Option<Reason> {
        if self.bytes == 0 && self.faults == 0 && self.position.seq == 0 {
            let greeting = buffer.bytes().first_chunk();
            self.greeting = greeting.copied().unwrap_or(self.greeting);
        }
        let Policy {
            limits, stop_at, ..
        } = &*self.policy;
        let Decoded { batch, used, stop } = Batch::decode(
            buffer,
            &mut self.decoder,
            limits,
            *stop_at,
            &mut self.in_pieces,
        );
        if batch.is_empty() {
            self.carry = batch.into_buffer().into_carry(used);
            return None;
        }
        self.carry = batch.rest(used).to_vec();
        let batch = batch.weighed(&self.shared.pool).await;
        let kept = self.pass(batch).await;
        stop.map(Reason::from).or_else(|| kept.err())
    }

    /// Counts a batch, keeps it for an echo, and sends it on.
    async fn pass(&mut self, batch: Batch) -> Result<(), Reason> {
        let (mut blocks, mut bytes) = batch.blocks();
        for mark in batch.marks() {
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
        self.blocks += blocks;
        self.bytes += bytes;
        self.shared.counters.blocks(blocks, bytes);
        let kept = self
            .answer
            .as_mut()
            .map_or(Ok(()), |answer| answer.keep(&batch));
        let position = self.position;
        self.position.pass_all(&batch);
        self.emit(What::Batch {
            batch: Arc::new(batch),
            position,
        })
        .await;
        kept.map_err(|failure| {
            warn!(conn = self.source.conn, device = %self.source.device, "nothing can be echoed: {failure}");
            Reason::Limit
        })
    }

    /// Nothing more will be read: says whether that cut a message.
    async fn end(&mut self, reason: Reason) {
        if matches!(reason, Reason::End | Reason::Limit | Reason::Fault) {
            let bytes = self.carry.len();
            if reason == Reason::End && bytes != 0 {
                warn!(conn = self.source.conn, device = %self.source.device, bytes, "bytes behind the end of the series");
            }
            return;
        }
        let fault = self.decoder.close(&self.carry);
        // That a series goes on when the daemon stops is no fault.
        let going_on = |fault: &Fault| {
            reason == Reason::Shutdown
                && matches!(
                    fault,
                    Fault::Truncated {
                        part: Part::End,
                        ..
                    }
                )
        };
        if let Some(fault) = fault.filter(|fault| !going_on(fault)) {
            // A fault alone is never echoed.
            let _ = self.pass(Batch::of_fault(fault)).await;
        }
    }

    fn fault(&mut self, fault: &Fault) {
        self.faults += 1;
        self.shared.counters.fault(FaultKind::of(fault));
        let (conn, device) = (self.source.conn, &self.source.device);
        if FAULTS_LOGGED < self.faults {
            return;
        }
        let hint = if self.blocks == 0 {
            foreign(self.greeting)
        } else {
            ""
        };
        warn!(conn, %device, "{fault}{hint}");
        if self.faults == FAULTS_LOGGED {
            warn!(conn, %device, "further faults of this connection are counted, not logged");
        }
    }

    async fn emit(&self, what: What) {
        if !self.shared.sinks.is_empty() {
            let event = Event {
                source: Arc::clone(&self.source),
                time: SystemTime::now(),
                what,
            };
            self.shared.sinks.send(event).await;
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
