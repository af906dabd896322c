//! A line: a stream that outlives its connections, such as a serial line or standard input. Start with [`Line::connect`].
//!
//! Each connection reads a part of the stream. The bytes that it read and did not use are read first by the next one.

mod replies;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_serial::SerialStream;
use tracing::warn;

use self::replies::{Digest, Replies};
use crate::listen::transport::Transport;

/// Size of a read, in bytes.
const CHUNK: usize = 4 << 10;
/// Bytes that are read ahead while a reply is sent, so that a device that sends and does not read yet can go on.
const READ_AHEAD: usize = 64 << 10;
/// Bytes that are read when the line is closed: more than a kernel holds.
const LAST_READ: usize = 1 << 20;

/// The stream of a line.
pub(super) trait Port: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static {
    /// Whether replies can be sent. Then each connection is compared with them.
    const HAS_REPLIES: bool;

    /// Polls whether a read would return something, if that can be polled.
    fn poll_readable(&self, context: &mut Context<'_>) -> Option<Poll<io::Result<()>>>;

    /// Reads bytes that have arrived, without waiting.
    fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize>;

    /// Whether the end of the stream is a failure.
    fn has_failed(&self) -> bool {
        false
    }
}

impl Port for SerialStream {
    const HAS_REPLIES: bool = true;

    fn poll_readable(&self, _: &mut Context<'_>) -> Option<Poll<io::Result<()>>> {
        None
    }

    fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, bytes)
    }
}

/// A stream that one connection uses at a time.
#[derive(Debug)]
pub(super) struct Line<P> {
    shared: Arc<Shared<P>>,
}

#[derive(Debug)]
struct Shared<P> {
    state: Mutex<LineState<P>>,
    /// Notified when the connection has closed.
    released: Notify,
}

#[derive(Debug)]
struct LineState<P> {
    /// Name of the line in the log.
    name: Arc<str>,
    /// `None` before the line is opened, and after it has ended or was closed.
    port: Option<P>,
    /// Bytes that were read from the port, and not by a connection yet.
    unread: VecDeque<u8>,
    /// Number of bytes that were read from the port.
    received: u64,
    is_used: bool,
    /// The task of the connection.
    waker: Option<Waker>,
    replies: Replies,
}

impl<P: Port> Line<P> {
    /// Creates a line that is not open.
    pub(super) fn new(name: Arc<str>) -> Self {
        let state = LineState {
            name,
            port: None,
            unread: VecDeque::new(),
            received: 0,
            is_used: false,
            waker: None,
            replies: Replies::default(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                released: Notify::new(),
            }),
        }
    }

    /// Opens the line.
    pub(super) fn open(&self, port: P) {
        let mut state = self.shared.lock();
        state.port = Some(port);
        state.replies = Replies::default();
    }

    /// Waits until no connection uses the line.
    pub(super) async fn released(&self) {
        while self.shared.lock().is_used {
            self.shared.released.notified().await;
        }
    }

    /// Whether the line is open.
    pub(super) fn is_open(&self) -> bool {
        self.shared.lock().port.is_some()
    }

    /// Whether bytes have arrived that no connection has read.
    pub(super) fn has_rest(&self) -> bool {
        let mut state = self.shared.lock();
        if state.unread.is_empty() {
            state.read_ahead(CHUNK);
        }
        !state.unread.is_empty()
    }

    /// Waits for bytes that no connection has read. Returns whether there are any, rather than the end of the stream.
    pub(super) async fn has_more(&self) -> bool {
        std::future::poll_fn(|context| {
            let mut state = self.shared.lock();
            if !state.unread.is_empty() {
                return Poll::Ready(true);
            }
            state.poll_fill(context).map(|len| len != 0)
        })
        .await
    }

    /// Returns the transport of the next connection. The previous one must have [released](Self::released) the line.
    pub(super) fn connect(&self) -> LineTransport<P> {
        let mut state = self.shared.lock();
        state.is_used = true;
        let begin = state.received - state.unread.len() as u64;
        LineTransport {
            shared: Arc::clone(&self.shared),
            series: Series::new(begin),
            reply: None,
        }
    }

    /// Closes the line, so that it can be opened with other settings. Its connection reads what has arrived, then the
    /// end of the stream.
    pub(super) fn close(&self) {
        let mut state = self.shared.lock();
        state.read_ahead(LAST_READ);
        state.end();
    }
}

impl<P> Shared<P> {
    fn lock(&self) -> MutexGuard<'_, LineState<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Port> LineState<P> {
    /// Reads from the port. Reads nothing at the end.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(port) = &mut self.port else {
            return Poll::Ready(Ok(()));
        };
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *port).poll_read(context, buffer);
        let len = buffer.filled().len() - before;
        match polled {
            Poll::Pending => {
                self.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(())) if len != 0 => self.received += len as u64,
            // A device that is unplugged reads as an error or as an end.
            Poll::Ready(_) => {
                let has_failed = port.has_failed();
                self.end();
                if has_failed {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the port once, as bytes that are unread. Returns their number: 0 at the end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        let mut bytes = [0; CHUNK];
        let mut buffer = ReadBuf::new(&mut bytes);
        self.poll_read(context, &mut buffer).map(|_| {
            self.unread.extend(buffer.filled());
            buffer.filled().len()
        })
    }

    /// Reads what has arrived, without waiting, until `most` bytes are unread.
    fn read_ahead(&mut self, most: usize) {
        let mut bytes = [0; CHUNK];
        while self.unread.len() < most {
            let Some(port) = &mut self.port else {
                return;
            };
            match port.try_read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return self.end(),
                Ok(len) => {
                    self.unread.extend(bytes.get(..len).unwrap_or_default());
                    self.received += len as u64;
                }
            }
        }
    }

    fn end(&mut self) {
        self.port = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The transport of one connection of a line.
#[derive(Debug)]
pub(super) struct LineTransport<P> {
    shared: Arc<Shared<P>>,
    series: Series,
    /// The reply that was sent.
    reply: Option<Reply>,
}

/// The bytes that a connection has read.
#[derive(Debug)]
struct Series {
    /// Position of the first byte in the stream.
    begin: u64,
    /// When it was read.
    since: Option<Instant>,
    /// All bytes before those of the last read.
    digest: Digest,
    last: Vec<u8>,
}

/// The bytes that a connection has sent.
#[derive(Debug)]
struct Reply {
    /// Position in the received stream when the first byte was sent.
    from: u64,
    digest: Digest,
}

impl Series {
    fn new(begin: u64) -> Self {
        Self {
            begin,
            since: None,
            digest: Digest::default(),
            last: Vec::new(),
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        self.since.get_or_insert_with(Instant::now);
        self.digest.add(&self.last);
        self.last.clear();
        self.last.extend_from_slice(bytes);
    }

    /// Takes back the last `len` bytes.
    fn put_back(&mut self, len: usize) {
        self.last.truncate(self.last.len().saturating_sub(len));
    }
}

impl<P: Port> AsyncRead for LineTransport<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut state = this.shared.lock();
        if !P::HAS_REPLIES && state.unread.is_empty() {
            return state.poll_read(context, buffer);
        }
        if state.unread.is_empty() && state.poll_fill(context).is_pending() {
            return Poll::Pending;
        }
        let mut bytes = [0; CHUNK];
        let most = buffer.remaining().min(CHUNK);
        let len = state
            .unread
            .read(bytes.get_mut(..most).unwrap_or_default())?;
        let bytes = bytes.get(..len).unwrap_or_default();
        buffer.put_slice(bytes);
        if P::HAS_REPLIES && !bytes.is_empty() {
            this.series.read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<P: Port> AsyncWrite for LineTransport<P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut state = this.shared.lock();
        let reply = this.reply.get_or_insert_with(|| {
            // Bytes that arrived before the reply was sent cannot be its echo.
            state.read_ahead(READ_AHEAD);
            Reply {
                from: state.received,
                digest: Digest::default(),
            }
        });
        let Some(port) = &mut state.port else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = Pin::new(port).poll_write(context, bytes);
        match &written {
            Poll::Ready(Ok(len)) => reply.digest.add(bytes.get(..*len).unwrap_or_default()),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                // The device may read only after it has sent everything.
                while state.unread.len() < READ_AHEAD {
                    match state.poll_fill(context) {
                        Poll::Ready(0) => {
                            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                        }
                        Poll::Ready(_) => {}
                        Poll::Pending => break,
                    }
                }
                state.waker = Some(context.waker().clone());
            }
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: the line stays open for the next connection.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl<P: Port> Transport for LineTransport<P> {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if !state.unread.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let port = state.port.as_ref();
        if let Some(polled) = port.and_then(|port| port.poll_readable(context)) {
            return polled;
        }
        state.poll_fill(context).map(|_| Ok(()))
    }

    fn is_line(&self) -> bool {
        true
    }

    fn put_back(&mut self, bytes: &[u8]) {
        if P::HAS_REPLIES {
            self.series.put_back(bytes.len());
        }
        let mut state = self.shared.lock();
        for byte in bytes.iter().rev() {
            state.unread.push_front(*byte);
        }
    }

    fn is_own_reply(&mut self, in_a_row: u32) -> bool {
        let Series {
            begin,
            since,
            digest,
            last,
        } = &mut self.series;
        digest.add(last);
        last.clear();
        let mut state = self.shared.lock();
        let since = since.unwrap_or_else(Instant::now);
        let is_own = in_a_row <= state.replies.seen(digest, *begin, since);
        if is_own && state.replies.report() {
            let name = &state.name;
            warn!(
                "{name}: a reply of the daemon came back over the line: a half-duplex adapter echoes it, or a plug \
                 connects both directions. Such series are not answered; turn the echo off, or remove --reply"
            );
        }
        is_own
    }
}

impl<P> Drop for LineTransport<P> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(Reply { from, digest }) = self.reply.take() {
            state.replies.sent(digest, from, Instant::now());
        }
        state.is_used = false;
        state.waker = None;
        drop(state);
        self.shared.released.notify_one();
    }
}

#[cfg(test)]
mod tests;
