//! Transports in memory, blocking and async, that move bytes in given pieces and fail at given calls.

use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embedded_io::{ErrorKind, ErrorType};

/// The error of these transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl core::fmt::Display for Broken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("broken")
    }
}

impl core::error::Error for Broken {}

impl embedded_io::Error for Broken {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// An irregular result of one call of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upset {
    /// It returns an error.
    Error,
    /// It returns `Ok(0)`.
    Zero,
    /// It moves one byte only.
    Short,
    /// It moves the normal number of bytes, and returns a number that is larger by this.
    Lie(usize),
}

/// State of both directions: the number of calls, and which of them is irregular.
#[derive(Clone, Debug, Default)]
struct Calls {
    count: usize,
    upset: Option<(usize, Upset)>,
    pending: bool,
    /// Whether the next call has already been pending once.
    awake: bool,
}

impl Calls {
    /// Waits once before each call, if wanted. The flag is kept here, so that dropping a pending future does not lose
    /// it.
    async fn ready(&mut self) {
        poll_fn(|_| {
            if self.pending && !self.awake {
                self.awake = true;
                return Poll::Pending;
            }
            self.awake = false;
            Poll::Ready(())
        })
        .await;
    }

    fn next(&mut self) -> Option<Upset> {
        let index = self.count;
        self.count += 1;
        self.upset
            .filter(|&(at, _)| at == index)
            .map(|(_, upset)| upset)
    }
}

/// A source of bytes that ends each read at the next cut, and then returns the end of the stream.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    wire: &'a [u8],
    cuts: &'a [usize],
    at: usize,
    calls: Calls,
}

impl<'a> Source<'a> {
    /// Creates a source of these bytes. Each read ends at the next of these cuts, which are in order.
    #[must_use]
    pub fn new(wire: &'a [u8], cuts: &'a [usize]) -> Self {
        Self {
            wire,
            cuts,
            at: 0,
            calls: Calls::default(),
        }
    }

    /// Makes each async read pending once.
    #[must_use]
    pub fn pending(mut self) -> Self {
        self.calls.pending = true;
        self
    }

    /// Makes the read with this index, counted from zero, irregular.
    #[must_use]
    pub fn upset(mut self, call: usize, upset: Upset) -> Self {
        self.calls.upset = Some((call, upset));
        self
    }

    /// Number of bytes delivered.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.at
    }

    /// Number of calls.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.count
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        assert!(
            !buffer.is_empty(),
            "a read into an empty slice looks like the end of the stream"
        );
        let (most, claimed) = match self.calls.next() {
            None => (buffer.len(), 0),
            Some(Upset::Error) => return Err(Broken),
            Some(Upset::Zero) => return Ok(0),
            Some(Upset::Short) => (1, 0),
            Some(Upset::Lie(more)) => (buffer.len(), more),
        };
        let cut = self.cuts.partition_point(|&cut| cut <= self.at);
        let end = self.wire.len();
        let ahead = &self.wire[self.at..self.cuts.get(cut).map_or(end, |&cut| cut.min(end))];
        let len = ahead.len().min(buffer.len()).min(most);
        buffer[..len].copy_from_slice(&ahead[..len]);
        self.at += len;
        Ok(len.saturating_add(claimed))
    }
}

impl ErrorType for Source<'_> {
    type Error = Broken;
}

impl embedded_io::Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        self.take(buffer)
    }
}

impl embedded_io_async::Read for Source<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        self.calls.ready().await;
        self.take(buffer)
    }
}

/// A sink that accepts a limited number of bytes in each write.
#[derive(Clone, Debug)]
pub struct Sink {
    /// The lengths of the successful writes.
    pub writes: Vec<usize>,
    /// Number of flushes.
    pub flushes: usize,
    most: usize,
    calls: Calls,
    flush_fails: bool,
    wire: Vec<u8>,
}

impl Sink {
    /// Creates a sink that accepts at most `most` bytes in each write.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            writes: Vec::new(),
            flushes: 0,
            most,
            calls: Calls::default(),
            flush_fails: false,
            wire: Vec::new(),
        }
    }

    /// Makes each async write and flush pending once.
    #[must_use]
    pub fn pending(mut self) -> Self {
        self.calls.pending = true;
        self
    }

    /// Makes the write with this index, counted from zero, irregular.
    #[must_use]
    pub fn upset(mut self, call: usize, upset: Upset) -> Self {
        self.calls.upset = Some((call, upset));
        self
    }

    /// Makes the first flush fail.
    #[must_use]
    pub fn flush_fails(mut self) -> Self {
        self.flush_fails = true;
        self
    }

    /// All bytes written.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Number of writes, including failed ones.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.count
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        assert!(
            !bytes.is_empty(),
            "a write of an empty slice might never return"
        );
        let (most, claimed) = match self.calls.next() {
            None => (self.most, 0),
            Some(Upset::Error) => return Err(Broken),
            Some(Upset::Zero) => return Ok(0),
            Some(Upset::Short) => (1, 0),
            Some(Upset::Lie(more)) => (self.most, more),
        };
        let taken = &bytes[..bytes.len().min(most)];
        self.wire.extend_from_slice(taken);
        self.writes.push(taken.len());
        Ok(taken.len().saturating_add(claimed))
    }

    fn push(&mut self) -> Result<(), Broken> {
        self.flushes += 1;
        if core::mem::take(&mut self.flush_fails) {
            return Err(Broken);
        }
        Ok(())
    }
}

impl ErrorType for Sink {
    type Error = Broken;
}

impl embedded_io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        self.put(bytes)
    }

    fn flush(&mut self) -> Result<(), Broken> {
        self.push()
    }
}

impl embedded_io_async::Write for Sink {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        self.calls.ready().await;
        self.put(bytes)
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        self.calls.ready().await;
        self.push()
    }
}

/// Runs a future to its end by polling it until it is ready.
///
/// # Panics
/// If it is not ready after a million polls.
pub fn run<F: Future>(future: F) -> F::Output {
    poll_times(future, 1_000_000).expect("a future that ends")
}

/// Polls a future at most this many times, then drops it: `None` if it was not ready.
pub fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..times).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}
