//! Stores messages for echo replies: [`Spools`] bounds their memory, and their temporary files, for each connection and
//! for all.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use embedded_io_adapters::std::FromStd;
use framing_core::{AnyFraming, SendError, blocking};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::batch::{Batch, Item};
use crate::connection::responder::ReplyError;
use crate::peer_log::{Kind, warn_peer};

/// Memory of one echo, in bytes. The rest goes to a temporary file.
const MEMORY_EACH: usize = 64 << 10;
/// Bytes that a framing adds to a message at most, besides escapes.
const ENCODED_MORE: u64 = 32;
/// Memory of the replies of all connections, in bytes. When it is exhausted, echoes go to temporary files at once.
const MEMORY_ALL: u64 = 16 << 20;
/// Operations on files of replies that run at once. Each blocks a thread: with more, a disk that hangs would hold the
/// threads of everything else.
const ON_DISK_MAX: usize = 16;
/// Bytes per read from a file: with memory for it, and without.
const CHUNK: (usize, usize) = (64 << 10, 1 << 10);

/// The stored echoes of all connections.
#[derive(Debug)]
pub struct Spools {
    max_each: u64,
    max_all: u64,
    bytes: AtomicU64,
    memory: AtomicU64,
    on_disk: Arc<Semaphore>,
}

impl Spools {
    /// Creates a store with a limit for one connection, and a limit for all, in bytes.
    #[must_use]
    pub fn new(max_each: u64, max_all: u64) -> Arc<Self> {
        Arc::new(Self {
            max_each,
            max_all,
            bytes: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            on_disk: Arc::new(Semaphore::new(ON_DISK_MAX)),
        })
    }

    /// Returns the number of bytes that are stored now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the limit for all connections, in bytes.
    #[must_use]
    pub const fn limit_bytes(&self) -> u64 {
        self.max_all
    }

    /// Runs an operation on a file on a thread for blocking operations, a few at once. Returns `None` if the runtime is
    /// shutting down.
    pub(crate) async fn on_disk<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.on_disk).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let result = operation();
            drop(permit);
            result
        });
        match done.await {
            Ok(result) => Some(result),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        }
    }

    /// Returns memory to read from a file.
    pub(super) fn chunk(self: &Arc<Self>) -> Chunk {
        let share = SpoolQuota::take(self, CHUNK.0 as u64);
        let len = if share.is_some() { CHUNK.0 } else { CHUNK.1 };
        Chunk {
            bytes: vec![0; len],
            _share: share,
        }
    }
}

/// Memory that is counted in [`Spools`] until it is dropped.
#[derive(Debug)]
struct SpoolQuota {
    spools: Arc<Spools>,
    bytes: u64,
}

impl SpoolQuota {
    fn take(spools: &Arc<Spools>, bytes: u64) -> Option<Self> {
        take(&spools.memory, bytes, MEMORY_ALL).then(|| Self {
            spools: Arc::clone(spools),
            bytes,
        })
    }
}

impl Drop for SpoolQuota {
    fn drop(&mut self) {
        self.spools.memory.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Memory to read from a file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    _share: Option<SpoolQuota>,
}

/// The encoded echo of one connection.
#[derive(Debug)]
pub(super) struct Spool {
    spools: Arc<Spools>,
    len: u64,
    memory: Vec<u8>,
    share: Option<SpoolQuota>,
    file: Option<File>,
}

impl Spool {
    pub(super) fn new(spools: &Arc<Spools>) -> Self {
        Self {
            spools: Arc::clone(spools),
            len: 0,
            memory: Vec::new(),
            share: None,
            file: None,
        }
    }

    /// Whether the messages of a batch may need the temporary file. Reserves memory for them otherwise.
    pub(super) fn is_slow(&mut self, batch: &Batch) -> bool {
        let (mut messages, mut bytes) = batch.messages();
        for (_, mark) in batch.marks() {
            if let Item::Piece { bytes: piece, .. } = mark {
                (messages, bytes) = (messages + 1, bytes + piece.len() as u64);
            }
        }
        // An encoded message is at most twice as long, and a few bytes more.
        let most = bytes.saturating_mul(2) + messages.saturating_mul(ENCODED_MORE);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        messages != 0 && !self.reserve(most)
    }

    /// Stores the messages of a batch.
    ///
    /// # Errors
    /// [`ReplyError::EchoTooLarge`]; [`ReplyError::Write`] if the disk fails.
    pub(super) fn keep(
        &mut self,
        batch: &Batch,
        framing: AnyFraming,
        device: &str,
    ) -> Result<(), ReplyError> {
        self.try_keep(batch, framing, device).map_err(|source| {
            match source.downcast::<TooLarge>() {
                Ok(TooLarge { limit, max_bytes }) => ReplyError::EchoTooLarge { limit, max_bytes },
                Err(source) => ReplyError::Write {
                    path: std::env::temp_dir(),
                    source,
                },
            }
        })
    }

    fn try_keep(&mut self, batch: &Batch, framing: AnyFraming, device: &str) -> io::Result<()> {
        // Buffered, so that small messages are not written one by one.
        let mut writer = blocking::Writer::new(FromStd::new(BufWriter::new(self)), framing);
        for item in batch.items() {
            match item {
                // A received line may end in a byte that a sent line must not: it is not echoed.
                Item::Message(bytes) => match writer.send(bytes) {
                    Err(SendError::Refused(refusal)) => {
                        warn_peer!(Kind::Reply, device, %device, "not echoed: {refusal}");
                    }
                    sent => sent.map_err(of_io)?,
                },
                Item::Piece { bytes, .. }
                    if framing == AnyFraming::Stream(framing_core::Stream) =>
                {
                    writer.send(bytes).map_err(of_io)?;
                }
                Item::Piece { .. }
                | Item::End
                | Item::Fault(_)
                | Item::Reset
                | Item::AfterEnd { .. } => {}
            }
        }
        writer.io_mut().inner_mut().flush()
    }

    /// Reads stored bytes from `offset` on. Returns their number.
    pub(super) async fn read_at(
        &mut self,
        offset: u64,
        mut chunk: Chunk,
    ) -> Result<(usize, Chunk), ReplyError> {
        let Some(mut file) = self.file.take() else {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let mut left = self.memory.get(from..).unwrap_or_default();
            // Reading from memory cannot fail.
            let len = left.read(&mut chunk.bytes).unwrap_or_default();
            return Ok((len, chunk));
        };
        let read = self.spools.on_disk(move || {
            let sought = file.seek(SeekFrom::Start(offset));
            let read = sought.and_then(|_| file.read(&mut chunk.bytes));
            (file, chunk, read)
        });
        let (file, chunk, read) = read.await.ok_or(ReplyError::ShuttingDown)?;
        self.file = Some(file);
        let len = read.map_err(|source| ReplyError::Read {
            path: std::env::temp_dir(),
            source,
        })?;
        Ok((len, chunk))
    }

    /// Stores bytes in memory. Returns `false` if there is no room for them.
    fn keep_in_memory(&mut self, bytes: &[u8]) -> bool {
        let has_room = self.reserve(bytes.len());
        if has_room {
            self.memory.extend_from_slice(bytes);
        }
        has_room
    }

    /// Reserves memory for `more` bytes. Returns `false` if there is not enough memory, or if the spool uses its file.
    fn reserve(&mut self, more: usize) -> bool {
        let len = self.memory.len().saturating_add(more);
        if self.file.is_some() || MEMORY_EACH < len {
            return false;
        }
        if self.memory.capacity() < len {
            let capacity = (len * 2).clamp(512, MEMORY_EACH);
            let Some(share) = SpoolQuota::take(&self.spools, capacity as u64) else {
                return false;
            };
            self.memory.reserve_exact(capacity - self.memory.len());
            self.share = Some(share);
        }
        true
    }

    /// Returns the temporary file. Creates it with the bytes in memory if needed.
    fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut file = tempfile::tempfile()?;
                file.write_all(&self.memory)?;
                self.memory = Vec::new();
                self.share = None;
                file
            }
        };
        Ok(self.file.insert(file))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len() as u64;
        if self.spools.max_each < self.len.saturating_add(len) {
            return Err(too_large("reply-max-bytes", self.spools.max_each));
        }
        let all = self.spools.max_all;
        // Reserve an eighth for short echoes.
        let is_short = self.len + len <= MEMORY_EACH as u64;
        let most = if is_short { all } else { all - all / 8 };
        if !take(&self.spools.bytes, len, most) {
            return Err(too_large("reply-max-total-bytes", all));
        }
        self.len += len;
        if !self.keep_in_memory(bytes) {
            self.file()?.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.spools.bytes.fetch_sub(self.len, Ordering::Relaxed);
        // The file has no name: closing it deletes its bytes.
        if let (Some(file), Ok(runtime)) = (self.file.take(), Handle::try_current()) {
            drop(runtime.spawn_blocking(|| drop(file)));
        }
    }
}

/// Adds `bytes` to `sum`. Returns `false`, and adds nothing, if the result would exceed `most`.
fn take(sum: &AtomicU64, bytes: u64, most: u64) -> bool {
    let add = |now: u64| now.checked_add(bytes).filter(|then| *then <= most);
    let added = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    added.is_ok()
}

/// An echo exceeds a limit.
#[derive(Debug, thiserror::Error)]
#[error("larger than {limit}")]
struct TooLarge {
    limit: &'static str,
    max_bytes: u64,
}

fn too_large(limit: &'static str, max_bytes: u64) -> io::Error {
    let error = TooLarge { limit, max_bytes };
    io::Error::new(io::ErrorKind::FileTooLarge, error)
}

fn of_io(error: SendError<io::Error>) -> io::Error {
    match error {
        SendError::Io(error) => error,
        // The rest of a message can be refused only if its beginning was.
        _ => io::ErrorKind::WriteZero.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(len: usize) -> Batch {
        let span = crate::pool::Span::new(0, len);
        Batch::of_messages(vec![b'x'; len], vec![span])
    }

    fn spool(spools: &Arc<Spools>, len: usize) -> (Spool, Result<(), ReplyError>) {
        let mut spool = Spool::new(spools);
        let framing = AnyFraming::Stream(framing_core::Stream);
        let kept = spool.keep(&batch(len), framing, "device");
        (spool, kept)
    }

    #[test]
    fn stored_bytes_are_limited_for_each_and_for_all_and_released() {
        let spools = Spools::new(100_000, 250_000);
        assert!(spool(&spools, 100_001).1.is_err());
        assert_eq!(spools.bytes(), 0);
        let kept: Vec<_> = (0..2).map(|_| spool(&spools, 100_000)).collect();
        assert!(kept.iter().all(|(_, kept)| kept.is_ok()));
        let refused = spool(&spools, 100_000).1.unwrap_err().to_string();
        assert!(refused.contains("reply-max-total-bytes"), "{refused}");
        drop(kept);
        assert_eq!(spools.bytes(), 0);
    }

    #[tokio::test]
    async fn echoes_of_many_connections_stay_within_the_memory_limit() {
        let spools = Spools::new(1 << 20, 1 << 30);
        let mut kept: Vec<_> = (0..600).map(|_| spool(&spools, 50_000)).collect();
        assert!(kept.iter().all(|(_, kept)| kept.is_ok()));
        let memory: usize = kept.iter().map(|(spool, _)| spool.memory.capacity()).sum();
        assert!(memory as u64 <= MEMORY_ALL, "{memory}");
        assert_eq!(spools.memory.load(Ordering::Relaxed), memory as u64);
        // The bytes can be read back, from memory or from a file.
        for (spool, _) in &mut kept {
            let (len, chunk) = spool.read_at(49_990, spools.chunk()).await.unwrap();
            assert_eq!(chunk.bytes[..len], [b'x'; 10]);
        }
        drop(kept);
        assert_eq!(spools.memory.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn operations_on_files_run_on_other_threads_a_few_at_once() {
        let spools = Spools::new(1, 1);
        let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        let ours = std::thread::current().id();
        for _ in 0..5 * ON_DISK_MAX {
            let (spools, running, most) = (spools.clone(), running.clone(), most.clone());
            tasks.spawn(async move {
                let operation = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    running.fetch_sub(1, Ordering::SeqCst);
                    std::thread::current().id()
                };
                assert_ne!(spools.on_disk(operation).await, Some(ours));
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let most = most.load(Ordering::SeqCst);
        assert!((1..=ON_DISK_MAX as u64).contains(&most), "{most} at once");
    }

    #[test]
    fn only_what_may_not_fit_into_memory_is_slow() {
        let spools = Spools::new(1 << 20, 1 << 20);
        let mut spool = Spool::new(&spools);
        let framing = AnyFraming::Stream(framing_core::Stream);
        for _ in 0..3 {
            assert!(!spool.is_slow(&batch(10_000)));
            spool.keep(&batch(10_000), framing, "device").unwrap();
        }
        assert!(spool.file.is_none());
        assert!(spool.is_slow(&batch(20_000)));
        spool.keep(&batch(40_000), framing, "device").unwrap();
        assert!(spool.file.is_some());
        assert!(spool.is_slow(&batch(1)));
        assert!(!spool.is_slow(&Batch::of_end()));
    }

    #[test]
    fn many_files_read_at_once_take_little_memory() {
        let spools = Spools::new(1, 1);
        let chunks: Vec<_> = (0..10_000).map(|_| spools.chunk()).collect();
        let memory: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        assert!(memory <= 27 << 20, "{memory}");
    }
}
