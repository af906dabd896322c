//! The task of an outgoing connection: writes queued messages, reads and discards replies. Start with [`SenderTask`].

use std::io::{self, Seek as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use framing_core::{AnyFraming, Refusal};
use tokio::fs::File;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _, split,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::commands::replay::pieces::{Collected, CutMessage, StoredMessage};
use crate::commands::replay::totals::ReplayTotals;
use crate::commands::replay::wire::WireBuffer;
use crate::output::counted;
use crate::tls::client::ClientStream;
use blocksd_engine::batch::{Batch, Item};

/// How long to wait for the peer to close after everything was sent, and for queued messages after an interrupt.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Bytes read at a time from a temporary file, and of replies.
const CHUNK: usize = 16 << 10;
/// How often to look for an error of a connection that the peer closed early.
const LOOK: Duration = Duration::from_millis(10);

/// The next thing to send, with its share of the memory.
#[derive(Debug)]
pub(super) struct Queued {
    /// What to send.
    pub(super) command: SendCommand,
    /// Memory of all queues that it uses until it is sent.
    pub(super) memory: OwnedSemaphorePermit,
}

/// What to send next.
#[derive(Debug)]
pub(super) enum SendCommand {
    /// Nothing: this is the framing of the connection.
    Framing(AnyFraming),
    /// The messages of a batch; its pieces as a message each.
    Batch(Arc<Batch>),
    /// A message.
    Message(Vec<u8>),
    /// A message in a temporary file.
    Stored(StoredMessage),
    /// The beginning of a message, after which the connection ends.
    Cut(CutMessage),
    /// The end mark of a series.
    End,
}

/// The state of a task.
#[derive(Debug)]
pub(super) struct SenderTask {
    /// The device and the number of the recorded connection.
    pub(super) label: String,
    /// What to send. The end of the queue is the end of the connection.
    pub(super) queue: Receiver<Queued>,
    /// Counts of all connections.
    pub(super) totals: Arc<ReplayTotals>,
    /// Cancelled by an interrupt.
    pub(super) stop: CancellationToken,
    /// The messages of this connection so far.
    pub(super) sent: u64,
    /// Whether a message was refused, which is reported once.
    pub(super) has_refused: bool,
}

/// A connection with the messages that are framed for it.
struct FramedConnection<'a, W> {
    write: &'a mut W,
    wire: Option<WireBuffer>,
    /// Messages and bytes of payload in the buffer.
    buffered: (u64, u64),
}

/// How sending has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastSent {
    Message,
    EndMark,
}

impl SenderTask {
    /// Sends everything, then closes the connection. Counts and reports a failure.
    pub(super) async fn run(mut self, mut stream: ClientStream) {
        let stop = self.stop.clone();
        let sent = tokio::select! {
            sent = self.send_all(&mut stream) => sent,
            () = async { stop.cancelled().await; sleep(LINGER).await } => Ok(()),
        };
        if let Err(error) = sent {
            self.totals.cut_off();
            self.totals.print(format_args!(
                "blocksd: {}: connection failed: {error}, after {}",
                self.label,
                counted(self.sent, "message")
            ));
        }
    }

    async fn send_all(&mut self, stream: &mut ClientStream) -> io::Result<()> {
        // A message that is due is sent at once.
        stream.tcp().set_nodelay(true)?;
        let (last, is_early) = self.converse(stream).await?;
        // A peer that closed before it received everything answers with a reset, which reading no longer reports.
        let until = Instant::now() + LINGER;
        loop {
            if let Some(error) = stream.tcp().take_error()? {
                return Err(error);
            }
            if !is_early || last == LastSent::EndMark || until <= Instant::now() {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Sends everything, and reads until the peer closes. Returns whether the peer closed first.
    async fn converse(&mut self, stream: &mut ClientStream) -> io::Result<(LastSent, bool)> {
        let (mut read, mut write) = split(stream);
        let mut replies = pin!(discard(&mut read));
        let mut sending = pin!(self.write_queue(&mut write));
        let (last, is_early) = tokio::select! {
            last = &mut sending => (last?, false),
            ended = &mut replies => {
                ended?;
                (sending.await?, true)
            }
        };
        if !is_early && let Ok(ended) = timeout(LINGER, replies).await {
            ended?;
        }
        Ok((last, is_early))
    }

    /// Writes until the queue ends or the replay is interrupted.
    async fn write_queue(&mut self, write: &mut (impl AsyncWrite + Unpin)) -> io::Result<LastSent> {
        let mut connection = FramedConnection {
            write,
            wire: None,
            buffered: (0, 0),
        };
        let mut last = LastSent::Message;
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            let next = match self.queue.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.flush(&mut connection).await?;
                    let next = tokio::select! {
                        next = self.queue.recv() => next,
                        () = stop.cancelled() => None,
                    };
                    match next {
                        Some(next) => next,
                        None => break,
                    }
                }
            };
            let Queued { command, memory } = next;
            last = match command {
                SendCommand::End => LastSent::EndMark,
                _ => LastSent::Message,
            };
            self.take(command, &mut connection).await?;
            drop(memory);
        }
        self.flush(&mut connection).await?;
        connection.write.shutdown().await?;
        Ok(last)
    }

    async fn take(
        &mut self,
        command: SendCommand,
        connection: &mut FramedConnection<'_, impl AsyncWrite + Unpin>,
    ) -> io::Result<()> {
        let wire = match command {
            SendCommand::Framing(framing) => {
                connection.wire = Some(WireBuffer::new(framing));
                return Ok(());
            }
            _ => connection.wire.as_mut(),
        };
        let Some(wire) = wire else {
            return Err(io::Error::other("the framing of the connection is unknown"));
        };
        match command {
            SendCommand::Framing(_) => {}
            SendCommand::Batch(batch) => {
                for item in batch.items() {
                    if let Item::Message(bytes) | Item::Piece { bytes, .. } = item {
                        self.message(connection, bytes).await?;
                    }
                }
            }
            SendCommand::Message(bytes) => self.message(connection, &bytes).await?,
            SendCommand::Stored(message) => self.stored(connection, message).await?,
            SendCommand::Cut(cut) => self.cut(connection, cut).await?,
            SendCommand::End => {
                if let Err(refusal) = wire.end() {
                    self.refused(refusal);
                }
            }
        }
        Ok(())
    }

    async fn message(
        &mut self,
        connection: &mut FramedConnection<'_, impl AsyncWrite + Unpin>,
        bytes: &[u8],
    ) -> io::Result<()> {
        let Some(wire) = &mut connection.wire else {
            return Ok(());
        };
        if wire.opens_session(bytes, u32::try_from(bytes.len()).unwrap_or(u32::MAX)) {
            self.left_out_hello();
            return Ok(());
        }
        match wire.message(bytes) {
            Ok(()) => {
                connection.buffered.0 += 1;
                connection.buffered.1 += bytes.len() as u64;
            }
            Err(refusal) => self.refused(refusal),
        }
        if wire.is_full() {
            self.flush(connection).await?;
        }
        Ok(())
    }

    /// Sends the beginning of a message.
    async fn cut(
        &mut self,
        connection: &mut FramedConnection<'_, impl AsyncWrite + Unpin>,
        cut: CutMessage,
    ) -> io::Result<()> {
        let Some(wire) = &mut connection.wire else {
            return Ok(());
        };
        let mut stored = match cut.begun {
            Collected::Memory(bytes) if wire.opens_session(&bytes, cut.want) => {
                self.left_out_hello();
                return Ok(());
            }
            Collected::Memory(bytes) => {
                match wire.cut(&bytes, cut.want) {
                    Ok(()) => self.totals.truncated(),
                    Err(refusal) => self.refused(refusal),
                }
                return Ok(());
            }
            Collected::Stored(message) => message,
        };
        stored.file.rewind()?;
        if let Err(refusal) = wire.begin_cut(stored.len, cut.want) {
            self.refused(refusal);
            return Ok(());
        }
        let (mut file, mut chunk) = (File::from_std(stored.file), vec![0; CHUNK]);
        while let read @ 1.. = file.read(&mut chunk).await? {
            let bytes = chunk.get(..read).unwrap_or_default();
            wire.chunk(bytes, None).map_err(io::Error::other)?;
            if wire.is_full() {
                // The last byte is left for the end.
                let whole = wire.bytes().len() - 1;
                connection
                    .write
                    .write_all(wire.bytes().get(..whole).unwrap_or_default())
                    .await?;
                wire.bytes().drain(..whole);
            }
        }
        wire.end_cut();
        self.totals.truncated();
        Ok(())
    }

    /// Sends a message of a temporary file, after a check of the whole message.
    async fn stored(
        &mut self,
        connection: &mut FramedConnection<'_, impl AsyncWrite + Unpin>,
        message: StoredMessage,
    ) -> io::Result<()> {
        let (len, last) = (message.len, message.last_byte);
        let mut file = File::from_std(message.file);
        let mut chunk = vec![0; CHUNK];
        if let Some(wire) = &connection.wire
            && let Err(refusal) = check(wire, &mut file, len, last, &mut chunk).await?
        {
            self.refused(refusal);
            return Ok(());
        }
        file.rewind().await?;
        if let Some(wire) = &mut connection.wire {
            wire.begin(len, last).map_err(io::Error::other)?;
        }
        loop {
            let read = file.read(&mut chunk).await?;
            let (Some(wire), 1..) = (&mut connection.wire, read) else {
                break;
            };
            let bytes = chunk.get(..read).unwrap_or_default();
            wire.chunk(bytes, last).map_err(io::Error::other)?;
            if wire.is_full() {
                connection.write.write_all(wire.bytes()).await?;
                wire.bytes().clear();
            }
        }
        if let Some(wire) = &mut connection.wire {
            wire.end_chunks(last);
        }
        connection.buffered.0 += 1;
        connection.buffered.1 += u64::from(len);
        self.flush(connection).await
    }

    /// Writes the buffer to the connection, and counts its messages.
    async fn flush(
        &mut self,
        connection: &mut FramedConnection<'_, impl AsyncWrite + Unpin>,
    ) -> io::Result<()> {
        if let Some(wire) = &mut connection.wire {
            connection.write.write_all(wire.bytes()).await?;
            // TLS may have kept a part.
            connection.write.flush().await?;
            wire.bytes().clear();
        }
        let (messages, bytes) = std::mem::take(&mut connection.buffered);
        self.sent += messages;
        self.totals.sent(messages, bytes);
        Ok(())
    }

    /// Counts and reports a message that would make the connection a session.
    fn left_out_hello(&self) {
        self.totals.unsent();
        self.totals.print(format_args!(
            "blocksd: {}: the first message is the HELLO of an acknowledged session, and is left out, since the receiver \
             would take it for one; --session sends it as a message",
            self.label
        ));
    }

    /// Counts a message that the framing cannot carry, and reports the first.
    fn refused(&mut self, refusal: Refusal) {
        self.totals.unsent();
        if !std::mem::replace(&mut self.has_refused, true) {
            self.totals.print(format_args!(
                "blocksd: {}: a message cannot be sent in this framing, and is left out: {refusal}",
                self.label
            ));
        }
    }
}

/// Checks whether a message can be sent.
async fn check(
    wire: &WireBuffer,
    file: &mut File,
    len: u32,
    last: Option<u8>,
    chunk: &mut [u8],
) -> io::Result<Result<(), Refusal>> {
    file.rewind().await?;
    let mut check = match wire.check(len, last) {
        Ok(check) => check,
        Err(refusal) => return Ok(Err(refusal)),
    };
    loop {
        let read = file.read(chunk).await?;
        if read == 0 {
            return Ok(Ok(()));
        }
        let checked = check.chunk(chunk.get(..read).unwrap_or_default());
        if checked.is_err() {
            return Ok(checked);
        }
    }
}

/// Reads and discards what the peer sends, until it closes.
async fn discard(read: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while read.read(&mut buffer).await? != 0 {}
    Ok(())
}
