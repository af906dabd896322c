//! Recordings of sessions for tests: a [`SessionLog`].

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use blocksd::recorded::journal::{
    AuditedSession, Entry, FIRST_KEY, GapCause, SESSION_KEY, SessionAudit, Snapshot, fold,
    sessions_channel,
};
use blocksd::recorded::ranges::CHECKER;
use blocksd::recorded::time::Time;
use blocksd_recording::catalog::list_directory;
use blocksd_recording::{Channel, ChannelSpec, Log, LogOptions, MessageOrigin};

/// The time of the first record, in nanoseconds since 1970. Each record is one second later.
pub const BEGIN_NS: u64 = 1_800_000_000_000_000_000;

/// The length of a step of the numbers that begins another channel.
const STEP_MAX: u64 = 1 << 31;

/// The state of a session in a snapshot: device, session, next number and check.
pub type State<'a> = (&'a str, u64, u64, u32);

/// Device and session.
pub type Key = (String, u64);
/// The next number of a session, and the check of the message before it.
pub type Next = (u64, u32);

/// Sessions for tests. Two devices have the same session.
pub const KEYS: [(&str, u64); 3] = [("a", 7), ("b", 7), ("a", u64::MAX)];

/// Writes a recording of sessions record by record.
#[derive(Debug)]
pub struct SessionLog {
    folder: PathBuf,
    log: Option<Log>,
    /// Channels by device and session, with their next numbers.
    channels: HashMap<(String, u64), (Channel, u64)>,
    plain: HashMap<String, (Channel, u32)>,
    entries: Channel,
    sequence: u32,
    time_ns: u64,
}

impl SessionLog {
    /// Continues the recording in a folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
            log: None,
            channels: HashMap::new(),
            plain: HashMap::new(),
            entries: Channel::default(),
            sequence: 0,
            time_ns: BEGIN_NS,
        }
    }

    /// Appends messages of a session, from number `from` on.
    pub fn messages(&mut self, device: &str, session: u64, from: u64, payloads: &[&[u8]]) {
        let time_ns = self.tick();
        let known = self
            .channels
            .entry((device.to_owned(), session))
            .or_default();
        if from.abs_diff(known.1) >= STEP_MAX {
            *known = (Channel::default(), from);
        }
        let spec = || ChannelSpec {
            topic: format!("/device/{device}/blocks"),
            metadata: BTreeMap::from([
                ("device".to_owned(), device.to_owned()),
                ("framing".to_owned(), "blocks".to_owned()),
                ("decode".to_owned(), "raw".to_owned()),
                (SESSION_KEY.to_owned(), format!("{session:016x}")),
                (FIRST_KEY.to_owned(), from.to_string()),
            ]),
            is_counted: true,
            ..ChannelSpec::default()
        };
        let log = log(&mut self.log, &self.folder);
        let channel = log.channel(&mut known.0, spec).unwrap();
        known.1 = from + payloads.len() as u64;
        let payloads = payloads.iter().copied();
        let origin = MessageOrigin::new(1, from);
        log.append_all(channel, origin, from as u32, time_ns, payloads)
            .unwrap();
    }

    /// Appends a message of a device without sessions.
    pub fn plain(&mut self, device: &str, payload: &[u8]) {
        let time_ns = self.tick();
        let (known, sequence) = self.plain.entry(device.to_owned()).or_default();
        let spec = || ChannelSpec {
            topic: format!("/device/{device}/blocks"),
            metadata: BTreeMap::from([("device".to_owned(), device.to_owned())]),
            is_counted: true,
            ..ChannelSpec::default()
        };
        let log = log(&mut self.log, &self.folder);
        let channel = log.channel(known, spec).unwrap();
        log.append(channel, *sequence, time_ns, payload).unwrap();
        *sequence += 1;
    }

    /// Appends an entry.
    pub fn entry(&mut self, entry: &Entry<'_>) {
        let mut json = Vec::new();
        entry.write(&mut json).unwrap();
        self.json(&json);
    }

    /// Appends any message to the topic of the entries.
    pub fn json(&mut self, json: &[u8]) {
        let time_ns = self.tick();
        let log = log(&mut self.log, &self.folder);
        let channel = log.channel(&mut self.entries, sessions_channel).unwrap();
        log.append(channel, self.sequence, time_ns, json).unwrap();
        self.sequence += 1;
    }

    /// Appends a gap.
    pub fn gap(&mut self, device: &str, session: u64, (from, to): (u64, u64), cause: GapCause) {
        self.entry(&Entry::Gap {
            time: self.time(),
            device: device.into(),
            session,
            from,
            to,
            cause,
        });
    }

    /// Appends the entries of a snapshot, without its end.
    pub fn states(&mut self, snapshot: Snapshot, states: &[State<'_>]) {
        for &(device, session, next, check) in states {
            self.entry(&Entry::Session {
                time: self.time(),
                snapshot,
                device: device.into(),
                session,
                next,
                check,
            });
        }
    }

    /// Appends that a session was adopted, which continues at `next`.
    pub fn adopted(&mut self, device: &str, session: u64, next: u64) {
        self.entry(&Entry::Adopted {
            time: self.time(),
            device: device.into(),
            session,
            next,
        });
    }

    /// Appends the end of a snapshot.
    pub fn close(&mut self, snapshot: Snapshot, sessions: u64) {
        let time = self.time();
        self.entry(&Entry::Snapshot {
            time,
            snapshot,
            sessions,
        });
    }

    /// Appends a whole snapshot.
    pub fn snapshot(&mut self, snapshot: Snapshot, states: &[State<'_>]) {
        self.states(snapshot, states);
        self.close(snapshot, states.len() as u64);
    }

    /// Ends the chunk, and makes it durable.
    pub fn commit(&mut self) {
        if let Some(log) = &mut self.log {
            log.commit().unwrap();
            while log.is_syncing() {
                std::thread::yield_now();
            }
        }
    }

    /// Seals the file. The next record begins another one.
    pub fn seal(&mut self) {
        if let Some(log) = self.log.take() {
            log.finish().unwrap();
        }
        self.forget_channels();
    }

    /// Ends like a crash: the file is left torn, with all its records. The next record begins another one.
    pub fn tear(&mut self) {
        self.commit();
        self.log = None;
        self.forget_channels();
    }

    fn forget_channels(&mut self) {
        self.channels.clear();
        self.plain.clear();
        self.entries = Channel::default();
    }

    fn tick(&mut self) -> u64 {
        self.time_ns += 1_000_000_000;
        self.time_ns
    }

    fn time(&self) -> Time {
        Time(UNIX_EPOCH + Duration::from_nanos(self.time_ns))
    }
}

/// The open log, or a new one. Its first channel begins a file.
fn log<'a>(log: &'a mut Option<Log>, folder: &Path) -> &'a mut Log {
    log.get_or_insert_with(|| Log::open(folder, LogOptions::default()).unwrap())
}

/// The result of a fold.
#[must_use]
pub fn folded(folder: &Path) -> BTreeMap<Key, Next> {
    let sessions = fold(folder).unwrap().sessions.into_iter();
    let sessions = sessions.map(|it| ((it.device, it.session), (it.next, it.check)));
    sessions.collect()
}

/// The result of an audit of all files of some folders.
#[must_use]
pub fn audited(folders: &[&Path]) -> Vec<AuditedSession> {
    let mut audit = SessionAudit::default();
    for folder in folders {
        for file in list_directory(folder).unwrap() {
            audit.file(&file, false).unwrap();
        }
    }
    audit.finish()
}

/// The payload of message `number` of `KEYS[place]`, and `len` more bytes.
#[must_use]
pub fn payload(place: usize, number: u64, len: usize) -> Vec<u8> {
    let mut payload = format!("{place}/{number}").into_bytes();
    payload.resize(payload.len() + len, b'.');
    payload
}

/// Repairs all torn files of a folder.
pub fn repair(folder: &Path) {
    for repaired in CHECKER.repair_dir(folder).unwrap() {
        repaired.unwrap();
    }
}

/// Cuts bytes from the end of the torn file of a folder.
pub fn cut(folder: &Path, bytes: u64) {
    let torn = list_directory(folder).unwrap().pop();
    let torn = torn.filter(|file| file.sealed_path().is_some());
    if let Some(file) = torn {
        let file = fs::File::options().write(true).open(file.path).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(bytes)).unwrap();
    }
}
