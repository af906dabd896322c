//! The library as another program uses it: ranges of sequence numbers, reports and errors.

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use blocksd_recording::{
    Channel, ChannelSpec, Checker, Compression, Error, ErrorKind, FindingKind, Lock, Log,
    LogContext, LogError, LogOptions, LogReport, Retention, SequenceRange, SequenceRanges,
    SpaceLimit, WindowedFile, catalog, repair_dir, verify,
};
use tempfile::TempDir;

const TOPIC: &str = "/device/a/blocks";

/// A message on `/skipped` holds the count of numbers that are skipped on [`TOPIC`].
#[derive(Debug)]
struct Skipped;

impl SequenceRanges for Skipped {
    fn range(&self, topic: Option<&str>, data: &[u8]) -> Option<SequenceRange> {
        if topic.is_some_and(|topic| topic != "/skipped") {
            return None;
        }
        Some(SequenceRange {
            topic: TOPIC.to_owned(),
            len: str::from_utf8(data).ok()?.parse().ok()?,
            ..SequenceRange::default()
        })
    }
}

/// Writes messages on two topics: `None` skips three numbers.
fn write(folder: &Path, messages: &[Option<u32>]) {
    let mut log = Log::open(folder, LogOptions::default()).unwrap();
    let (mut device, mut skipped) = (Channel::default(), Channel::default());
    for (time, message) in (1..).zip(messages) {
        let (channel, topic) = match message {
            Some(_) => (&mut device, TOPIC),
            None => (&mut skipped, "/skipped"),
        };
        let spec = || ChannelSpec {
            topic: topic.to_owned(),
            ..ChannelSpec::default()
        };
        let channel = log.channel(channel, spec).unwrap();
        let bytes = message.map_or(&b"3"[..], |_| b"payload");
        log.append(channel, message.unwrap_or(0), time, bytes)
            .unwrap();
        // One chunk for each message.
        log.commit().unwrap();
    }
    log.finish().unwrap();
}

fn file(folder: &Path) -> PathBuf {
    catalog::list_directory(folder).unwrap().remove(0).path
}

fn findings(checker: Option<Checker<'_>>, path: &Path) -> Vec<FindingKind> {
    let mut findings = Vec::new();
    let input = WindowedFile::open(path).unwrap();
    let report = &mut |finding: &blocksd_recording::Finding| findings.push(finding.kind.clone());
    match checker {
        Some(checker) => checker.verify(input, false, report).unwrap(),
        None => verify(input, false, report).unwrap(),
    };
    findings
}

fn gap(want: u32, found: u32) -> FindingKind {
    let topic = TOPIC.to_owned();
    FindingKind::Sequence { topic, want, found }
}

#[test]
fn numbers_of_a_range_are_missing_only_to_a_check_without_ranges() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), &[Some(0), Some(1), None, Some(5), Some(6)]);
    let path = file(folder.path());
    let checker = Checker::new(&Skipped);
    assert_eq!(findings(Some(checker), &path), []);
    assert_eq!(findings(None, &path), [gap(2, 5)]);
    assert_eq!(findings(Some(Checker::default()), &path), [gap(2, 5)]);
}

#[test]
fn numbers_beyond_a_range_are_missing() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), &[Some(0), Some(1), None, Some(7)]);
    let found = findings(Some(Checker::new(&Skipped)), &file(folder.path()));
    assert_eq!(found, [gap(5, 7)]);
}

/// Tears a sealed file: removes its last index and its end.
fn tear(path: &Path) -> PathBuf {
    let mut bytes = fs::read(path).unwrap();
    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    let chunks = summary.chunk_indexes.iter();
    let last = chunks.max_by_key(|it| it.chunk_start_offset).unwrap();
    bytes.truncate(usize::try_from(last.chunk_start_offset + last.chunk_length).unwrap());
    let part = path.with_extension("mcap.part");
    fs::remove_file(path).unwrap();
    fs::write(&part, bytes).unwrap();
    part
}

#[test]
fn a_repair_with_ranges_finds_nothing_missing() {
    for knows in [true, false] {
        let folder = TempDir::new().unwrap();
        write(folder.path(), &[Some(0), None, Some(4)]);
        tear(&file(folder.path()));
        let repaired: Vec<_> = match knows {
            true => Checker::new(&Skipped)
                .repair_dir(folder.path())
                .unwrap()
                .collect(),
            false => repair_dir(folder.path()).unwrap().collect(),
        };
        let repaired = repaired[0].as_ref().unwrap();
        let missing = if knows { 0 } else { 3 };
        assert_eq!(repaired.recovered.missing, missing, "{repaired:?}");
        assert_eq!(repaired.original.is_some(), !knows, "{repaired:?}");
    }
}

#[test]
fn a_range_whose_channel_is_lost_may_belong_to_any_topic() {
    let folder = TempDir::new().unwrap();
    let messages = [Some(0), None, Some(4), None, Some(8)];
    write(folder.path(), &messages);
    let part = tear(&file(folder.path()));
    let mut bytes = fs::read(&part).unwrap();
    // The second chunk defines the channel of ranges.
    let payloads: Vec<_> = bytes.windows(8).enumerate().collect();
    let topic = payloads.iter().find(|(_, it)| it == b"/skipped");
    let (at, _) = *topic.expect("the topic of ranges");
    bytes[at] ^= 1;
    fs::write(&part, bytes).unwrap();
    for (name, checker, missing) in [
        ("known.mcap", Checker::new(&Skipped), 0),
        ("unknown.mcap", Checker::default(), 3),
    ] {
        let to = folder.path().join(name);
        let recovered = checker.recover(&part, &to).unwrap();
        assert_eq!((recovered.lost_chunks, recovered.unknown), (1, 1));
        assert_eq!(recovered.missing, missing, "{recovered:?}");
        assert_eq!(findings(Some(Checker::new(&Skipped)), &to), [], "{name}");
    }
    let known = folder.path().join("known.mcap");
    assert_eq!(findings(None, &known), [gap(5, 8)]);
}

#[test]
fn a_deletion_is_reported_with_its_figures() {
    let folder = TempDir::new().unwrap();
    let reports = Arc::<Mutex<Vec<(String, u64, SpaceLimit)>>>::default();
    let context = LogContext::open(folder.path(), Arc::default(), Retention::new(Some(100_000)));
    let context = context.unwrap().reporting_to({
        let reports = Arc::clone(&reports);
        move |report| {
            if let LogReport::Deleted {
                file, len, limit, ..
            } = *report
            {
                let deleted = (file.to_owned(), len, limit);
                reports.lock().unwrap().push(deleted);
            }
        }
    });
    let options = LogOptions {
        compression: Compression::None,
        ..LogOptions::default()
    };
    let context = Arc::new(context);
    let mut log = Log::after_others(options, Arc::clone(&context)).unwrap();
    let mut channel = Channel::default();
    for sequence in 0..300 {
        let channel = log.channel(&mut channel, ChannelSpec::default).unwrap();
        log.append(channel, sequence, 1, &[0; 1000]).unwrap();
        log.commit().unwrap();
        log.tick().unwrap();
    }
    log.finish().unwrap();
    let reports = reports.lock().unwrap();
    let stats = context.stats.read();
    assert_eq!(reports.len() as u64, stats.files_deleted);
    let bytes: u64 = reports.iter().map(|(_, len, _)| len).sum();
    assert_eq!(bytes, stats.bytes_deleted);
    assert!(
        reports
            .iter()
            .all(|(_, _, limit)| *limit == SpaceLimit::MaxBytes(100_000))
    );
    let (first, ..) = reports.first().expect("a file that was deleted");
    assert!(first.starts_with("00000001-"), "{first}");
}

#[test]
fn an_error_has_a_category_and_a_cause() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    let error = WindowedFile::open(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    assert_eq!(error.path(), Some(&*missing));
    assert!(error.source().is_some() && error.is_not_found());

    let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
    let error = Lock::take(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);

    let error = log.append(Channel::default(), 0, 0, b"").unwrap_err();
    assert_eq!(error, LogError::StaleChannel);
    let error = Error::from(error);
    assert_eq!((error.kind(), error.path()), (ErrorKind::Usage, None));
    assert_eq!(error.to_string(), LogError::StaleChannel.to_string());
}
