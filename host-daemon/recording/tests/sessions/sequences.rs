//! Checks of the numbers of sessions: two sessions share a topic, and gaps explain steps.

use std::collections::BTreeMap;
use std::path::Path;

use blocksd_recording::{
    Channel, ChannelSpec, Checker, Compression, FindingKind, Log, LogOptions, SequenceRange,
    SequenceRanges, WindowedFile, catalog, topic,
};
use tempfile::TempDir;

const TOPIC: &str = "/device/imu/blocks";

/// An entry `SESSION LEN` on the topic of sessions stands for numbers, and `SESSION =NEXT` goes on anywhere.
#[derive(Debug)]
struct Gaps;

impl SequenceRanges for Gaps {
    fn range(&self, topic: Option<&str>, data: &[u8]) -> Option<SequenceRange> {
        if topic.is_some_and(|topic| topic != topic::SESSIONS_TOPIC) {
            return None;
        }
        let (session, len) = str::from_utf8(data).ok()?.split_once(' ')?;
        Some(SequenceRange {
            topic: TOPIC.to_owned(),
            session: Some(session.to_owned()),
            len: len.parse().unwrap_or_default(),
            next: len.strip_prefix('=').and_then(|it| it.parse().ok()),
        })
    }
}

/// A message, or an entry.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A message of a session, with its number. The last value tells channels of a session apart.
    Message(&'static str, u64, u64),
    Gap(&'static str, u64),
    Restart(&'static str, u64),
    Plain(u32),
}
use Step::{Gap, Message, Plain, Restart};

fn record(folder: &Path, steps: &[Step]) {
    let options = LogOptions {
        compression: Compression::None,
        ..LogOptions::default()
    };
    let mut log = Log::open(folder, options).unwrap();
    let mut channels = BTreeMap::<_, Channel>::new();
    for step in steps {
        let (key, first, sequence) = match *step {
            Message(session, number, key) => (format!("{session} {key}"), number, number as u32),
            Gap(..) | Restart(..) => ("gaps".to_owned(), 0, 0),
            Plain(sequence) => ("plain".to_owned(), 0, sequence),
        };
        let spec = || ChannelSpec {
            topic: match step {
                Gap(..) | Restart(..) => topic::SESSIONS_TOPIC.to_owned(),
                _ => TOPIC.to_owned(),
            },
            metadata: match *step {
                Message(session, _, key) => BTreeMap::from([
                    ("session".to_owned(), session.to_owned()),
                    ("first".to_owned(), first.to_string()),
                    ("key".to_owned(), key.to_string()),
                ]),
                _ => BTreeMap::new(),
            },
            ..ChannelSpec::default()
        };
        let channel = log.channel(channels.entry(key).or_default(), spec).unwrap();
        let data = match step {
            Gap(session, len) => format!("{session} {len}"),
            Restart(session, next) => format!("{session} ={next}"),
            _ => "reading".to_owned(),
        };
        log.append(channel, sequence, 1, data.as_bytes()).unwrap();
        // Each message is in a chunk of its own.
        log.commit().unwrap();
    }
    log.finish().unwrap();
}

/// Expected and found numbers where the check reports a gap. A recovery of the file reports the same.
#[track_caller]
fn gaps(steps: &[Step]) -> Vec<(u32, u32)> {
    let folder = TempDir::new().unwrap();
    record(folder.path(), steps);
    let path = catalog::list_directory(folder.path())
        .unwrap()
        .remove(0)
        .path;
    let mut gaps = Vec::new();
    let checker = Checker::new(&Gaps);
    let mut report = |finding: &blocksd_recording::Finding| match &finding.kind {
        FindingKind::Sequence { want, found, .. } => gaps.push((*want, *found)),
        other => panic!("{other}"),
    };
    let input = WindowedFile::open(&path).unwrap();
    let verified = checker.verify(input, false, &mut report).unwrap();
    let is_entry = |step: &&Step| matches!(step, Gap(..) | Restart(..));
    let entries = steps.iter().filter(is_entry).count();
    assert_eq!(verified.blocks, (steps.len() - entries) as u64);
    // Another program may write the end of the file.
    let bytes = std::fs::read(&path).unwrap();
    let torn = folder.path().join("torn.mcap.part");
    std::fs::write(&torn, &bytes[..bytes.len() - 9]).unwrap();
    let recovered = checker
        .recover(&torn, &folder.path().join("new.mcap"))
        .unwrap();
    let missing: u64 = gaps
        .iter()
        .map(|(want, found)| u64::from(found.wrapping_sub(*want)))
        .sum();
    let is_back = gaps.iter().any(|(want, found)| found < want);
    assert_eq!(recovered.is_disordered, is_back);
    if !is_back {
        assert_eq!(recovered.missing, missing);
    }
    gaps
}

#[test]
fn sessions_of_a_device_are_counted_separately() {
    let steps = [
        Message("a", 5, 0),
        Message("b", 100, 0),
        Plain(0),
        Message("a", 6, 0),
        Message("b", 101, 0),
        Plain(1),
        // Channels with another schema continue the numbers of their session.
        Message("a", 7, 1),
        Message("a", 8, 0),
    ];
    assert_eq!(gaps(&steps), []);
    let missing = [Message("a", 5, 0), Message("b", 6, 0), Message("a", 7, 0)];
    assert_eq!(gaps(&missing), [(6, 7)]);
    let missing = [Message("a", 5, 0), Message("a", 7, 1)];
    assert_eq!(gaps(&missing), [(6, 7)]);
}

#[test]
fn a_gap_explains_numbers_of_its_session_only() {
    let skipping = |session| [Message("a", 5, 0), Gap(session, 3), Message("a", 9, 0)];
    assert_eq!(gaps(&skipping("a")), []);
    assert_eq!(gaps(&skipping("b")), [(6, 9)]);
    let both = [
        Message("a", 5, 0),
        Message("b", 5, 0),
        Gap("a", 1),
        Message("b", 6, 0),
        Message("a", 7, 0),
    ];
    assert_eq!(gaps(&both), []);
}

#[test]
fn a_session_that_restarts_goes_on_with_the_number_of_the_entry() {
    let restarting = |session, next, number| {
        [
            Message("a", 5, 0),
            Message("b", 5, 0),
            Restart(session, next),
            Message("a", number, 0),
            Message("a", number + 1, 0),
            Message("b", 6, 0),
        ]
    };
    for number in [0, 5, 6, 9] {
        assert_eq!(gaps(&restarting("a", number, number)), []);
    }
    assert_eq!(gaps(&restarting("a", 2, 4)), [(2, 4)]);
    assert_eq!(gaps(&restarting("b", 6, 3)), [(6, 3)]);
}

#[test]
fn a_long_step_begins_another_channel() {
    let far = (1 << 40) + 7;
    let explained = [Message("a", 5, 0), Gap("a", far - 6), Message("a", far, 1)];
    assert_eq!(gaps(&explained), []);
    // The low 32 bits alone would show a gap here.
    let begun_anew = [
        Message("a", 5, 0),
        Message("a", far, 1),
        Message("a", far + 1, 1),
    ];
    assert_eq!(gaps(&begun_anew), []);
    let after = [
        Message("a", 5, 0),
        Message("a", far, 1),
        Message("a", far + 2, 1),
    ];
    assert_eq!(gaps(&after), [(8, 9)]);
    let back = [Message("a", 5, 0), Message("a", 3, 1)];
    assert_eq!(gaps(&back), [(6, 3)]);
    let wrapped = [
        Message("a", u64::from(u32::MAX), 0),
        Message("a", u64::from(u32::MAX) + 1, 0),
        Message("a", u64::from(u32::MAX) + 2, 1),
    ];
    assert_eq!(gaps(&wrapped), []);
}
