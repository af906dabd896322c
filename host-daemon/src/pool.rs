//! Read buffers, lent to connections that have something to read: the bound on what the daemon holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Length of a pooled buffer, in bytes: one read of a fast sender, and still in the cache when it is decoded.
pub const BUFFER_LEN: usize = 256 << 10;

/// How many buffers are lent at once, so how many bytes may wait in the queue: 16 MiB. A block that is larger than a
/// buffer counts as several; one that is larger than all of them waits until it is alone.
const BUFFERS: usize = 64;

/// Places of blocks that a free buffer keeps memory for.
const SPANS_KEPT: usize = BUFFER_LEN / 32;

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
    /// Bytes that may be lent at once.
    pub const LIMIT_BYTES: u64 = (BUFFERS * BUFFER_LEN) as u64;

    /// Bytes that are lent now.
    #[must_use]
    pub fn lent_bytes(&self) -> u64 {
        let lent = BUFFERS.saturating_sub(self.permits.available_permits());
        (lent * BUFFER_LEN) as u64
    }

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
            home: Some(Arc::clone(self)),
            permit,
        }
    }

    /// Counts a buffer that is not the pool's as those that it weighs as much as. Waits while too many are lent.
    ///
    /// Cancel-safe: dropped, it has taken nothing but the buffer.
    pub async fn weigh(self: &Arc<Self>, mut buffer: Buffer) -> Buffer {
        if buffer.permit.is_none() {
            let weight = buffer
                .memory
                .bytes
                .capacity()
                .div_ceil(BUFFER_LEN)
                .clamp(1, BUFFERS);
            let weight = u32::try_from(weight).unwrap_or(1);
            buffer.permit = Arc::clone(&self.permits)
                .acquire_many_owned(weight)
                .await
                .ok();
        }
        buffer
    }

    fn free(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that were read, and where in them the blocks are. A lent buffer goes home when dropped.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    home: Option<Arc<Pool>>,
    permit: Option<OwnedSemaphorePermit>,
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
            permit: None,
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

    /// The bytes from `used` on, for a connection to keep: a copy of the right size where the buffer is the pool's.
    #[must_use]
    pub fn into_carry(mut self, used: usize) -> Vec<u8> {
        if self.home.is_some() {
            return self.memory.bytes.get(used..).unwrap_or_default().to_vec();
        }
        let mut bytes = std::mem::take(&mut self.memory.bytes);
        bytes.drain(..used);
        bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.home.take() {
            let mut memory = std::mem::take(&mut self.memory);
            memory.bytes.clear();
            memory.spans.clear();
            memory.spans.shrink_to(SPANS_KEPT);
            pool.free().push(memory);
        }
    }
}
