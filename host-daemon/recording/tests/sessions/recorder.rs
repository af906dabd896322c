//! A log of numbered messages, and its files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use blocksd_recording::internals::storage::Directory;
use blocksd_recording::scan::{Found, Scan};
use blocksd_recording::{
    Channel, ChannelSpec, CommitOutcome, Compression, FileNonce, Log, LogContext, LogOptions,
    MessageOrigin, Retention, Stats, WindowedFile, topic,
};
use tempfile::TempDir;

use crate::disk::{FailingFolder, PATIENCE, Syncs};

/// A log, and the outcomes of its commits.
pub(crate) struct Recorder {
    pub(crate) folder: TempDir,
    pub(crate) context: Arc<LogContext>,
    pub(crate) log: Log,
    pub(crate) channel: Channel,
    pub(crate) is_numbered: bool,
    pub(crate) sequence: u32,
    pub(crate) outcomes: mpsc::Receiver<CommitOutcome>,
}

impl Recorder {
    pub(crate) fn new(syncs: &Arc<Syncs>, is_numbered: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let failing = FailingFolder(Directory::open(folder.path()).unwrap(), Arc::clone(syncs));
        let stats = Arc::<Stats>::default();
        let context = LogContext::new(
            folder.path(),
            Arc::new(failing),
            stats,
            Retention::new(None),
        );
        let context = Arc::new(context.reporting_to(|_| ()));
        let options = LogOptions {
            compression: Compression::None,
            // Each call rotates.
            rotate_after: Duration::ZERO,
            ..LogOptions::default()
        };
        let log = Log::new(options, Arc::clone(&context), 1);
        let (send, outcomes) = mpsc::channel();
        log.on_commit(move |outcome| send.send(outcome).unwrap());
        Self {
            folder,
            context,
            log,
            channel: Channel::default(),
            is_numbered,
            sequence: 0,
            outcomes,
        }
    }

    /// Appends a message, and returns the number of the commit that it belongs to.
    pub(crate) fn append(&mut self) -> u64 {
        let is_numbered = self.is_numbered;
        let sequence = self.sequence;
        let spec = || ChannelSpec {
            topic: "/device/imu/blocks".to_owned(),
            metadata: match is_numbered {
                true => BTreeMap::from([
                    ("session".to_owned(), "9f3a5c7711d2e4b6".to_owned()),
                    ("first".to_owned(), sequence.to_string()),
                ]),
                false => BTreeMap::new(),
            },
            is_counted: true,
            ..ChannelSpec::default()
        };
        let channel = self.log.channel(&mut self.channel, spec).unwrap();
        let reading = sequence.to_string();
        let origin = MessageOrigin::new(7, sequence.into());
        let messages = std::iter::once(reading.as_bytes());
        self.log
            .append_all(channel, origin, sequence, 1, messages)
            .unwrap();
        self.sequence += 1;
        self.log.next_commit()
    }

    /// As [`append`](Self::append), with an entry about a session and a message of another device before it.
    pub(crate) fn append_with_others(&mut self) -> u64 {
        let reading = self.sequence.to_string();
        for topic in [topic::SESSIONS_TOPIC, "/device/plain/blocks"] {
            let spec = || ChannelSpec {
                topic: topic.to_owned(),
                ..ChannelSpec::default()
            };
            let channel = self.log.channel(&mut Channel::default(), spec).unwrap();
            let reading = reading.as_bytes();
            self.log.append(channel, self.sequence, 1, reading).unwrap();
        }
        self.append()
    }

    /// Commits messages with others, and waits until they are durable.
    pub(crate) fn commit_durably(&mut self, count: u32) {
        for _ in 0..count {
            let number = self.append_with_others();
            self.log.commit().unwrap();
            assert_eq!(self.outcome(), (number, true));
        }
    }

    /// Writes a message with others to the file, in a chunk of its own. It does not become durable.
    pub(crate) fn write(&mut self, count: u32) {
        for _ in 0..count {
            self.append_with_others();
            self.log.commit().unwrap();
        }
    }

    /// Leaves the last file torn.
    pub(crate) fn leave(self) -> TempDir {
        drop(self.log);
        self.folder
    }

    pub(crate) fn append_and_commit(&mut self) -> u64 {
        let number = self.append();
        self.log.commit().unwrap();
        assert_eq!(self.log.next_commit(), number + 1);
        number
    }

    pub(crate) fn rotate(&mut self) {
        assert!(self.log.is_rotation_due());
        assert!(self.log.rotate_if_due().unwrap());
    }

    pub(crate) fn outcome(&self) -> (u64, bool) {
        let outcome = self.outcomes.recv_timeout(PATIENCE).unwrap();
        (outcome.number, outcome.is_durable)
    }

    /// Waits until the writer sees a failed sync.
    pub(crate) fn wait_for_failure(&self) {
        let begun = Instant::now();
        while !self.log.has_failed_sync() {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }

    /// Ends the log. Returns the files in their order, and the outcomes that were not taken.
    pub(crate) fn end(self) -> (Vec<Recorded>, Vec<(u64, bool)>, TempDir) {
        let _ = self.log.finish();
        let outcomes = self.outcomes.try_iter();
        let outcomes = outcomes.map(|it| (it.number, it.is_durable)).collect();
        (files(self.folder.path()), outcomes, self.folder)
    }
}

/// A file as it was left.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) nonce: FileNonce,
    pub(crate) is_sealed: bool,
    /// Offsets of the chunks with messages, and the numbers of the messages in them.
    pub(crate) chunks: Vec<(u64, Vec<u32>)>,
    /// What its first chunk declares void.
    pub(crate) voided: Vec<(FileNonce, u64)>,
    /// What its chunks say about the synced length.
    pub(crate) synced: Vec<Option<u64>>,
}

impl Recorded {
    /// The numbers of the messages before an offset.
    pub(crate) fn before(&self, len: u64) -> Vec<u32> {
        let chunks = self.chunks.iter().filter(|(offset, _)| *offset < len);
        chunks.flat_map(|(_, numbers)| numbers.clone()).collect()
    }
}

pub(crate) fn files(folder: &Path) -> Vec<Recorded> {
    let mut paths: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| recorded(path)).collect()
}

pub(crate) fn recorded(path: &Path) -> Recorded {
    let mut scan = Scan::new(WindowedFile::open(path).unwrap(), None, true);
    let mut file = Recorded {
        nonce: FileNonce::default(),
        is_sealed: path.extension().is_some_and(|it| it == "mcap"),
        chunks: Vec::new(),
        voided: Vec::new(),
        synced: Vec::new(),
    };
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    while let Some(found) = scan.advance().unwrap() {
        if let Found::Chunk(chunk) = found {
            file.nonce = FileNonce::of_chunk(chunk.records).unwrap();
            let messages = chunk.records().filter_map(|(_, raw)| raw.message());
            let numbers: Vec<_> = messages.map(|(header, _)| header.sequence).collect();
            for (_, raw) in chunk.records().filter(|(_, raw)| raw.opcode == 0xb9) {
                // These are the only records of the first chunk, besides the nonce.
                assert!(numbers.is_empty() && file.chunks.is_empty() && file.synced.is_empty());
                let nonce = format!("{:016x}", number(&raw.body[..8]));
                let nonce = FileNonce::of_digits(&nonce).unwrap();
                file.voided.push((nonce, number(&raw.body[8..])));
            }
            if !numbers.is_empty() {
                let mut records = chunk.records();
                let second = records.nth(1).unwrap().1;
                let is_synced = second.opcode == 0xba;
                file.synced.push(is_synced.then(|| number(second.body)));
                file.chunks.push((chunk.offset, numbers));
            }
        }
    }
    file
}
