//! Mutated recordings, ours and foreign, sealed and torn: no command panics, hangs or changes a file that it should not,
//! and no message is shown that no file contained.
//!
//! `BLOCKSD_TEST_MUTATIONS=100000` runs this number of mutations; `BLOCKSD_TEST_MUTATION=7` reproduces one.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use blocksd::output::{Format, Json, Out, Text};
use blocksd::recorded::from_log::{EventReader, EventVisitor};
use blocksd::recorded::lifecycle::Lifecycle;
use blocksd::recorded::ranges::CHECKER;
use blocksd_engine::event::Event;
use blocksd_recording::{
    Compression, Error, LostRange, Message, Reader, Visitor, Wanted, WindowedFile,
};
use blocksd_tests::foreign::Layout;
use blocksd_tests::hostile::Chance;
use blocksd_tests::mutate::mutate;
use blocksd_tests::process::{Server, finish};
use blocksd_tests::recorded::{payload, planted, record};
use blocksd_tests::recording::Sample;
use tempfile::TempDir;

/// Mutations without the environment variable.
const MUTATIONS: u64 = 120;
/// One in this number is also given to the program itself.
const PROGRAM_EVERY: u64 = 40;
/// Longest time of one step.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Memory that the program may map, in KiB.
const MEMORY_MAX: u64 = 4 << 20;

/// A message: topic, sequence number, log time, payload.
type Stored = (String, u32, u64, Vec<u8>);

/// A file to mutate.
struct Original {
    name: String,
    bytes: Vec<u8>,
    /// Only messages of this file may be shown, and not those of a donor: it has a nonce.
    has_nonce: bool,
    /// Each message is covered by a CRC.
    has_crc: bool,
    stored: HashSet<Stored>,
}

impl Original {
    fn new(path: &Path, bytes: Vec<u8>, has_crc: bool) -> Self {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let messages = read(path).messages;
        Self {
            has_nonce: name.len() == 46,
            name,
            bytes,
            has_crc,
            stored: messages.into_iter().collect(),
        }
    }
}

/// Files of this version with payloads that are recordings, of earlier versions, and of other programs.
fn originals() -> Vec<Original> {
    let mut all = Vec::new();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for with_planted in [false, true] {
            let folder = TempDir::new().unwrap();
            let mut chunks: Vec<_> = (0..6).map(|n| vec![payload(n), payload(n + 10)]).collect();
            if with_planted {
                for (chunk, planted) in chunks.iter_mut().zip(planted()) {
                    chunk.insert(1, planted.clone());
                }
            }
            let path = record(folder.path(), "10.0.0.1", compression, &chunks);
            let bytes = fs::read(&path).unwrap();
            all.push(Original::new(&path, bytes, true));
        }
    }
    let folder = TempDir::new().unwrap();
    let mut put = |bytes: Vec<u8>, has_crc| {
        let name = format!("{:08}-20260101T000000Z.mcap", all.len());
        let path = folder.path().join(name);
        fs::write(&path, &bytes).unwrap();
        all.push(Original::new(&path, bytes, has_crc));
    };
    for compression in [
        None,
        Some(mcap::Compression::Lz4),
        Some(mcap::Compression::Zstd),
    ] {
        let sample = Sample {
            compression,
            ..Sample::default()
        };
        put(sample.sealed().0, true);
        put(sample.torn().0, true);
    }
    for (index, layout) in Layout::all().iter().enumerate() {
        if index % 7 == 0 {
            // A length or a type that is changed in such a file may lead anywhere.
            put(layout.write().bytes, false);
        }
    }
    all
}

/// Messages and lost bytes of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Collected {
    messages: Vec<Stored>,
    lost: u64,
}

impl Visitor for Collected {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let topic = message.channel.record.topic.clone();
        let data = message.data.to_vec();
        self.messages
            .push((topic, message.sequence, message.time, data));
        Ok(())
    }

    fn lost(&mut self, _: &Path, lost: &LostRange) -> Result<(), Error> {
        self.lost += lost.len;
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn read(path: &Path) -> Collected {
    let mut collected = Collected::default();
    let reader = Reader::new(vec![path.into()], Wanted::default());
    reader.visit(&mut collected).unwrap();
    collected
}

/// Formats everything as `read` does.
struct Printer<F> {
    reader: EventReader,
    printed: Printed<F>,
}

struct Printed<F> {
    format: F,
    out: Out,
}

impl<F: Format> Visitor for Printer<F> {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        self.reader.message(message, &mut self.printed)
    }

    fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), Error> {
        self.reader.finish(&mut self.printed)
    }

    fn idle(&mut self) -> Result<(), Error> {
        self.reader.finish(&mut self.printed)
    }
}

impl<F: Format> EventVisitor for Printed<F> {
    type Error = Error;

    fn event(&mut self, event: &Event) -> Result<(), Error> {
        self.format.event(event, &mut self.out).unwrap();
        Ok(())
    }

    fn lifecycle(&mut self, _: &Lifecycle<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn other(&mut self, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

fn print(path: &Path, format: impl Format) {
    let mut printer = Printer {
        reader: EventReader::new(None),
        printed: Printed {
            format,
            out: Out::new(Box::new(io::sink()), None),
        },
    };
    let reader = Reader::new(vec![path.into()], Wanted::default());
    reader.visit(&mut printer).unwrap();
}

/// The number of findings of `verify`, except missing messages; the first of them; and the number of messages.
fn verify(path: &Path) -> (u64, Option<String>, u64) {
    let (mut first, mut findings) = (None, 0);
    let mut report = |finding: &blocksd_recording::Finding| {
        if !matches!(
            finding.kind,
            blocksd_recording::FindingKind::Sequence { .. }
        ) {
            findings += 1;
            first.get_or_insert_with(|| finding.to_string());
        }
    };
    let input = WindowedFile::open(path).unwrap();
    let verified = CHECKER.verify(input, false, &mut report).unwrap();
    (findings, first, verified.messages)
}

/// Runs all functions on a file, and asserts what must hold.
fn check(path: &Path, original: &Original, donor: &Original, notes: &mut Notes) {
    let before = fs::read(path).unwrap();
    let shown = read(path);
    if original.has_crc && (original.has_nonce || donor.has_crc) {
        for message in &shown.messages {
            // The topic may be lost with the record of the channel.
            let is_in = |of: &Original| {
                let is_same =
                    |it: &Stored| (it.1, it.2, &it.3) == (message.1, message.2, &message.3);
                of.stored.contains(message) || of.stored.iter().any(is_same)
            };
            let is_odd = message.3.is_empty() && message.2 == u64::MAX;
            let is_of_donor = !original.has_nonce && (is_odd || is_in(donor));
            let is_known = is_in(original) || is_of_donor;
            assert!(is_known, "{message:?} was never written");
        }
    }
    print(path, Text::new(false));
    print(path, Json::default());
    let (findings, first, verified) = verify(path);
    assert_eq!(
        verified,
        shown.messages.len() as u64,
        "verify, first: {first:?}"
    );
    let to = path.with_extension("recovered");
    let recovered = match CHECKER.recover(path, &to) {
        Err(Error::UnsoundRepair { first, .. }) => {
            assert!(!to.exists());
            *notes.entry("refused").or_default() += 1;
            // Without a nonce, chunks of two files may contradict each other. The file is left unchanged.
            assert!(!original.has_nonce, "the repair is not sound: {first}");
            return;
        }
        recovered => recovered.unwrap(),
    };
    assert_eq!(
        recovered.complete,
        findings == 0,
        "first: {first:?}, {recovered}"
    );
    let kept = recovered.blocks + recovered.pieces + recovered.events + recovered.others;
    let count = shown.messages.len() as u64;
    if recovered.repeated_chunks == 0 {
        assert_eq!(kept + recovered.unknown, count, "{recovered}");
    }
    assert_eq!(to.exists(), recovered.written);
    if recovered.written {
        let (findings, first, messages) = verify(&to);
        if findings != 0 {
            // Two definitions of one channel, in a file of another program.
            assert!(recovered.damaged && !original.has_nonce, "first: {first:?}");
            *notes.entry("recovered, with findings").or_default() += 1;
        }
        assert_eq!(messages, kept + recovered.unknown, "{recovered}");
        let again = read(&to);
        assert_eq!(again.lost, 0);
        if recovered.repeated_chunks == 0 && kept + recovered.unknown == count && findings == 0 {
            for (again, shown) in again.messages.iter().zip(&shown.messages) {
                assert_eq!((again.1, again.2, &again.3), (shown.1, shown.2, &shown.3));
                // `recover` also finds definitions that come later. Without a nonce, they may be of another file.
                let is_unknown = |topic: &str| topic.starts_with("/blocksd/unknown/");
                let is_unknown = is_unknown(&shown.0) || is_unknown(&again.0);
                assert!(again.0 == shown.0 || is_unknown || !original.has_nonce);
            }
        }
        fs::remove_file(&to).unwrap();
    }
    assert!(fs::read(path).unwrap() == before, "the file was changed");
    *notes
        .entry(match () {
            () if recovered.complete => "complete",
            () if recovered.written => "recovered",
            () => "nothing whole",
        })
        .or_default() += 1;
}

/// Repairs a folder that holds the file as a torn one, and asserts that nothing is lost with the original.
fn repair(folder: &Path, path: &Path, original: &Original, notes: &mut Notes) {
    let torn = PathBuf::from(format!("{}.part", path.display()));
    fs::rename(path, &torn).unwrap();
    let before = fs::read(&torn).unwrap();
    let shown = read(&torn);
    let repaired: Vec<_> = CHECKER.repair_dir(folder).unwrap().collect();
    assert_eq!(repaired.len(), 1);
    let repaired = match repaired.into_iter().next().unwrap() {
        Ok(repaired) => repaired,
        Err(unrepaired) => {
            let is_unsound = matches!(unrepaired.error, Error::UnsoundRepair { .. });
            assert!(is_unsound && !original.has_nonce, "{unrepaired:?}");
            assert!(fs::read(&torn).unwrap() == before);
            return;
        }
    };
    if let Some(to) = &repaired.to {
        let kept = read(to).messages.len();
        assert!(shown.messages.len() <= kept || repaired.original.is_some());
    }
    match &repaired.original {
        Some(original) => {
            assert!(
                fs::read(original).unwrap() == before,
                "the original was changed"
            );
            *notes.entry("original kept").or_default() += 1;
        }
        None => assert!(repaired.to.is_some() || shown.messages.is_empty()),
    }
}

type Notes = HashMap<&'static str, u64>;

/// Runs every command of the program on a file, with bounds on time and memory.
fn run_program(folder: &Path, path: &Path) {
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = sink.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = sink.accept() {
            std::thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    let program = Server::command(&[]).get_program().to_owned();
    let outside = TempDir::new().unwrap();
    let to = outside.path().join("recovered.mcap");
    let (path, folder, to) = (
        path.to_str().unwrap(),
        folder.to_str().unwrap(),
        to.to_str().unwrap(),
    );
    let commands: [&[&str]; 12] = [
        &["read", path],
        &["read", path, "--output", "json"],
        &["read", path, "--output", "hex"],
        &["read", path, "--output", "csv"],
        &["read", path, "--output", "raw"],
        &["read", folder, "--from", "2026-01-01T00:00:00Z"],
        &["verify", path],
        &["recordings", folder],
        &["recordings", folder, "--json"],
        &["replay", path, "--to", &address, "--speed", "max"],
        &["recover", path, "--output", to],
        &["recover", folder],
    ];
    for args in commands {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -v {MEMORY_MAX}; exec \"$0\" \"$@\""));
        command.arg(&program).args(args);
        let begun = Instant::now();
        let ended = finish(command, b"");
        assert!(
            matches!(ended.code, Some(0..=2)),
            "{args:?}: {:?} {}",
            ended.code,
            ended.stderr
        );
        assert!(
            !ended.stderr.contains("panicked"),
            "{args:?}: {}",
            ended.stderr
        );
        assert!(begun.elapsed() < STEP_MAX, "{args:?}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn mutated_files_are_read_verified_recovered_and_repaired() {
    let originals = originals();
    let (mut notes, begun) = (Notes::new(), Instant::now());
    let numbers = match number("BLOCKSD_TEST_MUTATION") {
        Some(one) => one..one + 1,
        None => 0..number("BLOCKSD_TEST_MUTATIONS").unwrap_or(MUTATIONS),
    };
    let mut failed = Vec::new();
    for seed in numbers {
        let mut chance = Chance::new(seed + 1);
        let original = &originals[chance.below(originals.len())];
        let donor = &originals[chance.below(originals.len())];
        let mut bytes = original.bytes.clone();
        let mutations = mutate(&mut bytes, &donor.bytes, &mut chance);
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(&original.name);
        fs::write(&path, &bytes).unwrap();
        if number("BLOCKSD_TEST_MUTATION").is_some() {
            let kept = std::env::temp_dir().join(format!("mutation-{seed}.mcap"));
            fs::write(&kept, &bytes).unwrap();
            println!("{}", kept.display());
        }
        let begun = Instant::now();
        let checked = catch_unwind(AssertUnwindSafe(|| {
            check(&path, original, donor, &mut notes);
            if seed % PROGRAM_EVERY == 0 {
                run_program(folder.path(), &path);
            } else if seed % 3 == 0 {
                repair(folder.path(), &path, original, &mut notes);
            }
            assert!(begun.elapsed() < STEP_MAX * 12, "too slow");
        }));
        if checked.is_err() {
            println!("BLOCKSD_TEST_MUTATION={seed} failed");
            failed.push(format!(
                "BLOCKSD_TEST_MUTATION={seed}: {mutations:?} of {}",
                original.name
            ));
        }
    }
    println!("{:.0} s: {notes:?}", begun.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
}
