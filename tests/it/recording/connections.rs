//! The connection of each message in a recording: what is read agrees with what was received, for any connections of a
//! few devices.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blocksd::error::CommandError;
use blocksd::recorded::from_log::EventReader;
use blocksd::recorded::ranges::CHECKER;
use blocksd_engine::event::Suppressed;
use blocksd_engine::reason::FaultKind;
use blocksd_recording::scan::{Found, Scan};
use blocksd_recording::{LostRange, Message, Reader, Visitor, Wanted, catalog};
use blocksd_tests::connections::{Action, Line, Recorder, Story, actions};
use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;

#[derive(Debug, Default)]
struct ReadBack {
    reader: EventReader,
    story: Story,
    lost: u64,
}

impl Visitor for ReadBack {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        self.reader.message(message, &mut self.story)
    }

    fn lost(&mut self, _: &Path, lost: &LostRange) -> Result<(), CommandError> {
        self.lost += lost.len;
        self.gap()
    }

    fn gap(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.story)
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.story)
    }
}

fn read(folder: &Path, from: SystemTime) -> ReadBack {
    let from = from.duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let wanted = Wanted {
        from: u64::try_from(from).unwrap(),
        ..Wanted::default()
    };
    let mut read_back = ReadBack::default();
    let reader = Reader::new(vec![folder.into()], wanted);
    reader.visit(&mut read_back).unwrap();
    read_back
}

/// Asserts that each connection's lines are among those that were received, in order, except for an open: payload pays
/// for it, and may be too short at first. Connections of several runs share numbers.
#[track_caller]
fn assert_in_order(read: &[Line], received: &[Line]) {
    let key = |line: &Line| (line.conn, line.text.contains("Opened"));
    let mut of_conns = BTreeMap::<_, Vec<&Line>>::new();
    for line in received {
        of_conns.entry(key(line)).or_default().push(line);
    }
    let mut of_conns: BTreeMap<_, _> = of_conns
        .into_iter()
        .map(|(key, lines)| (key, lines.into_iter()))
        .collect();
    for line in read {
        let lines = of_conns.get_mut(&key(line));
        let is_received = lines.is_some_and(|lines| lines.any(|it| it == line));
        assert!(is_received, "{line:?}");
    }
}

#[track_caller]
fn assert_same(read: &[Line], expected: &[Line]) {
    let pairs = read.iter().zip(expected);
    if let Some((line, want)) = pairs.into_iter().find(|(line, want)| line != want) {
        panic!("{line:?} instead of {want:?}");
    }
    assert_eq!(read.len(), expected.len());
}

/// Asserts that everything that was received is recorded, or counted.
#[track_caller]
fn assert_complete(read: &Story, received: &Story) {
    assert_same(&read.payload(), &received.payload());
    assert_in_order(&read.lines, &received.lines);
    assert_eq!(read.orphans, 0);
    let mut counted = Suppressed::since(UNIX_EPOCH);
    read.counts.iter().for_each(|(_, sums)| counted.add(sums));
    let sum = counted.connections * 2 + counted.empty + counted.ends;
    let sum = sum + counted.faults.iter().sum::<u64>();
    assert_eq!(read.lines.len() as u64 + sum, received.lines.len() as u64);
    assert_eq!(counted.faults[FaultKind::Undecodable as usize], 0);
}

/// The numbers of the empty messages that were counted for connections, and of those that were read.
fn empties(story: &Story) -> Vec<(u64, u64)> {
    let of_counts = story.counts.iter().flat_map(|(conn, sums)| {
        let first = sums.seq.into_iter();
        first.flat_map(move |first| (first..first + sums.empty).map(|seq| (*conn, seq)))
    });
    let of_lines = story.lines.iter().filter_map(|line| {
        let (conn, rest) = line.text.split_once(' ')?;
        let (_, rest) = rest.split_once(' ')?;
        let seq = rest.strip_suffix(" []")?;
        Some((conn.parse().ok()?, seq.parse().ok()?))
    });
    let mut all: Vec<_> = of_counts.chain(of_lines).collect();
    all.sort_unstable();
    all
}

/// Flips a bit in a chunk of a file of a folder. Returns the file.
fn damage(folder: &Path, at: Index) -> PathBuf {
    let files = catalog::list_directory(folder).unwrap();
    let file = &files[at.index(files.len())].path;
    let mut ends = Vec::new();
    let mut scan = Scan::open(file, false).unwrap();
    while let Some(found) = scan.advance().unwrap() {
        if let Found::Chunk(chunk) = found {
            ends.push(chunk.offset as usize + chunk.bytes.len());
        }
        if scan.has_ended() {
            break;
        }
    }
    let mut bytes = fs::read(file).unwrap();
    bytes[ends[at.index(ends.len())] - 1] ^= 1;
    fs::write(file, bytes).unwrap();
    file.clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_recording_agrees_with_the_received_events(
        actions in actions(), packs: bool, is_sealed: bool, flood: bool, at: Index,
    ) {
        let folder = TempDir::new().unwrap();
        let mut recorder = Recorder::new(folder.path(), packs);
        // Connections that use up the tokens for events without payload.
        for _ in 0..if flood { 40 } else { 0 } {
            recorder.act(&Action::Open(0, true));
            recorder.act(&Action::Close(at));
        }
        actions.iter().for_each(|action| recorder.act(action));
        let is_killed = actions.iter().any(|it| matches!(it, Action::Restart(false)));
        recorder.end(is_sealed);
        let received = std::mem::take(&mut recorder.received);

        let all = read(folder.path(), UNIX_EPOCH).story;
        if is_sealed && !is_killed {
            assert_complete(&all, &received);
        } else {
            // Held events of killed recorders are in no file.
            assert_same(&all.payload(), &received.payload());
            assert_in_order(&all.lines, &received.lines);
        }
        let sent = empties(&received);
        let recorded = empties(&all);
        prop_assert!(recorded.iter().all(|it| sent.contains(it)), "{recorded:?} {sent:?}");
        let restarts = actions.iter().any(|it| matches!(it, Action::Restart(_)));
        if is_sealed && !flood && !restarts {
            prop_assert_eq!(recorded, sent);
        }

        // From any time on.
        if let Some(from) = all.lines.get(at.index(all.lines.len().max(1))) {
            let later = read(folder.path(), from.time).story;
            let lines = all.lines.iter().filter(|line| from.time <= line.time);
            prop_assert!(later.lines.iter().eq(lines));
        }

        // After a repair.
        CHECKER.repair_dir(folder.path()).unwrap().for_each(|it| { it.unwrap(); });
        assert_same(&read(folder.path(), UNIX_EPOCH).story.lines, &all.lines);

        // With a damaged chunk, and after its repair.
        if all.lines.is_empty() {
            return Ok(());
        }
        let file = damage(folder.path(), at);
        let damaged = read(folder.path(), UNIX_EPOCH);
        prop_assert_ne!(damaged.lost, 0);
        let whole = |story: &Story| {
            let lines = story.lines.iter();
            // A piece whose event is lost.
            let lines = lines.filter(|line| !line.text.contains("first: false, last: false"));
            lines.cloned().collect::<Vec<_>>()
        };
        assert_in_order(&whole(&damaged.story), &whole(&all));
        let recovered = folder.path().join("recovered");
        if CHECKER.recover(&file, &recovered).unwrap().written {
            fs::rename(&recovered, &file).unwrap();
        } else {
            // Nothing in it is whole.
            fs::remove_file(&file).unwrap();
        }
        let repaired = read(folder.path(), UNIX_EPOCH);
        prop_assert_eq!(repaired.lost, 0);
        assert_same(&repaired.story.lines, &damaged.story.lines);
    }
}
