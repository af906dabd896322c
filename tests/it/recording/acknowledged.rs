//! A log of numbered messages that are acknowledged when their commit is durable, after a crash and after a power failure at any
//! moment, on a disk whose syncs fail: each acknowledged message is there, and none is there twice.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::internals::filename::{self, Suffix};
use blocksd_recording::topic::{Kind, SESSIONS_TOPIC};
use blocksd_recording::{
    Channel, ChannelSpec, Compression, Error, Log, LogContext, LogOptions, LostRange, Message,
    MessageOrigin, Reader, Retention, Visitor, Wanted,
};
use blocksd_tests::disk::{Chance, End, Fault, Simulated};
use blocksd_tests::process::run;
use blocksd_tests::recorded::payload;
use tempfile::TempDir;

/// Number of moments of each kind; `BLOCKSD_TEST_MOMENTS` overrides it.
const MOMENTS: usize = 60;
/// Recordings of one kind that are made until one of them has messages to set aside.
const RECORDINGS_MAX: u64 = 5;

/// Number of messages that are acknowledged in the end.
const MESSAGES: u64 = 800;

/// The writer of a session: after a failed sync, it continues with the first unacknowledged message.
struct Session {
    log: Log,
    /// Channels of messages, of entries about sessions, and of messages without a number.
    channels: [Channel; 3],
    written: u64,
    epoch: u64,
    /// For each commit, the number after its last message.
    commits: Arc<Mutex<VecDeque<(u64, u64)>>>,
    durable: Arc<AtomicU64>,
    /// How many times a sync failed.
    failures: u64,
}

impl Session {
    fn new(disk: &Simulated, durable: &Arc<AtomicU64>, compression: Compression) -> Self {
        let folder = Arc::new(disk.clone());
        let context = LogContext::new(Path::new(""), folder, Arc::default(), Retention::new(None));
        let context = context.reporting_to(|_| ());
        let options = LogOptions {
            compression,
            rotate_bytes: 20_000,
            rotate_after: Duration::from_secs(3600),
            sync_after: Duration::from_secs(3600),
        };
        let log = Log::new(options, Arc::new(context), 1);
        let commits = Arc::<Mutex<VecDeque<_>>>::default();
        let (pending, acknowledged) = (Arc::clone(&commits), Arc::clone(durable));
        log.on_commit(move |outcome| {
            let mut pending = pending.lock().unwrap();
            while let Some((_, after)) = pending.pop_front_if(|(it, _)| *it <= outcome.number) {
                if outcome.is_durable {
                    acknowledged.fetch_max(after, Ordering::Relaxed);
                }
            }
        });
        Self {
            log,
            channels: Default::default(),
            written: 0,
            epoch: 1,
            commits,
            durable: Arc::clone(durable),
            failures: 0,
        }
    }

    fn rotate(&mut self) {
        self.log
            .rotate_if_due()
            .expect("a disk that works in the end");
        if self.log.epoch() != self.epoch {
            self.epoch = self.log.epoch();
            self.failures += 1;
            self.written = self.durable.load(Ordering::Relaxed);
        }
    }

    fn append(&mut self, chance: &mut Chance) {
        self.rotate();
        let count = chance.of(1..=20) as u64;
        let messages: Vec<_> = (self.written..self.written + count).map(payload).collect();
        let first = self.written;
        for (at, topic) in ["/device/imu/blocks", SESSIONS_TOPIC, "/device/plain/blocks"]
            .into_iter()
            .enumerate()
        {
            let spec = || ChannelSpec {
                topic: topic.to_owned(),
                metadata: match at {
                    0 => BTreeMap::from([
                        ("session".to_owned(), "9f3a5c7711d2e4b6".to_owned()),
                        ("first".to_owned(), first.to_string()),
                    ]),
                    _ => BTreeMap::new(),
                },
                ..ChannelSpec::default()
            };
            let channel = self.log.channel(&mut self.channels[at], spec);
            let channel = channel.expect("a disk that works in the end");
            let origin = MessageOrigin::new(1, first).filter(|_| at == 0);
            let len = if at == 0 { messages.len() } else { 1 };
            let payloads = messages[..len].iter().map(Vec::as_slice);
            self.log
                .append_all(channel, origin, first as u32, 1, payloads)
                .expect("a disk that works in the end");
        }
        self.written += count;
        // The commit may begin before the next message.
        let commit = (self.log.next_commit(), self.written);
        self.commits.lock().unwrap().push_back(commit);
    }
}

/// Records a session until all messages are acknowledged. Returns how many syncs failed.
fn record(
    disk: &Simulated,
    durable: &Arc<AtomicU64>,
    compression: Compression,
    chance: &mut Chance,
) -> u64 {
    let mut session = Session::new(disk, durable, compression);
    while durable.load(Ordering::Relaxed) < MESSAGES {
        if session.written < 2 * MESSAGES {
            session.append(chance);
        }
        if chance.of(0..=3) == 0 {
            session.rotate();
            if chance.of(0..=7) == 0 {
                while session.log.is_syncing() {
                    std::thread::yield_now();
                }
            }
            session.log.commit().expect("a disk that works in the end");
        }
    }
    let failures = session.failures;
    let _ = session.log.finish();
    failures
}

/// The numbers of messages in a folder, in the order of files.
#[derive(Debug, Default)]
struct Numbers {
    numbers: Vec<u64>,
    unconfirmed: u64,
}

impl Visitor for Numbers {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let metadata = &message.channel.record.metadata;
        if message.channel.kind == Kind::Unconfirmed {
            assert!(message.origin.is_none() && !metadata.contains_key("session"));
            self.unconfirmed += 1;
        } else if metadata.contains_key("session") {
            let number = message.origin.expect("a number").seq;
            assert_eq!(message.sequence, number as u32);
            assert!(message.data == payload(number), "a forged message");
            self.numbers.push(number);
        }
        Ok(())
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Error> {
        panic!("{}: {lost}", file.display());
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Restores moments of a recording, repairs the files, and asserts that each acknowledged message is there once. Returns how many
/// messages were set aside.
fn survives(end: End, compression: Compression, fault: Option<Fault>, seed: u64) -> u64 {
    let durable = Arc::<AtomicU64>::default();
    let disk = Simulated::acknowledging(Arc::clone(&durable), fault);
    let mut chance = Chance(seed);
    let failures = record(&disk, &durable, compression, &mut chance);
    assert_eq!(failures != 0, fault.is_some());
    let given = std::env::var("BLOCKSD_TEST_MOMENTS").ok();
    let moments = given.map_or(MOMENTS, |given| given.parse().expect("a number"));
    let mut unconfirmed = 0;
    for _ in 0..moments {
        let moment = chance.of(0..=disk.moments() - 1);
        let folder = TempDir::new().expect("a folder");
        disk.leave(moment, end, &mut chance, folder.path())
            .expect("space on the disk");
        let context = format!("{end:?}, {compression:?}, seed {seed}, moment {moment}");
        for repaired in CHECKER.repair_dir(folder.path()).expect("a folder") {
            let repaired = repaired.expect("a disk that works");
            unconfirmed += repaired.recovered.unconfirmed;
        }
        let mut read = Numbers::default();
        let reader = Reader::new(vec![folder.path().to_owned()], Wanted::default());
        reader.visit(&mut read).expect("sound files");
        let contiguous = 0..read.numbers.len() as u64;
        let acknowledged = disk.promised(moment);
        assert!(
            read.numbers.iter().copied().eq(contiguous),
            "{context}: {:?}",
            read.numbers
        );
        assert!(
            acknowledged <= read.numbers.len() as u64,
            "{context}: {acknowledged} were acknowledged, and {} are there",
            read.numbers.len()
        );
        for path in folder.path().read_dir().expect("a folder") {
            let path = path.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            if filename::suffix(&name) == Some(Suffix::Sealed) {
                let checked = CHECKER.check(&path).expect("a file");
                assert!(checked.is_some(), "{context}: {name}");
            }
        }
    }
    unconfirmed
}

/// As [`survives`] after a power failure, and asserts that messages are set aside. How many depends on the timing of the syncs, so
/// one recording may have none: then others follow.
fn sets_aside(compression: Compression, fault: Option<Fault>, seed: u64) {
    let mut seeds = (0..RECORDINGS_MAX).map(|more| seed + 100 * more);
    let has_some = seeds.any(|seed| survives(End::Power, compression, fault, seed) != 0);
    assert!(has_some, "nothing was set aside");
}

const FAILING: Option<Fault> = Some(Fault {
    writes: usize::MAX,
    syncs: 9,
    names: usize::MAX,
});

#[test]
fn acknowledged_messages_are_there_once_after_a_crash() {
    assert_eq!(survives(End::Kill, Compression::None, None, 1), 0);
    survives(End::Kill, Compression::None, FAILING, 2);
}

#[test]
fn acknowledged_messages_are_there_once_after_a_power_failure() {
    sets_aside(Compression::None, None, 3);
    sets_aside(Compression::Zstd, None, 4);
}

#[test]
fn acknowledged_messages_are_there_once_after_syncs_and_the_power_failed() {
    sets_aside(Compression::None, FAILING, 5);
    sets_aside(Compression::Lz4, FAILING, 6);
}

#[test]
fn commands_leave_out_what_is_set_aside_and_entries_about_sessions() {
    let folder = TempDir::new().unwrap();
    let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let topics = [
        ("/device/imu/unconfirmed", 0, "aside"),
        (SESSIONS_TOPIC, 0, "{}"),
        ("/blocksd/sessions/unconfirmed", 0, "{}"),
        ("/device/imu/blocks", 0, "first"),
        ("/device/imu/blocks", 1, "last"),
    ];
    for (topic, sequence, text) in topics {
        let spec = || ChannelSpec {
            topic: topic.to_owned(),
            metadata: [("device", "imu"), ("framing", "blocks"), ("decode", "text")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..ChannelSpec::default()
        };
        let channel = log.channel(&mut Channel::default(), spec).unwrap();
        log.append(channel, sequence, 1, text.as_bytes()).unwrap();
    }
    log.finish().unwrap();
    let path = folder.path().to_str().unwrap();
    let output = |args: &[&str]| {
        let ended = run(&[args, &[path]].concat(), b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout_text()
    };
    assert_eq!(output(&["read", "--output", "csv"]).lines().count(), 3);
    assert_eq!(output(&["read", "--output", "json"]).lines().count(), 2);
    assert_eq!(output(&["read", "--output", "raw"]), "firstlast");
    assert_eq!(output(&["read", "--last", "1", "--output", "raw"]), "last");
    let listed: serde_json::Value =
        serde_json::from_str(&output(&["recordings", "--json"])).unwrap();
    let counts = ["blocks", "bytes"].map(|key| listed[key].as_u64());
    assert_eq!(counts, [Some(2), Some(9)]);
    assert_eq!(listed["devices"], serde_json::json!(["imu"]));
    output(&["verify"]);
}
