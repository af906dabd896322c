//! Numbered blocks for a recording, and the one oracle: what was promised is read back once, in order, byte for byte.

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

/// The payload of block number `number` of all: the number, and as many bytes as follow from it.
pub fn payload(number: u64) -> Vec<u8> {
    let len = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    let filling = (0..len).map(|at| (number.wrapping_mul(31).wrapping_add(at) >> 2) as u8);
    number.to_be_bytes().into_iter().chain(filling).collect()
}

/// The number of a block, if it is one of these, byte for byte.
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
    })
}

/// An event with the blocks of these numbers, and then what else is on the wire.
pub fn event(source: &Arc<ConnectionInfo>, numbers: std::ops::Range<u64>, behind: &[u8]) -> Event {
    let mut wire = Vec::new();
    for number in numbers {
        let payload = payload(number);
        wire.extend(u32::try_from(payload.len()).expect("short").to_be_bytes());
        wire.extend(payload);
    }
    wire.extend(behind);
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

/// Records blocks of a device: each inner list in a chunk of its own. Gives the sealed file.
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

/// Blocks that are recordings themselves, or parts of one: of the same program, with numbers that nobody sends.
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
        // The end of a recording, which is one wherever it stands.
        let end = [
            &b"\x0f\x04\0\0\0\0\0\0\0\0\0\0\0\x02\x14\0\0\0\0\0\0\0"[..],
            &[0; 20],
            mcap::MAGIC,
        ];
        // A chunk that claims all that follows in the file.
        let mut claim = sealed[bounds(0)][..49].to_vec();
        for at in [1, 25, 41] {
            let len = if at == 1 { 1_000_040_u64 } else { 1_000_000 };
            claim[at..at + 8].copy_from_slice(&len.to_le_bytes());
        }
        vec![sealed, torn, flood, end.concat(), claim]
    });
    &PLANTED
}

/// The numbers of all blocks in the sealed files of a folder, in the order of files and messages. Every checksum is
/// checked, by the reader of the `mcap` crate.
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

/// Asserts that what was read back is in order, without anything twice, and has all blocks under `promised`.
#[track_caller]
pub fn assert_kept(read: &[u64], promised: u64) {
    for pair in read.windows(2) {
        assert!(
            pair[0] < pair[1],
            "block {} comes behind block {}",
            pair[1],
            pair[0]
        );
    }
    let kept = read.iter().take_while(|number| **number < promised).count() as u64;
    assert_eq!(kept, promised, "promised blocks are missing");
}

/// Number `n` of those that sender number `sender` sends.
pub const fn numbered(sender: u64, n: u64) -> u64 {
    sender << 40 | n
}

/// How many blocks each sender is read back with. Each must be there from the first on, in order, without a gap.
#[track_caller]
pub fn prefixes(read: &[u64]) -> BTreeMap<u64, u64> {
    let mut next = BTreeMap::new();
    for number in read {
        let (sender, n) = (number >> 40, number & ((1 << 40) - 1));
        let next: &mut u64 = next.entry(sender).or_default();
        assert_eq!(
            n, *next,
            "sender {sender}: a block is missing, or twice, or out of order"
        );
        *next += 1;
    }
    next
}

/// Sends numbered blocks until it is told to stop, or cannot any more.
#[derive(Debug)]
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sender {
    /// Sender number `sender`, which sends so many blocks at a time and then waits for so long.
    pub fn start(to: SocketAddr, sender: u64, at_a_time: u64, pause: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let Ok(mut stream) = TcpStream::connect(to) else {
                return 0;
            };
            let mut sent = 0;
            while !told.load(Ordering::Relaxed) {
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

    /// Stops it, and says how many blocks it had given to the system.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}
