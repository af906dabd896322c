//! Sessions after crashes of a host that follows the rules: a start finds all durable messages, and perhaps some
//! that were only written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use blocksd::recorded::journal::{GapCause, Snapshot};
use blocksd_recording::catalog::list_directory;
use blocksd_tests::sessions::{
    KEYS, Next, SessionLog, State, audited, cut, folded, payload, repair,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// A session of a host that follows the rules.
#[derive(Clone, Debug, Default)]
struct Session {
    /// Number of the first message, the checks of all numbers from there, and how many of them are durable.
    first: u64,
    checks: Vec<u32>,
    durable: usize,
}

impl Session {
    fn next(&self, count: usize) -> Next {
        let check = count.checked_sub(1).map_or(0, |last| self.checks[last]);
        (self.first + count as u64, check)
    }
}

/// A step of a host.
#[derive(Clone, Debug)]
enum Act {
    Messages(usize, usize, usize),
    Gap(usize, usize),
    Commit,
    Seal,
    /// The host forgets a session whose messages are all durable, and later continues it at a larger number.
    Forget(usize),
    /// The durable bytes and this part of the others are left.
    Crash(f64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = 0..KEYS.len();
    let act = prop_oneof![
        9 => (key.clone(), 1..9_usize, 0..90_usize).prop_map(|(k, n, len)| Act::Messages(k, n, len)),
        3 => (key.clone(), 1..4_usize).prop_map(|(k, n)| Act::Gap(k, n)),
        3 => Just(Act::Commit),
        1 => Just(Act::Seal),
        1 => key.prop_map(Act::Forget),
        2 => (0.0..1.0).prop_map(Act::Crash),
    ];
    prop::collection::vec(act, 1..60)
}

struct Host<'a> {
    folder: &'a Path,
    log: SessionLog,
    sessions: BTreeMap<usize, Session>,
    /// The numbers with which forgotten sessions continue.
    later: BTreeMap<usize, u64>,
    has_file: bool,
    /// Length of the file that is durable.
    durable_len: u64,
}

impl Host<'_> {
    fn begin(&mut self) {
        if !self.has_file {
            self.has_file = true;
            let states = self.states(|session| session.durable);
            self.log.snapshot(Snapshot::Head, &states);
        }
    }

    fn states(&self, count: impl Fn(&Session) -> usize) -> Vec<State<'static>> {
        let state = |(key, session): (&usize, &Session)| {
            let ((device, id), (next, check)) = (KEYS[*key], session.next(count(session)));
            (device, id, next, check)
        };
        self.sessions.iter().map(state).collect()
    }

    fn session(&mut self, key: usize) -> &mut Session {
        let first = self.later.remove(&key).unwrap_or(0);
        self.sessions.entry(key).or_insert_with(|| Session {
            first,
            ..Session::default()
        })
    }

    fn synced(&mut self) {
        self.sessions
            .values_mut()
            .for_each(|it| it.durable = it.checks.len());
        let file = list_directory(self.folder).unwrap().pop();
        let file = file.filter(|_| self.has_file);
        self.durable_len = file.map_or(0, |file| file.path.metadata().unwrap().len());
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Messages(key, count, len) => {
                self.begin();
                let session = self.session(key);
                let from = session.first + session.checks.len() as u64;
                let payloads = (from..).take(count).map(|number| payload(key, number, len));
                let payloads: Vec<_> = payloads.collect();
                let checks = payloads.iter().map(|it| crc32fast::hash(it));
                session.checks.extend(checks);
                let payloads: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
                self.log.messages(KEYS[key].0, KEYS[key].1, from, &payloads);
            }
            Act::Gap(key, count) => {
                self.begin();
                let session = self.session(key);
                let from = session.first + session.checks.len() as u64;
                session.checks.resize(session.checks.len() + count, 0);
                let range = (from, from + count as u64);
                self.log
                    .gap(KEYS[key].0, KEYS[key].1, range, GapCause::Device);
            }
            Act::Commit => {
                self.log.commit();
                self.synced();
            }
            Act::Seal => {
                if self.has_file {
                    let states = self.states(|session| session.checks.len());
                    self.log.snapshot(Snapshot::End, &states);
                    self.log.seal();
                    self.has_file = false;
                }
                self.synced();
            }
            Act::Forget(key) => {
                let is_durable = |it: &Session| it.durable == it.checks.len();
                if !self.has_file && self.sessions.get(&key).is_some_and(is_durable) {
                    let session = self.sessions.remove(&key).unwrap();
                    self.later.insert(key, session.next(session.durable).0 + 5);
                }
            }
            Act::Crash(part) => self.crash(part),
        }
    }

    fn crash(&mut self, part: f64) {
        if !self.has_file {
            return;
        }
        self.log.tear();
        self.has_file = false;
        let file = list_directory(self.folder).unwrap().pop().unwrap();
        let more = file.path.metadata().unwrap().len() - self.durable_len;
        cut(self.folder, (more as f64 * part) as u64);
        self.durable_len = 0;
        assert_sound(self.folder);
        repair(self.folder);
        self.check();
    }

    /// The fold has all durable messages. It may also have messages that were written, and not synced.
    fn check(&mut self) {
        let folded = folded(self.folder);
        let mut known = BTreeMap::new();
        let mut lost = Vec::new();
        for (key, session) in &mut self.sessions {
            let of = (KEYS[*key].0.to_owned(), KEYS[*key].1);
            // Its state before it was forgotten may come back.
            let next = folded.get(&of).filter(|next| session.first <= next.0);
            let Some(next) = next else {
                assert_eq!(session.durable, 0, "{of:?} is lost");
                lost.push((*key, session.first));
                continue;
            };
            let counts = session.durable..=session.checks.len();
            let count = counts.into_iter().find(|it| session.next(*it).0 == next.0);
            let count = count.unwrap_or_else(|| panic!("{of:?} at {next:?}: {session:?}"));
            assert_eq!(session.next(count), *next, "{of:?}");
            session.checks.truncate(count);
            session.durable = count;
            known.insert(of, *next);
        }
        for (key, first) in lost {
            self.sessions.remove(&key);
            self.later.insert(key, first);
        }
        // Forgotten sessions come back only if no later head or end was written.
        for (of, next) in &folded {
            let key = KEYS.iter().position(|it| (it.0, it.1) == (&of.0, of.1));
            let later = self.later.get(&key.unwrap());
            assert!(known.contains_key(of) || later.is_some_and(|it| next.0 < *it));
        }
    }
}

/// Every number is there once, or explained.
fn assert_sound(folder: &Path) {
    for session in audited(&[folder]) {
        assert!(session.is_sound(), "{session}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_loses_nothing_that_is_durable(acts in acts()) {
        let folder = TempDir::new().unwrap();
        let mut host = Host {
            folder: folder.path(),
            log: SessionLog::new(folder.path()),
            sessions: BTreeMap::new(),
            later: BTreeMap::new(),
            has_file: false,
            durable_len: 0,
        };
        for act in &acts {
            host.act(act);
        }
        host.act(&Act::Seal);
        host.check();
        let next = |session: &Session| session.next(session.checks.len());
        let sealed: Vec<_> = host.sessions.values().map(next).collect();
        let folded = folded(folder.path());
        for next in sealed {
            prop_assert!(folded.values().any(|it| *it == next));
        }
        assert_sound(folder.path());
        // Retention deletes the oldest files.
        for file in list_directory(folder.path()).unwrap() {
            fs::remove_file(file.path).unwrap();
            assert_sound(folder.path());
        }
    }
}
