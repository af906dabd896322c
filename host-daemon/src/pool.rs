//! Read buffers, lent to connections that have something to read: the bound on what the daemon holds.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Length of a pooled buffer, in bytes: one read of a fast sender, and still in the cache when it is decoded.
pub const BUFFER_LEN: usize = 256 << 10;

/// How many buffers are lent at once, so how many bytes may wait in the queue: 16 MiB.
const BUFFERS: usize = 64;

/// The buffers of one daemon. Memory is taken when it is first needed, and kept.
#[derive(Debug)]
pub struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
    permits: Arc<Semaphore>,
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
        let bytes = self
            .free()
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BUFFER_LEN));
        Buffer {
            bytes,
            home: Some((Arc::clone(self), permit)),
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that were read; a lent buffer goes home when dropped.
#[derive(Debug)]
pub struct Buffer {
    /// The bytes.
    pub bytes: Vec<u8>,
    home: Option<(Arc<Pool>, Option<OwnedSemaphorePermit>)>,
}

impl Buffer {
    /// Bytes that are not the pool's: of a block that is larger than a pooled buffer.
    #[must_use]
    pub const fn own(bytes: Vec<u8>) -> Self {
        Self { bytes, home: None }
    }

    /// The bytes, for a connection to keep: a copy of the right size where the buffer is the pool's.
    #[must_use]
    pub fn into_carry(mut self) -> Vec<u8> {
        if self.home.is_some() {
            self.bytes.clone()
        } else {
            std::mem::take(&mut self.bytes)
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some((pool, permit)) = self.home.take() {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            pool.free().push(bytes);
            drop(permit);
        }
    }
}
