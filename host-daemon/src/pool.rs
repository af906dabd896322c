//! Read buffers, lent to connections that have something to read: the bound on what the daemon holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Length of a pooled buffer, in bytes: one read of a fast sender, and still in the cache when it is decoded.
pub const BUFFER_LEN: usize = 256 << 10;

/// How many buffers are lent at once, so how many bytes may wait in the queue: 16 MiB.
const BUFFERS: usize = 64;

/// The buffers of one daemon. Memory is taken when it is first needed, and kept.
#[derive(Debug)]
pub struct Pool {
    free: Mutex<Vec<Memory>>,
    permits: Arc<Semaphore>,
}

/// What is kept of a buffer that is free.
#[derive(Debug, Default)]
struct Memory {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// Where in a buffer something is. No buffer is over 4 GiB long.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its first byte.
    pub start: u32,
    /// The first byte behind it.
    pub end: u32,
}

impl Span {
    /// From `start` to `end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        let position = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: position(start),
            end: position(end),
        }
    }
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            permits: Arc::new(Semaphore::new(BUFFERS)),
        })
    }

    /// An empty buffer with room for [`BUFFER_LEN`] bytes. Waits while all are lent: that is the back-pressure.
    ///
    /// Cancel-safe: dropped, it has taken nothing.
    pub async fn take(self: &Arc<Self>) -> Buffer {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let mut memory = self.free().pop().unwrap_or_default();
        memory.bytes.reserve(BUFFER_LEN);
        Buffer {
            memory,
            home: Some((Arc::clone(self), permit)),
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that were read, and where in them the blocks are. A lent buffer goes home when dropped.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    home: Option<(Arc<Pool>, Option<OwnedSemaphorePermit>)>,
}

impl Buffer {
    /// Bytes that are not the pool's: of a block that is larger than a pooled buffer.
    #[must_use]
    pub const fn own(bytes: Vec<u8>) -> Self {
        Self {
            memory: Memory {
                bytes,
                spans: Vec::new(),
            },
            home: None,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes
    }

    /// Where the blocks are.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.memory.spans
    }

    /// Whether no byte can be added without taking more memory.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.memory.bytes.len() == self.memory.bytes.capacity()
    }

    /// The bytes, to add to them; and where the blocks are.
    pub const fn parts_mut(&mut self) -> (&mut Vec<u8>, &mut Vec<Span>) {
        (&mut self.memory.bytes, &mut self.memory.spans)
    }

    /// The bytes, for a connection to keep: a copy of the right size where the buffer is the pool's.
    #[must_use]
    pub fn into_carry(mut self) -> Vec<u8> {
        if self.home.is_some() {
            self.memory.bytes.clone()
        } else {
            std::mem::take(&mut self.memory.bytes)
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((pool, permit)) = self.home.take() {
            let mut memory = std::mem::take(&mut self.memory);
            memory.bytes.clear();
            memory.spans.clear();
            pool.free().push(memory);
            drop(permit);
        }
    }
}
