//! A transport whose calls fail, stall and split by a script: [`Net`].

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::task::Poll;

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use framing_uplink::{Connect, Split};

use crate::time::{Time, yield_once};

/// The other end of the connections.
pub(crate) trait Peer {
    /// A connection begins.
    fn accept(&mut self);

    /// Bytes arrive.
    fn take(&mut self, bytes: &[u8]);

    /// The sender has closed its direction.
    fn ended(&mut self);

    /// The next bytes down, at most `max`; `None` if there are none, an empty vector if the peer has closed.
    fn down(&mut self, max: usize) -> Option<Vec<u8>>;
}

/// A call of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Connect,
    Read,
    Write,
    Flush,
    Close,
    End,
    Abort,
}

/// What happens to the calls, which are counted over all connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// The index of the call that fails, and with it the connection.
    pub(crate) fail_at: usize,
    /// The index of the call that never returns, nor any later one of its connection.
    pub(crate) stall_at: usize,
    /// The number of connections that are refused first.
    pub(crate) refused: usize,
    /// The longest write and read, in bytes.
    pub(crate) write_max: usize,
    pub(crate) read_max: usize,
}

impl Default for Script {
    /// Everything works.
    fn default() -> Self {
        Self {
            fail_at: usize::MAX,
            stall_at: usize::MAX,
            refused: 0,
            write_max: usize::MAX,
            read_max: usize::MAX,
        }
    }
}

/// Connections to a peer.
pub(crate) struct Net<'t, P> {
    time: &'t Time,
    script: Script,
    pub(crate) peer: RefCell<P>,
    pub(crate) calls: RefCell<Vec<Call>>,
    pub(crate) attempts_ms: RefCell<Vec<u64>>,
}

impl<'t, P: Peer> Net<'t, P> {
    pub(crate) fn new(time: &'t Time, peer: P, script: Script) -> Self {
        Self {
            time,
            script,
            peer: RefCell::new(peer),
            calls: RefCell::default(),
            attempts_ms: RefCell::default(),
        }
    }

    /// The same peer, and calls that work.
    pub(crate) fn repaired(&self) -> Self
    where
        P: Default,
    {
        Self::new(self.time, self.peer.take(), Script::default())
    }

    /// Whether the script has come to the call that fails or stalls.
    pub(crate) fn is_played(&self) -> bool {
        self.script.fail_at.min(self.script.stall_at) < self.calls.borrow().len()
    }

    async fn call(&self, call: Call, state: &Cell<State>) -> Result<(), ErrorKind> {
        let index = self.calls.borrow().len();
        self.calls.borrow_mut().push(call);
        if index == self.script.fail_at {
            state.set(State::Failed);
        }
        if index == self.script.stall_at {
            state.set(State::Stalled);
        }
        // An await point, before anything happens.
        yield_once().await;
        match state.get() {
            State::Lives => Ok(()),
            State::Failed => Err(ErrorKind::ConnectionReset),
            State::Stalled => pending().await,
        }
    }
}

#[derive(Clone, Copy)]
enum State {
    Lives,
    Failed,
    Stalled,
}

/// A connection, or a direction of one.
pub(crate) struct Line<'a, P> {
    net: &'a Net<'a, P>,
    state: Cell<State>,
}

impl<P: Peer> Connect for &Net<'_, P> {
    type Connection<'a>
        = Line<'a, P>
    where
        Self: 'a;

    async fn connect(&mut self) -> Result<Line<'_, P>, ErrorKind> {
        let attempt = self.attempts_ms.borrow().len();
        self.attempts_ms.borrow_mut().push(self.time.now_ms());
        let state = Cell::new(State::Lives);
        self.call(Call::Connect, &state).await?;
        if attempt < self.script.refused {
            return Err(ErrorKind::ConnectionRefused);
        }
        self.peer.borrow_mut().accept();
        Ok(Line { net: self, state })
    }

    async fn close<'a>(line: &mut Line<'a, P>) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        line.net.call(Call::Close, &line.state).await?;
        line.net.peer.borrow_mut().ended();
        Ok(())
    }

    async fn abort<'a>(line: &mut Line<'a, P>)
    where
        Self: 'a,
    {
        let _ = line.net.call(Call::Abort, &line.state).await;
    }
}

impl<P: Peer> Split for &Net<'_, P> {
    type Error = ErrorKind;

    fn split<'s, 'a>(
        line: &'s mut Line<'a, P>,
    ) -> (impl Read<Error = ErrorKind>, impl Write<Error = ErrorKind>)
    where
        Self: 'a,
        'a: 's,
    {
        (Half(line), Half(line))
    }

    async fn end<'a>(line: &mut Line<'a, P>, _: bool)
    where
        Self: 'a,
    {
        let _ = line.net.call(Call::End, &line.state).await;
    }
}

impl<P: Peer> Line<'_, P> {
    async fn take(&self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        self.net.call(Call::Read, &self.state).await?;
        let max = to.len().min(self.net.script.read_max);
        poll_fn(|_| {
            if let State::Failed = self.state.get() {
                return Poll::Ready(Err(ErrorKind::ConnectionReset));
            }
            match self.net.peer.borrow_mut().down(max) {
                None => Poll::Pending,
                Some(bytes) => {
                    to[..bytes.len()].copy_from_slice(&bytes);
                    Poll::Ready(Ok(bytes.len()))
                }
            }
        })
        .await
    }

    async fn give(&self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        assert!(!bytes.is_empty(), "an empty write");
        self.net.call(Call::Write, &self.state).await?;
        let len = bytes.len().min(self.net.script.write_max);
        poll_fn(|context| {
            self.net.peer.borrow_mut().take(&bytes[..len]);
            // The peer may have answered.
            context.waker().wake_by_ref();
            Poll::Ready(Ok(len))
        })
        .await
    }
}

impl<P> ErrorType for Line<'_, P> {
    type Error = ErrorKind;
}

impl<P: Peer> Read for Line<'_, P> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        self.take(to).await
    }
}

impl<P: Peer> Write for Line<'_, P> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.give(bytes).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.net.call(Call::Flush, &self.state).await
    }
}

struct Half<'s, 'a, P>(&'s Line<'a, P>);

impl<P> ErrorType for Half<'_, '_, P> {
    type Error = ErrorKind;
}

impl<P: Peer> Read for Half<'_, '_, P> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.take(to).await
    }
}

impl<P: Peer> Write for Half<'_, '_, P> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.0.give(bytes).await
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.0.net.call(Call::Flush, &self.0.state).await
    }
}
