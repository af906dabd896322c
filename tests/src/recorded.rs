//! Numbered blocks for a recording, and the oracle: each promised block is read back once, in order, byte for byte.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use blocksd::recorded::to_log::EventWriter;
use blocksd_engine::batch::{Batch, ClosePolicy, WholeMessages};
use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, StreamPosition};
use blocksd_engine::pool::Buffer;
use blocksd_recording::internals::filename;
use blocksd_recording::internals::storage::Directory;
use blocksd_recording::{Compression, Log, LogContext, LogOptions, Retention};
use framing_core::{AnyFraming, Blocks, Framing, Limits};
use mcap::MessageStream;
use mcap::read::Options;

/// The payload of block number `number`: the number, and bytes derived from it.
pub fn payload(number: u64) -> Vec<u8> {
    let len = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    let filling = (0..len).map(|at| (number.wrapping_mul(31).wrapping_add(at) >> 2) as u8);
    number.to_be_bytes().into_iter().chain(filling).collect()
}

/// The number of a block; `None` unless it is exactly such a payload.
pub fn number(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*bytes.first_chunk()?);
    (payload(number) == bytes).then_some(number)
}

/// A device with this number.
pub fn source(conn: u64) -> Arc<ConnectionInfo> {
    Arc::new(ConnectionInfo {
        conn,
        device: format!("10.0.0.{conn}").into(),
        framing: AnyFraming::Blocks(Blocks),
        encoding: Encoding::default(),
        first_seq: 0,
        session: None,
        certificate: None,
        stats: None,
    })
}

/// An event with the blocks of these numbers, followed by the bytes `tail`.
pub fn event(source: &Arc<ConnectionInfo>, numbers: std::ops::Range<u64>, tail: &[u8]) -> Event {
    let mut wire = Vec::new();
    for number in numbers {
        let payload = payload(number);
        wire.extend(u32::try_from(payload.len()).expect("short").to_be_bytes());
        wire.extend(payload);
    }
    wire.extend(tail);
    let limits = Limits {
        block_max: 1 << 20,
        skip_max: 1 << 20,
    };
    let mut decoder = source.framing.decoder();
    let decoded = Batch::decode(
        Buffer::own(wire),
        &mut decoder,
        &limits,
        ClosePolicy::default(),
        WholeMessages::Kept,
        &mut false,
    );
    Event {
        source: Arc::clone(source),
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        kind: EventKind::Batch {
            batch: Arc::new(decoded.batch),
            position: StreamPosition::default(),
        },
    }
}

/// Records blocks of a device, each inner list in its own chunk. Returns the sealed file.
pub fn record(
    folder: &Path,
    device: &str,
    compression: Compression,
    chunks: &[Vec<Vec<u8>>],
) -> PathBuf {
    let common = Arc::new(LogContext::new(
        Path::new(""),
        Arc::new(Directory::open(folder).expect("a folder")),
        Arc::default(),
        Retention::new(None),
    ));
    let settings = LogOptions {
        compression,
        rotate_bytes: 1 << 30,
        rotate_after: Duration::from_secs(3600),
        sync_after: Duration::from_secs(3600),
    };
    let mut writer = EventWriter::new(Log::new(settings, common, 1));
    let source = Arc::new(ConnectionInfo {
        conn: 1,
        device: device.into(),
        framing: AnyFraming::Blocks(Blocks),
        encoding: Encoding::default(),
        first_seq: 0,
        session: None,
        certificate: None,
        stats: None,
    });
    for blocks in chunks {
        let mut wire = Vec::new();
        for block in blocks {
            wire.extend(u32::try_from(block.len()).expect("short").to_be_bytes());
            wire.extend(block);
        }
        writer
            .event(&event(&source, 0..0, &wire))
            .expect("a disk that works");
        writer.commit().expect("a disk that works");
    }
    writer.finish().expect("a disk that works");
    let mut files = sealed(folder);
    files.pop().expect("a file")
}

/// Blocks that contain recordings or parts of them, of the same program, with numbers that no sender uses.
pub fn planted() -> &'static [Vec<u8>] {
    static PLANTED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let chunks: Vec<_> = (0..3).map(|n| vec![payload(1 << 60 | n)]).collect();
        let file = record(folder.path(), "10.0.0.1", Compression::None, &chunks);
        let sealed = std::fs::read(file).expect("a file");
        let summary = mcap::Summary::read(&sealed)
            .expect("sound")
            .expect("sealed");
        let mut chunks = summary.chunk_indexes.clone();
        chunks.sort_by_key(|chunk| chunk.chunk_start_offset);
        let bounds = |at: usize| {
            let begin = usize::try_from(chunks[at].chunk_start_offset).expect("small");
            begin..begin + usize::try_from(chunks[at].chunk_length).expect("small")
        };
        let torn = sealed[..bounds(2).end].to_vec();
        let flood = sealed[bounds(1)].repeat(20);
        // The end of a recording, which is valid at any place.
        let end = [
            &b"\x0f\x04\0\0\0\0\0\0\0\0\0\0\0\x02\x14\0\0\0\0\0\0\0"[..],
            &[0; 20],
            mcap::MAGIC,
        ];
        // A chunk whose length covers the rest of the file.
        let mut claim = sealed[bounds(0)][..49].to_vec();
        for at in [1, 25, 41] {
            let len = if at == 1 { 1_000_040_u64 } else { 1_000_000 };
            claim[at..at + 8].copy_from_slice(&len.to_le_bytes());
        }
        vec![sealed, torn, flood, end.concat(), claim]
    });
    &PLANTED
}

/// The numbers of all blocks in the sealed files of a folder, in the order of files and messages. The reader of the
/// `mcap` crate verifies every checksum.
#[track_caller]
pub fn read_back(folder: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for file in sealed(folder) {
        let bytes = std::fs::read(&file).expect("a file");
        let options = Options::ValidateChunkCrcs.into();
        let messages = MessageStream::new_with_options(&bytes, options);
        for message in messages.unwrap_or_else(|error| panic!("{}: {error}", file.display())) {
            let message = message.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let is_block = message.channel.topic.ends_with("/blocks");
            if is_block && !planted().iter().any(|block| message.data[..] == block[..]) {
                let number = number(&message.data);
                numbers
                    .push(number.unwrap_or_else(|| panic!("{}: a forged block", file.display())));
            }
        }
    }
    numbers
}

/// The sealed files of a folder, in the order of their numbers.
pub fn sealed(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|file| filename::is_sealed(&file.file_name().expect("a name").to_string_lossy()));
    files
        .sort_by_key(|file| filename::number(&file.file_name().expect("a name").to_string_lossy()));
    files
}

/// Asserts that the blocks are in order, without duplicates, and include all blocks below `promised`.
#[track_caller]
pub fn assert_kept(read: &[u64], promised: u64) {
    for pair in read.windows(2) {
        assert!(
            pair[0] < pair[1],
            "block {} follows block {}",
            pair[1],
            pair[0]
        );
    }
    let kept = read.iter().take_while(|number| **number < promised).count() as u64;
    assert_eq!(kept, promised, "promised blocks are missing");
}

/// Block `n` of sender `sender`.
pub const fn numbered(sender: u64, n: u64) -> u64 {
    sender << 40 | n
}

/// The number of blocks of each sender. They must be complete from the first, in order, without a gap.
#[track_caller]
pub fn prefixes(read: &[u64]) -> BTreeMap<u64, u64> {
    let mut next = BTreeMap::new();
    for number in read {
        let (sender, n) = (number >> 40, number & ((1 << 40) - 1));
        let next: &mut u64 = next.entry(sender).or_default();
        assert_eq!(
            n, *next,
            "sender {sender}: a block is missing, duplicated or out of order"
        );
        *next += 1;
    }
    next
}

/// Sends numbered blocks until it is stopped or its connection fails.
#[derive(Debug)]
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sender {
    /// Starts sender number `sender`, which sends `at_a_time` blocks and then waits for `pause`, again and again.
    pub fn start(to: SocketAddr, sender: u64, at_a_time: u64, pause: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let Ok(mut stream) = TcpStream::connect(to) else {
                return 0;
            };
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut wire = Vec::new();
                for n in sent..sent + at_a_time {
                    let payload = payload(numbered(sender, n));
                    wire.extend(u32::try_from(payload.len()).expect("short").to_be_bytes());
                    wire.extend(payload);
                }
                if stream.write_all(&wire).is_err() {
                    break;
                }
                sent += at_a_time;
                std::thread::sleep(pause);
            }
            sent
        });
        Self { stop, thread }
    }

    /// Stops the sender, and returns the number of blocks that it had passed to the system.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sender does not panic")
    }
}
