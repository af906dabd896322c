//! Transports in memory, blocking and async, that deliver and take bytes in given cuts and fail where told to.

use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embedded_io::{ErrorKind, ErrorType};

/// How a transport fails.
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

/// What is odd about one call of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upset {
    /// It returns an error.
    Error,
    /// It returns `Ok(0)`.
    Zero,
    /// It moves one byte only.
    Short,
    /// It moves what it would, and claims to have moved so many bytes more.
    Lie(usize),
}

/// The state that both directions share: which call this is, and whether it is its time.
#[derive(Clone, Debug, Default)]
struct Calls {
    count: usize,
    upset: Option<(usize, Upset)>,
    pending: bool,
    /// The next call has been pending already.
    awake: bool,
}

impl Calls {
    /// Pending once before each call, if wanted. Remembered here, so that a future dropped meanwhile takes
    /// nothing with it.
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

/// Delivers bytes, never over a cut, and then the end of the stream.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    wire: &'a [u8],
    cuts: &'a [usize],
    at: usize,
    calls: Calls,
}

impl<'a> Source<'a> {
    /// The bytes, and the places where a read ends at the latest, in order.
    #[must_use]
    pub fn new(wire: &'a [u8], cuts: &'a [usize]) -> Self {
        Self {
            wire,
            cuts,
            at: 0,
            calls: Calls::default(),
        }
    }

    /// Each async read is pending once.
    #[must_use]
    pub fn pending(mut self) -> Self {
        self.calls.pending = true;
        self
    }

    /// The read with this index, counted from zero, is odd.
    #[must_use]
    pub fn upset(mut self, call: usize, upset: Upset) -> Self {
        self.calls.upset = Some((call, upset));
        self
    }

    /// How many bytes were delivered.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.at
    }

    /// How many times it was called.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.count
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        assert!(
            !buffer.is_empty(),
            "a read into an empty slice looks like the end"
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

/// Takes bytes, at most so many at a time.
#[derive(Clone, Debug)]
pub struct Sink {
    /// How many bytes each write that took some took.
    pub writes: Vec<usize>,
    /// How many times it was flushed.
    pub flushes: usize,
    most: usize,
    calls: Calls,
    flush_fails: bool,
    wire: Vec<u8>,
}

impl Sink {
    /// A write takes at most so many bytes.
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

    /// Each async write and flush is pending once.
    #[must_use]
    pub fn pending(mut self) -> Self {
        self.calls.pending = true;
        self
    }

    /// The write with this index, counted from zero, is odd.
    #[must_use]
    pub fn upset(mut self, call: usize, upset: Upset) -> Self {
        self.calls.upset = Some((call, upset));
        self
    }

    /// The first flush fails.
    #[must_use]
    pub fn flush_fails(mut self) -> Self {
        self.flush_fails = true;
        self
    }

    /// All that was written.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// How many writes there were, failed ones too.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.count
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        assert!(
            !bytes.is_empty(),
            "a write of an empty slice may never return"
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

/// Runs a future to its end. Nothing wakes it: it is polled until it is ready.
///
/// # Panics
/// If it takes absurdly many polls.
pub fn run<F: Future>(future: F) -> F::Output {
    poll_times(future, 1_000_000).expect("a future that ends")
}

/// Polls a future so many times at most, then drops it: `None` where it was not ready.
pub fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..times).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}
