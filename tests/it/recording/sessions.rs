//! The fold of the sessions of a recording, against a model that reads everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use blocksd::recorded::journal::{
    Entry, GapCause, SESSIONS_TOPIC, Snapshot, UnreadCause, fold, numbering,
};
use blocksd_recording::catalog::list_directory;
use blocksd_recording::{Error, LostRange, Message, Reader, Visitor, Wanted};
use blocksd_tests::sessions::{KEYS, Key, Next, SessionLog, State, folded, payload, repair};
use proptest::prelude::*;
use tempfile::TempDir;

// A model of the rules that reads all files, message by message.

#[derive(Debug)]
enum Stored {
    Message {
        key: Key,
        first: u64,
        number: u64,
        check: u32,
    },
    State {
        snapshot: Snapshot,
        key: Key,
        next: Next,
    },
    Close {
        snapshot: Snapshot,
        sessions: usize,
    },
    Adopted {
        key: Key,
        next: u64,
    },
    Gap {
        key: Key,
        from: u64,
        to: u64,
    },
}

struct Collector(Vec<Stored>);

impl Visitor for Collector {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let channel = &message.channel.record;
        if let Some((session, first)) = numbering(&channel.metadata) {
            self.0.push(Stored::Message {
                key: (message.channel.device.to_string(), session),
                first,
                number: message.origin.unwrap().seq,
                check: crc32fast::hash(message.data),
            });
        } else if channel.topic == SESSIONS_TOPIC {
            self.0.extend(stored(message.data));
        }
        Ok(())
    }

    fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), Error> {
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn stored(json: &[u8]) -> Option<Stored> {
    Some(match Entry::parse(json)? {
        Entry::Session {
            snapshot,
            device,
            session,
            next,
            check,
            ..
        } => Stored::State {
            snapshot,
            key: (device.into(), session),
            next: (next, check),
        },
        Entry::Adopted {
            device,
            session,
            next,
            ..
        } => Stored::Adopted {
            key: (device.into(), session),
            next,
        },
        Entry::Snapshot {
            snapshot, sessions, ..
        } => Stored::Close {
            snapshot,
            sessions: usize::try_from(sessions).unwrap(),
        },
        Entry::Gap {
            device,
            session,
            from,
            to,
            ..
        } => Stored::Gap {
            key: (device.into(), session),
            from,
            to,
        },
    })
}

/// The states before the end of a snapshot at `at`, if it is whole.
fn whole(records: &[Stored], at: usize) -> Option<Vec<(Key, Next)>> {
    let Stored::Close { snapshot, sessions } = records[at] else {
        return None;
    };
    let mut states = Vec::new();
    for record in records[..at].iter().rev() {
        match record {
            Stored::State {
                snapshot: of,
                key,
                next,
            } if *of == snapshot => states.push((key.clone(), *next)),
            // Another kind of snapshot has begun between the entries and their end.
            Stored::State { .. } if states.is_empty() => return None,
            _ => break,
        }
    }
    states.reverse();
    (states.len() == sessions).then_some(states)
}

fn reach(sessions: &mut BTreeMap<Key, Next>, key: &Key, next: Next) {
    let known = sessions.entry(key.clone()).or_insert(next);
    if known.0 < next.0 || (known.0 == next.0 && known.1 == 0) {
        *known = next;
    }
}

fn decide(known: &mut Next, from: u64, to: u64, check: u32) {
    if from <= known.0 && (known.0 < to || (known.0 == to && known.1 == 0)) {
        *known = (to, check);
    }
}

/// Folds by the rules of the format.
fn model(folder: &Path) -> BTreeMap<Key, Next> {
    let files = list_directory(folder).unwrap().into_iter();
    let files: Vec<_> = files
        .map(|file| {
            let mut collector = Collector(Vec::new());
            let paths = vec![file.path];
            Reader::new(paths, Wanted::default())
                .visit(&mut collector)
                .unwrap();
            collector.0
        })
        .collect();
    let is_base = |records: &Vec<Stored>| {
        let last = records.len().checked_sub(1);
        last.is_some_and(|last| {
            let is_end = matches!(
                records[last],
                Stored::Close {
                    snapshot: Snapshot::End,
                    ..
                }
            );
            is_end && whole(records, last).is_some()
        })
    };
    let base = files.iter().rposition(is_base);
    let mut sessions = BTreeMap::new();
    if let Some(base) = base {
        let last = files[base].len() - 1;
        for (key, next) in whole(&files[base], last).unwrap() {
            reach(&mut sessions, &key, next);
        }
    }
    for records in &files[base.map_or(0, |base| base + 1)..] {
        let mut channels = BTreeSet::new();
        for (at, record) in records.iter().enumerate() {
            match record {
                Stored::Message {
                    key,
                    first,
                    number,
                    check,
                } => {
                    let is_new = channels.insert((key, first));
                    let begin = if is_new { first } else { number };
                    let known = sessions.entry(key.clone()).or_insert((*begin, 0));
                    decide(known, *number, number + 1, *check);
                }
                Stored::Gap { key, from, to } => {
                    let known = sessions.entry(key.clone()).or_insert((*from, 0));
                    decide(known, *from, *to, 0);
                }
                Stored::State {
                    snapshot: Snapshot::Head,
                    key,
                    next,
                } => reach(&mut sessions, key, *next),
                Stored::State { .. } => {}
                Stored::Adopted { key, next } => reach(&mut sessions, key, (*next, 0)),
                Stored::Close { .. } => {
                    if let Some(states) = whole(records, at) {
                        let named: BTreeSet<_> = states.iter().map(|(key, _)| key).collect();
                        sessions.retain(|key, _| named.contains(key));
                        for (key, next) in &states {
                            reach(&mut sessions, key, *next);
                        }
                    }
                }
            }
        }
    }
    sessions
}

/// A step of a writer that follows no rules.
#[derive(Clone, Debug)]
enum Step {
    Messages(usize, u64, usize),
    Gap(usize, u64, u64),
    Adopted(usize, u64),
    States(Snapshot, Vec<(usize, u64, u32)>),
    Close(Snapshot, u64),
    /// A snapshot that is whole, at the end of a file.
    Seal(Vec<(usize, u64, u32)>),
    Plain,
    Malformed,
    Commit,
    /// The file is torn, and this many bytes are cut off.
    Tear(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS.len();
    let number = prop_oneof![9 => 0..12_u64, 1 => (1_u64 << 33)..(1 << 33) + 9];
    let snapshot = prop_oneof![Just(Snapshot::Head), Just(Snapshot::End)];
    let check = prop_oneof![Just(0), any::<u32>()];
    let states = prop::collection::vec((key.clone(), number.clone(), check), 0..4);
    let step = prop_oneof![
        9 => (key.clone(), number.clone(), 1..5_usize).prop_map(|(k, n, len)| Step::Messages(k, n, len)),
        1 => (key.clone(), number.clone()).prop_map(|(k, n)| Step::Adopted(k, n)),
        4 => (key, number, 1..4_u64).prop_map(|(k, n, len)| Step::Gap(k, n, n + len)),
        3 => (snapshot.clone(), states.clone()).prop_map(|(of, states)| Step::States(of, states)),
        3 => (snapshot, 0..4_u64).prop_map(|(of, count)| Step::Close(of, count)),
        2 => states.prop_map(Step::Seal),
        1 => Just(Step::Plain),
        1 => Just(Step::Malformed),
        4 => Just(Step::Commit),
        2 => (0..600_u64).prop_map(Step::Tear),
    ];
    prop::collection::vec(step, 1..40)
}

fn states(of: &[(usize, u64, u32)]) -> Vec<State<'static>> {
    let state = |&(key, next, check): &(usize, u64, u32)| {
        let (device, session) = KEYS[key];
        (device, session, next, check)
    };
    of.iter().map(state).collect()
}

fn write(folder: &Path, steps: &[Step]) {
    let mut log = SessionLog::new(folder);
    for step in steps {
        match step {
            Step::Messages(key, from, len) => {
                let (device, session) = KEYS[*key];
                let payloads = (*from..).take(*len).map(|number| payload(*key, number, 0));
                let payloads: Vec<_> = payloads.collect();
                let payloads: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
                log.messages(device, session, *from, &payloads);
            }
            Step::Gap(key, from, to) => {
                let (device, session) = KEYS[*key];
                log.gap(device, session, (*from, *to), GapCause::Device);
            }
            Step::Adopted(key, next) => {
                let (device, session) = KEYS[*key];
                log.adopted(device, session, *next);
            }
            Step::States(of, entries) => log.states(*of, &states(entries)),
            Step::Close(of, count) => log.close(*of, *count),
            Step::Seal(entries) => {
                log.snapshot(Snapshot::End, &states(entries));
                log.seal();
            }
            Step::Plain => log.plain("a", b"plain"),
            Step::Malformed => log.json(br#"{"entry":"gap","device":"a"}"#),
            Step::Commit => log.commit(),
            Step::Tear(cut) => {
                log.tear();
                blocksd_tests::sessions::cut(folder, *cut);
                repair(folder);
            }
        }
    }
    log.seal();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fold_is_that_of_all_records_after_the_last_whole_snapshot(steps in steps()) {
        let folder = TempDir::new().unwrap();
        write(folder.path(), &steps);
        prop_assert_eq!(folded(folder.path()), model(folder.path()));
    }
}

#[test]
fn what_cannot_be_folded_is_returned() {
    let folder = TempDir::new().unwrap();
    let mut log = SessionLog::new(folder.path());
    log.snapshot(Snapshot::Head, &[]);
    log.messages("a", 7, 0, &[b"0", b"1"]);
    log.json(br#"{"entry":"later"}"#);
    log.seal();
    log.messages("a", 7, 2, &[b"2"]);
    log.commit();
    log.messages("a", 7, 3, &[b"damaged"]);
    log.commit();
    log.messages("a", 7, 4, &[b"4"]);
    log.tear();
    let files = list_directory(folder.path()).unwrap();
    let torn = &files[1].path;
    let mut bytes = fs::read(torn).unwrap();
    let at = bytes.windows(7).position(|it| it == b"damaged").unwrap();
    bytes[at] = b'x';
    fs::write(torn, bytes).unwrap();
    // A copy with another name is not a part of the recording.
    fs::copy(&files[0].path, folder.path().join("copy.mcap")).unwrap();

    let folded = fold(folder.path()).unwrap();
    let next = folded.sessions.iter().map(|it| it.next);
    assert!(next.eq([3]), "{folded:?}");
    let causes = folded.unread.iter().map(|it| (it.path.clone(), &it.cause));
    let causes: Vec<_> = causes.collect();
    let [(first, malformed), (second, unsealed), (third, lost)] = causes.as_slice() else {
        panic!("{causes:?}");
    };
    assert_eq!([first, second, third], [&files[0].path, torn, torn]);
    assert!(matches!(malformed, UnreadCause::Malformed(1)));
    assert!(matches!(unsealed, UnreadCause::Unsealed));
    assert!(matches!(lost, UnreadCause::Lost(_)));

    // A copy without the summary, which has the name of a sealed file.
    let bytes = fs::read(&files[0].path).unwrap();
    fs::write(&files[0].path, &bytes[..bytes.len() - 9]).unwrap();
    let folded = fold(folder.path()).unwrap();
    let unsealed = folded
        .unread
        .iter()
        .filter(|it| matches!(it.cause, UnreadCause::Unsealed));
    assert_eq!(unsealed.count(), 2);
}
