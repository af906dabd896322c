//! Read buffers that connections borrow while they have bytes to read: a [`Pool`] bounds their memory.
//!
//! Memory is counted in permits of 4 KiB, for borrowed buffers and for events in queues. A buffer is borrowed with
//! permits for the most memory that it can need. After decoding, the surplus is returned. While at least half of the
//! pool is free, nothing is copied. With less, the content of a buffer that is at most a quarter full is copied to
//! memory of its size, and the buffer is returned.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Length of a pooled buffer, in bytes: one read of a fast sender, small enough to stay in the cache until it is
/// decoded.
pub const BUFFER_LEN: usize = 256 << 10;

/// Largest number of messages in one buffer. Further messages go into the next batch.
pub const SPANS_MAX: usize = 32 << 10;

/// Upper bound on the memory of a batch for items other than complete messages, in bytes.
pub const MARKS_LEN: usize = 128 << 10;

/// Bytes of memory per permit.
const PERMIT_LEN: usize = 4 << 10;

/// Permits for borrowed buffers and queued events: 16 MiB. A larger message waits until it can have all of them.
const PERMITS: usize = (16 << 20) / PERMIT_LEN;

/// Permits of a buffer until it is decoded: its bytes, and the positions of everything that can be found in them.
const BORROWED_COST: u32 = permits(BUFFER_LEN + SPANS_MAX * size_of::<Span>() + MARKS_LEN);

/// Positions for which a free buffer keeps memory.
const SPANS_KEPT: usize = BUFFER_LEN / 32;

/// Permits of a free buffer.
const FREE_COST: u32 = permits(BUFFER_LEN + SPANS_KEPT * size_of::<Span>());

/// Largest number of bytes that are copied in order to return their buffer.
const COPY_MAX: usize = BUFFER_LEN / 4;

/// Quota of one connection, in buffers of [`BUFFER_LEN`]: 2 MiB. Other connections always find room.
const QUOTA: usize = 8;

/// The read buffers of one engine. Memory is allocated on first use.
///
/// # Examples
/// ```
/// use blocksd_engine::pool::{ConnectionQuota, Pool};
///
/// let pool = Pool::new();
/// let mut quota = ConnectionQuota::default();
/// let mut buffer = pool.try_take(&quota).expect("a free buffer");
/// buffer.parts_mut().0.extend_from_slice(b"received");
/// // Keep only what the buffer needs while it waits in a queue.
/// let before = pool.used_bytes();
/// assert!(pool.try_charge(&mut buffer, 0, &mut quota));
/// assert!(pool.used_bytes() < before);
/// drop(buffer);
/// assert_eq!(pool.used_bytes(), 0);
/// ```
#[derive(Debug)]
pub struct Pool {
    free: Mutex<Vec<Memory>>,
    permits: Arc<Semaphore>,
}

/// The allocations of a buffer, kept for reuse.
#[derive(Debug, Default)]
struct Memory {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Memory {
    fn bytes(&self) -> u64 {
        (self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()) as u64
    }
}

/// A range of bytes in a buffer. Buffers are at most 4 GiB long.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Span {
    /// Creates a span from `start` to `end`, saturated at 4 GiB.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        let position = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: position(start),
            end: position(end),
        }
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.end.saturating_sub(self.start))
    }
}

/// The part of the pool that one connection may hold. There is no bound until the connection has filled more than a
/// quarter of a buffer at once, because slow devices need none and should not pay for one.
#[derive(Debug, Default)]
pub struct ConnectionQuota(Option<Arc<Semaphore>>);

impl ConnectionQuota {
    /// Bounds the connection to 2 MiB from now on.
    pub fn bound(&mut self) {
        self.0
            .get_or_insert_with(|| Arc::new(Semaphore::new(QUOTA)));
    }

    fn try_acquire(&self, count: u32) -> Result<Option<OwnedSemaphorePermit>, ()> {
        let Some(quota) = &self.0 else {
            return Ok(None);
        };
        let acquired = Arc::clone(quota).try_acquire_many_owned(count);
        acquired.map(Some).map_err(|_| ())
    }

    async fn acquire(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        let quota = Arc::clone(self.0.as_ref()?);
        quota.acquire_many_owned(count).await.ok()
    }
}

impl Pool {
    /// Limit on the memory of borrowed buffers and queued events, in bytes: 16 MiB.
    pub const LIMIT_BYTES: u64 = (PERMITS * PERMIT_LEN) as u64;

    /// Returns the memory of borrowed buffers and queued events, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let used = PERMITS.saturating_sub(self.permits.available_permits());
        (used * PERMIT_LEN) as u64
    }

    /// Returns the memory of free buffers that are kept for reuse, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.free().iter().map(Memory::bytes).sum()
    }

    /// Creates a pool without buffers.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            permits: Arc::new(Semaphore::new(PERMITS)),
        })
    }

    /// Borrows an empty buffer with capacity for [`BUFFER_LEN`] bytes. Returns `None` if the pool or the quota has none
    /// now.
    pub fn try_take(self: &Arc<Self>, quota: &ConnectionQuota) -> Option<Buffer> {
        let quota = quota.try_acquire(1).ok()?;
        let permit = Arc::clone(&self.permits)
            .try_acquire_many_owned(BORROWED_COST)
            .ok()?;
        Some(self.borrow(Some(permit), quota))
    }

    /// Borrows an empty buffer with capacity for [`BUFFER_LEN`] bytes. Waits while the pool is exhausted, which is how
    /// backpressure reaches the device. Waiters are served in order.
    ///
    /// Cancel-safe: if the future is dropped, no buffer is taken.
    pub async fn take(self: &Arc<Self>, quota: &ConnectionQuota) -> Buffer {
        let quota = quota.acquire(1).await;
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits)
            .acquire_many_owned(BORROWED_COST)
            .await;
        self.borrow(permit.ok(), quota)
    }

    fn borrow(
        self: &Arc<Self>,
        permit: Option<OwnedSemaphorePermit>,
        quota: Option<OwnedSemaphorePermit>,
    ) -> Buffer {
        let mut memory = self.free().pop().unwrap_or_default();
        memory.bytes.reserve(BUFFER_LEN);
        Buffer {
            memory,
            home: Some(Arc::clone(self)),
            permit,
            quota,
        }
    }

    /// Charges `buffer`, and `more` bytes of memory that belong to it, to the pool. Returns `false` if there is no room
    /// now. Always succeeds for a borrowed buffer: its surplus permits are returned.
    pub fn try_charge(
        &self,
        buffer: &mut Buffer,
        more: usize,
        quota: &mut ConnectionQuota,
    ) -> bool {
        if buffer.permit.is_some() {
            self.release_surplus(buffer, more, quota);
            return true;
        }
        let (cost, parts) = buffer.cost(more);
        quota.bound();
        let Ok(part) = quota.try_acquire(parts) else {
            return false;
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_many_owned(cost) else {
            return false;
        };
        (buffer.permit, buffer.quota) = (Some(permit), part);
        self.trim();
        true
    }

    /// Charges a buffer that the pool does not own, and `more` bytes of memory that belong to it. Waits until there is
    /// room.
    ///
    /// Cancel-safe: if the future is dropped, nothing is charged.
    pub async fn charge(&self, buffer: &mut Buffer, more: usize, quota: &mut ConnectionQuota) {
        let (cost, parts) = buffer.cost(more);
        quota.bound();
        let part = quota.acquire(parts).await;
        let permits = Arc::clone(&self.permits);
        (buffer.permit, buffer.quota) = (permits.acquire_many_owned(cost).await.ok(), part);
        self.trim();
    }

    /// Returns the surplus permits of a borrowed buffer. If less than half of the pool is free, copies a small content
    /// to memory of its size, and returns the buffer.
    fn release_surplus(&self, buffer: &mut Buffer, more: usize, quota: &mut ConnectionQuota) {
        if buffer.memory.bytes.len() <= COPY_MAX {
            buffer.quota = None;
            if self.permits.available_permits() < PERMITS / 2 {
                buffer.shrink();
            }
        } else {
            quota.bound();
        }
        let (cost, _) = buffer.cost(more);
        if let Some(permit) = &mut buffer.permit {
            let surplus = permit.num_permits().saturating_sub(cost as usize);
            drop(permit.split(surplus));
        }
    }

    fn put_back(&self, mut memory: Memory) {
        memory.bytes.clear();
        memory.spans.clear();
        memory.spans.shrink_to(SPANS_KEPT);
        self.free().push(memory);
        self.trim();
    }

    /// Limits the memory of free buffers to that of the available permits.
    fn trim(&self) {
        let most = self.permits.available_permits() / FREE_COST as usize;
        self.free().truncate(most.max(1));
    }

    fn free(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that were read, and where in them each message lies. A borrowed buffer returns to its pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    home: Option<Arc<Pool>>,
    permit: Option<OwnedSemaphorePermit>,
    quota: Option<OwnedSemaphorePermit>,
}

impl Buffer {
    /// Creates a buffer that the pool does not own, for a message that is longer than a pooled buffer.
    #[must_use]
    pub const fn own(bytes: Vec<u8>) -> Self {
        Self {
            memory: Memory {
                bytes,
                spans: Vec::new(),
            },
            home: None,
            permit: None,
            quota: None,
        }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes
    }

    /// Returns the position of each complete message.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.memory.spans
    }

    /// Returns the bytes, to append to, and the positions of the complete messages.
    pub const fn parts_mut(&mut self) -> (&mut Vec<u8>, &mut Vec<Span>) {
        (&mut self.memory.bytes, &mut self.memory.spans)
    }

    /// Returns the bytes from `used` on, to be kept until the next read. Copies them if the pool owns the buffer.
    #[must_use]
    pub fn into_remainder(mut self, used: usize) -> Vec<u8> {
        if self.home.is_some() {
            return self.memory.bytes.get(used..).unwrap_or_default().to_vec();
        }
        let mut bytes = std::mem::take(&mut self.memory.bytes);
        bytes.drain(..used);
        if bytes.len() < bytes.capacity() / 4 {
            bytes.shrink_to_fit();
        }
        bytes
    }

    /// Returns the bytes of memory that are not charged to the pool.
    #[must_use]
    pub fn uncharged(&self) -> usize {
        match self.permit {
            Some(_) => 0,
            None => self.memory.bytes.capacity() + self.memory.spans.capacity() * size_of::<Span>(),
        }
    }

    /// The cost of the buffer and `more` bytes: in permits of the pool, and in units of the quota.
    fn cost(&self, more: usize) -> (u32, u32) {
        let spans = self.memory.spans.capacity() * size_of::<Span>();
        let len = self.memory.bytes.capacity() + spans + more;
        let parts = len.div_ceil(BUFFER_LEN).clamp(1, QUOTA);
        (permits(len), u32::try_from(parts).unwrap_or(1))
    }

    /// Copies the content to memory of its size, and returns the large buffer to the pool.
    fn shrink(&mut self) {
        if let Some(pool) = self.home.take() {
            let small = Memory {
                bytes: self.memory.bytes.as_slice().to_vec(),
                spans: self.memory.spans.as_slice().to_vec(),
            };
            pool.put_back(std::mem::replace(&mut self.memory, small));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.home.take() {
            // Return the permit first, so that the pool has room to keep the free buffer.
            drop(self.permit.take());
            pool.put_back(std::mem::take(&mut self.memory));
        }
    }
}

/// The permits for `len` bytes: at least 1, and at most all permits of the pool.
const fn permits(len: usize) -> u32 {
    let count = len.div_ceil(PERMIT_LEN);
    // At most `PERMITS`, which fits.
    if count < PERMITS {
        (if count == 0 { 1 } else { count }) as u32
    } else {
        PERMITS as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Borrows a buffer, fills it with `len` bytes, and charges it as an event in a queue.
    fn read(pool: &Arc<Pool>, len: usize, quota: &mut ConnectionQuota) -> Option<Buffer> {
        let mut buffer = pool.try_take(quota)?;
        buffer.parts_mut().0.resize(len, 0);
        assert!(pool.try_charge(&mut buffer, 0, quota));
        Some(buffer)
    }

    fn memory(pool: &Pool, held: &[Buffer]) -> u64 {
        let held = held.iter().map(|buffer| buffer.memory.bytes());
        held.sum::<u64>() + pool.kept_bytes()
    }

    #[test]
    fn thousands_of_small_batches_fit_into_the_pool() {
        let pool = Pool::new();
        let held: Vec<_> =
            std::iter::from_fn(|| read(&pool, 100, &mut ConnectionQuota::default())).collect();
        assert!(1900 < held.len(), "{}", held.len());
        assert!(memory(&pool, &held) <= 17 << 20, "{}", memory(&pool, &held));
        drop(held);
        assert_eq!(pool.permits.available_permits(), PERMITS);
        assert!(memory(&pool, &[]) <= 16 << 20);
    }

    #[test]
    fn full_buffers_are_not_copied_and_a_connection_has_a_quota_of_them() {
        let pool = Pool::new();
        let mut quota = ConnectionQuota::default();
        let held: Vec<_> = std::iter::from_fn(|| read(&pool, BUFFER_LEN, &mut quota)).collect();
        // One more than the quota: the one that showed that the connection needs a bound.
        assert_eq!(held.len(), QUOTA + 1);
        assert!(held.iter().all(|buffer| buffer.home.is_some()));
        let mut others: Vec<_> =
            std::iter::from_fn(|| read(&pool, BUFFER_LEN, &mut ConnectionQuota::default()))
                .collect();
        assert!(held.len() * 3 < others.len(), "{}", others.len());
        others.extend(held);
        assert!(memory(&pool, &others) <= 16 << 20);
        drop(others);
        assert!(read(&pool, BUFFER_LEN, &mut quota).is_some());
    }

    #[test]
    fn waiters_are_served_in_order() {
        let pool = Pool::new();
        let mut held: Vec<_> =
            std::iter::from_fn(|| read(&pool, BUFFER_LEN, &mut ConnectionQuota::default()))
                .collect();
        let quota = ConnectionQuota::default();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut waiting = Box::pin(pool.take(&quota));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        held.truncate(held.len() - 2);
        assert!(pool.try_take(&quota).is_none(), "another one waits already");
        held.clear();
        assert!(waiting.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_message_larger_than_the_pool_waits_until_it_can_have_all_of_it() {
        let pool = Pool::new();
        let mut large = Buffer::own(Vec::with_capacity(20 << 20));
        let other = read(&pool, 100, &mut ConnectionQuota::default());
        assert!(!pool.try_charge(&mut large, 0, &mut ConnectionQuota::default()));
        drop(other);
        assert!(pool.try_charge(&mut large, 0, &mut ConnectionQuota::default()));
        assert!(pool.try_take(&ConnectionQuota::default()).is_none());
        assert_eq!(memory(&pool, &[]) >> 19, 0, "free buffers are released");
    }
}
