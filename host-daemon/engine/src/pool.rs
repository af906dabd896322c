//! Read buffers, lent to connections that have something to read: the bound on what the daemon holds.
//!
//! What is lent, and what waits in the queue, costs permits of 4 KiB. A buffer is lent with permits for the
//! most that it can come to; when it has been decoded, it gives back what it does not charge. While the pool is not
//! half empty nothing is copied; then the few bytes of a slow device move to memory of their size, and their buffer
//! goes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Length of a pooled buffer, in bytes: one read of a fast sender, and still in the cache when it is decoded.
pub const BUFFER_LEN: usize = 256 << 10;

/// Places of blocks in one buffer; more blocks make another batch.
pub const SPANS_MAX: usize = 32 << 10;

/// Most memory that what stands between blocks may take in a batch, in bytes.
pub const MARKS_LEN: usize = 128 << 10;

/// Memory that one permit stands for, in bytes.
const PERMIT_LEN: usize = 4 << 10;

/// What may be lent and wait in the queue, in permits: 16 MiB. A block that is larger waits until it is alone.
const PERMITS: usize = (16 << 20) / PERMIT_LEN;

/// What is set aside for a buffer until it is decoded, in permits: its bytes, and all that can be found in them.
const LENT: u32 = permits(BUFFER_LEN + SPANS_MAX * size_of::<Span>() + MARKS_LEN);

/// Places of blocks that a free buffer keeps memory for.
const SPANS_KEPT: usize = BUFFER_LEN / 32;

/// The cost of a free buffer, in permits.
const KEPT: u32 = permits(BUFFER_LEN + SPANS_KEPT * size_of::<Span>());

/// Most bytes that are copied to give their buffer back.
const COPY_MAX: usize = BUFFER_LEN / 4;

/// Buffers' worth of bytes that one connection may have in the queue: 2 MiB. The others always find room.
const SHARE: usize = 8;

/// The buffers of one daemon. Memory is taken when it is first needed.
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

impl Memory {
    fn bytes(&self) -> u64 {
        (self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()) as u64
    }
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

    /// How many bytes it is long.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.end.saturating_sub(self.start))
    }
}

/// How much of the pool one connection may have: no bound until it has filled a good part of a buffer at once, since
/// a slow device needs none, and is not to pay for one.
#[derive(Debug, Default)]
pub struct ConnectionQuota(Option<Arc<Semaphore>>);

impl ConnectionQuota {
    /// The connection sends much: from now on it has a bound.
    pub fn bound(&mut self) {
        self.0
            .get_or_insert_with(|| Arc::new(Semaphore::new(SHARE)));
    }

    fn try_enter(&self, count: u32) -> Result<Option<OwnedSemaphorePermit>, ()> {
        let Some(share) = &self.0 else {
            return Ok(None);
        };
        let entered = Arc::clone(share).try_acquire_many_owned(count);
        entered.map(Some).map_err(|_| ())
    }

    async fn enter(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        let share = Arc::clone(self.0.as_ref()?);
        share.acquire_many_owned(count).await.ok()
    }
}

impl Pool {
    /// Bytes that may be lent at once.
    pub const LIMIT_BYTES: u64 = (PERMITS * PERMIT_LEN) as u64;

    /// Bytes that are lent now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let lent = PERMITS.saturating_sub(self.permits.available_permits());
        (lent * PERMIT_LEN) as u64
    }

    /// Bytes of memory in buffers that are free, for the next that need one.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.free().iter().map(Memory::bytes).sum()
    }

    /// An empty pool.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            permits: Arc::new(Semaphore::new(PERMITS)),
        })
    }

    /// An empty buffer with room for [`BUFFER_LEN`] bytes, if there is one now.
    pub fn try_take(self: &Arc<Self>, share: &ConnectionQuota) -> Option<Buffer> {
        let share = share.try_enter(1).ok()?;
        let permit = Arc::clone(&self.permits)
            .try_acquire_many_owned(LENT)
            .ok()?;
        Some(self.lend(Some(permit), share))
    }

    /// An empty buffer with room for [`BUFFER_LEN`] bytes. Waits while too much is lent: that is the back-pressure.
    /// Those who wait have their turn in the order in which they came.
    ///
    /// Cancel-safe: dropped, it has taken nothing.
    pub async fn take(self: &Arc<Self>, share: &ConnectionQuota) -> Buffer {
        let share = share.enter(1).await;
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_many_owned(LENT).await;
        self.lend(permit.ok(), share)
    }

    fn lend(
        self: &Arc<Self>,
        permit: Option<OwnedSemaphorePermit>,
        share: Option<OwnedSemaphorePermit>,
    ) -> Buffer {
        let mut memory = self.free().pop().unwrap_or_default();
        memory.bytes.reserve(BUFFER_LEN);
        Buffer {
            memory,
            home: Some(Arc::clone(self)),
            permit,
            share,
        }
    }

    /// Counts a buffer as what it and `more` bytes beside it charge, if that can be done now. A lent buffer can
    /// always: it gives back what was set aside for it and is not needed.
    pub fn try_charge(
        &self,
        buffer: &mut Buffer,
        more: usize,
        share: &mut ConnectionQuota,
    ) -> bool {
        if buffer.permit.is_some() {
            self.settle(buffer, more, share);
            return true;
        }
        let (cost, parts) = buffer.cost(more);
        share.bound();
        let Ok(part) = share.try_enter(parts) else {
            return false;
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_many_owned(cost) else {
            return false;
        };
        (buffer.permit, buffer.share) = (Some(permit), part);
        self.trim();
        true
    }

    /// The same, of a buffer that is not the pool's. Waits while too much is lent.
    ///
    /// Cancel-safe: dropped, it has taken nothing.
    pub async fn charge(&self, buffer: &mut Buffer, more: usize, share: &mut ConnectionQuota) {
        let (cost, parts) = buffer.cost(more);
        share.bound();
        let part = share.enter(parts).await;
        let permits = Arc::clone(&self.permits);
        (buffer.permit, buffer.share) = (permits.acquire_many_owned(cost).await.ok(), part);
        self.trim();
    }

    /// Gives back what was set aside for a lent buffer, and the buffer itself where that is worth a copy.
    fn settle(&self, buffer: &mut Buffer, more: usize, share: &mut ConnectionQuota) {
        if buffer.memory.bytes.len() <= COPY_MAX {
            buffer.share = None;
            if self.permits.available_permits() < PERMITS / 2 {
                buffer.shrink();
            }
        } else {
            share.bound();
        }
        let (cost, _) = buffer.cost(more);
        if let Some(permit) = &mut buffer.permit {
            let surplus = permit.num_permits().saturating_sub(cost as usize);
            drop(permit.split(surplus));
        }
    }

    fn give_back(&self, mut memory: Memory) {
        memory.bytes.clear();
        memory.spans.clear();
        memory.spans.shrink_to(SPANS_KEPT);
        self.free().push(memory);
        self.trim();
    }

    /// What is free is never more than what may be lent.
    fn trim(&self) {
        let most = self.permits.available_permits() / KEPT as usize;
        self.free().truncate(most.max(1));
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
    share: Option<OwnedSemaphorePermit>,
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
            share: None,
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

    /// The bytes, to add to them; and where the blocks are.
    pub const fn parts_mut(&mut self) -> (&mut Vec<u8>, &mut Vec<Span>) {
        (&mut self.memory.bytes, &mut self.memory.spans)
    }

    /// The bytes from `used` on, for a connection to keep: a copy of the right size where the buffer is the pool's.
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

    /// Bytes of memory that it takes and that no permit stands for.
    #[must_use]
    pub fn uncharged(&self) -> usize {
        match self.permit {
            Some(_) => 0,
            None => self.memory.bytes.capacity() + self.memory.spans.capacity() * size_of::<Span>(),
        }
    }

    /// What it and `more` bytes beside it charge: in permits of the pool, and in parts of a share.
    fn cost(&self, more: usize) -> (u32, u32) {
        let spans = self.memory.spans.capacity() * size_of::<Span>();
        let len = self.memory.bytes.capacity() + spans + more;
        let parts = len.div_ceil(BUFFER_LEN).clamp(1, SHARE);
        (permits(len), u32::try_from(parts).unwrap_or(1))
    }

    /// Moves to memory of the right size, and gives the large one back.
    fn shrink(&mut self) {
        if let Some(pool) = self.home.take() {
            let small = Memory {
                bytes: self.memory.bytes.as_slice().to_vec(),
                spans: self.memory.spans.as_slice().to_vec(),
            };
            pool.give_back(std::mem::replace(&mut self.memory, small));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.home.take() {
            // First, so that there is room for it among the free ones.
            drop(self.permit.take());
            pool.give_back(std::mem::take(&mut self.memory));
        }
    }
}

/// What so many bytes charge, in permits: never nothing, and never more than there are.
const fn permits(len: usize) -> u32 {
    let count = len.div_ceil(PERMIT_LEN);
    // No more than `PERMITS`, which is a small number.
    if count < PERMITS {
        (if count == 0 { 1 } else { count }) as u32
    } else {
        PERMITS as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer that was read into, and is to wait in the queue.
    fn read(pool: &Arc<Pool>, len: usize, share: &mut ConnectionQuota) -> Option<Buffer> {
        let mut buffer = pool.try_take(share)?;
        buffer.parts_mut().0.resize(len, 0);
        assert!(pool.try_charge(&mut buffer, 0, share));
        Some(buffer)
    }

    fn memory(pool: &Pool, held: &[Buffer]) -> u64 {
        let held = held.iter().map(|buffer| buffer.memory.bytes());
        held.sum::<u64>() + pool.kept_bytes()
    }

    #[test]
    fn thousands_of_small_batches_may_wait_in_the_memory_of_sixty_four_buffers() {
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
    fn full_buffers_are_not_copied_and_one_connection_has_but_its_share_of_them() {
        let pool = Pool::new();
        let mut share = ConnectionQuota::default();
        let held: Vec<_> = std::iter::from_fn(|| read(&pool, BUFFER_LEN, &mut share)).collect();
        // One more: that which showed that the connection needs a bound.
        assert_eq!(held.len(), SHARE + 1);
        assert!(held.iter().all(|buffer| buffer.home.is_some()));
        let mut others: Vec<_> =
            std::iter::from_fn(|| read(&pool, BUFFER_LEN, &mut ConnectionQuota::default()))
                .collect();
        assert!(held.len() * 3 < others.len(), "{}", others.len());
        others.extend(held);
        assert!(memory(&pool, &others) <= 16 << 20);
        drop(others);
        assert!(read(&pool, BUFFER_LEN, &mut share).is_some());
    }

    #[test]
    fn who_waits_has_a_turn_before_who_comes_later() {
        let pool = Pool::new();
        let mut held: Vec<_> =
            std::iter::from_fn(|| read(&pool, BUFFER_LEN, &mut ConnectionQuota::default()))
                .collect();
        let share = ConnectionQuota::default();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut waiting = Box::pin(pool.take(&share));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        held.truncate(held.len() - 2);
        assert!(pool.try_take(&share).is_none(), "there is one in front");
        held.clear();
        assert!(waiting.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_block_that_is_larger_than_the_pool_waits_until_it_is_alone() {
        let pool = Pool::new();
        let mut large = Buffer::own(Vec::with_capacity(20 << 20));
        let other = read(&pool, 100, &mut ConnectionQuota::default());
        assert!(!pool.try_charge(&mut large, 0, &mut ConnectionQuota::default()));
        drop(other);
        assert!(pool.try_charge(&mut large, 0, &mut ConnectionQuota::default()));
        assert!(pool.try_take(&ConnectionQuota::default()).is_none());
        assert_eq!(memory(&pool, &[]) >> 19, 0, "the free ones make room");
    }
}
