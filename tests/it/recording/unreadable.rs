//! Recordings on a disk with unreadable sectors: every message in a readable chunk is read, and no other.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blocksd::recorded::ranges::CHECKER;
use blocksd_recording::internals::ReadAt;
use blocksd_recording::scan::{Found, Scan, Summary};
use blocksd_recording::{Compression, LossCause, WindowedFile};
use blocksd_tests::disk::Chance;
use blocksd_tests::recorded::{payload, record};
use mcap::Compression as McapCompression;
use mcap::records::Record;
use tempfile::TempDir;

/// Number of random sets of unreadable sectors for each kind of file; `BLOCKSD_TEST_DAMAGES` overrides it.
const DAMAGES: usize = 10;
/// Length of an unreadable sector: the smallest part that the system reads.
const SECTOR: u64 = 4096;

type Messages = Vec<(u32, u64, Vec<u8>)>;

/// A file with sectors that fail.
#[derive(Debug)]
struct BadDisk {
    file: fs::File,
    bad: Vec<u64>,
}

impl BadDisk {
    fn has(&self, range: Range<u64>) -> bool {
        let is_hit = |sector: &u64| *sector < range.end && range.start < sector + SECTOR;
        self.bad.iter().any(is_hit)
    }
}

impl ReadAt for BadDisk {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + bytes.len() as u64;
        let bad = self.bad.iter().filter(|it| offset < **it + SECTOR);
        let first = bad.min().map_or(end, |first| end.min(*first));
        match usize::try_from(first.saturating_sub(offset)).unwrap() {
            0 if !bytes.is_empty() => Err(io::Error::from_raw_os_error(libc::EIO)),
            len => ReadAt::read_at(&self.file, &mut bytes[..len], offset),
        }
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

/// A sound file, and the place and messages of each chunk.
struct Sound {
    path: PathBuf,
    len: u64,
    chunks: Vec<(Range<u64>, Messages)>,
    /// Where the data ends; the summary follows.
    data_end: u64,
    is_sealed: bool,
    is_named: bool,
    has_checksums: bool,
}

impl Sound {
    fn of(path: PathBuf, is_named: bool) -> Self {
        let mut scan = Scan::open(&path, false).unwrap();
        let summary = Summary::read(&mut WindowedFile::open(&path).unwrap()).unwrap();
        let len = fs::metadata(&path).unwrap().len();
        let mut chunks = Vec::new();
        while let Some(found) = scan.advance().unwrap() {
            match found {
                Found::Chunk(chunk) => {
                    let place = chunk.offset..chunk.offset + chunk.bytes.len() as u64;
                    let messages = chunk.records().filter_map(|(_, raw)| raw.parse());
                    chunks.push((place, messages.filter_map(message).collect()));
                }
                Found::Lost(lost) => panic!("{lost}"),
                _ => {}
            }
            if scan.has_ended() {
                break;
            }
        }
        Self {
            path,
            len,
            chunks,
            data_end: summary.as_ref().map_or(len, |it| it.data_end),
            is_sealed: summary.is_ok(),
            is_named,
            has_checksums: true,
        }
    }

    fn open(&self, disk: &Arc<BadDisk>) -> WindowedFile {
        let disk = Arc::clone(disk) as Arc<dyn ReadAt>;
        WindowedFile::over(&self.path, disk).unwrap()
    }

    /// Asserts the property for these unreadable sectors.
    fn check(&self, bad: Vec<u64>) {
        let context = format!("{}: {bad:?}", self.path.display());
        let file = fs::File::open(&self.path).unwrap();
        let disk = Arc::new(BadDisk { file, bad });
        // Without a nonce in its name, a file is recognized by its beginning, or by its summary.
        let has_summary = self.is_sealed && !disk.has(self.data_end..self.len);
        let is_known = self.is_named || has_summary || !disk.has(0..128);
        let is_whole = |place: &Range<u64>| is_known && !disk.has(place.clone());
        let expected = self.chunks.iter().filter(|(place, _)| is_whole(place));
        let expected: Messages = expected.flat_map(|(_, it)| it.clone()).collect();

        let mut input = self.open(&disk);
        let summary = Summary::of_sealed(&mut input, false).unwrap();
        let mut scan = Scan::new(input, summary.as_ref(), false);
        let (mut read, mut lost) = (Messages::new(), 0);
        while let Some(found) = scan.advance().unwrap() {
            match found {
                Found::Chunk(chunk) => {
                    let messages = chunk.records().filter_map(|(_, raw)| raw.parse());
                    read.extend(messages.filter_map(message));
                }
                Found::Lost(range) => {
                    let is_told = matches!(range.cause, LossCause::Unreadable(_));
                    assert!(is_told || !is_known, "{context}: {range}");
                    assert!(disk.has(range.offset..range.offset + range.len) || !is_known);
                    lost += range.len;
                }
                _ => {}
            }
            if scan.has_ended() {
                break;
            }
        }
        if !self.has_checksums && !has_summary {
            assert!(read.iter().all(|it| expected.contains(it)), "{context}");
            return;
        }
        assert_eq!(read, expected, "{context}");
        let is_damaged = disk.has(0..self.data_end);
        assert_eq!(lost != 0, is_damaged, "{context}: {lost} bytes lost");

        let mut findings = Vec::new();
        let mut report = |finding: &blocksd_recording::Finding| findings.push(finding.to_string());
        CHECKER
            .verify(self.open(&disk), false, &mut report)
            .unwrap();
        let is_told = findings.iter().any(|it| it.contains("unreadable: "));
        assert_eq!(is_told, disk.has(0..self.len), "{context}: {findings:?}");

        let folder = TempDir::new().unwrap();
        let to = folder.path().join("recovered.mcap");
        let recovered = CHECKER.recover_file(&self.open(&disk), &to).unwrap();
        assert_eq!(
            recovered.written,
            !expected.is_empty() && !recovered.complete
        );
        if recovered.written {
            assert_eq!(messages_of(&to), expected, "{context}");
            assert!(CHECKER.check(&to).unwrap().is_some(), "{context}");
        }
        assert_eq!(
            recovered.damaged,
            disk.has(0..self.len),
            "{context}: the original must be kept: {recovered}"
        );
    }
}

fn message(record: Record<'_>) -> Option<(u32, u64, Vec<u8>)> {
    match record {
        Record::Message { header, data } => {
            Some((header.sequence, header.log_time, data.into_owned()))
        }
        _ => None,
    }
}

fn messages_of(path: &Path) -> Messages {
    let bytes = fs::read(path).unwrap();
    let messages = mcap::MessageStream::new(&bytes).unwrap();
    let messages = messages.map(Result::unwrap);
    let messages = messages.map(|it| (it.sequence, it.log_time, it.data.into_owned()));
    messages.collect()
}

/// Blocks in chunks of about two sectors each.
fn blocks() -> Vec<Vec<Vec<u8>>> {
    let mut chance = Chance(7);
    let mut chunks = Vec::new();
    for chunk in 0..24 {
        let noise = (0..3000).map(|_| chance.of(0..=255) as u8).collect();
        let numbered = (0..20).map(|n| payload(chunk * 20 + n));
        chunks.push(numbered.chain([noise]).collect());
    }
    chunks
}

/// Sealed and torn files of each compression, with and without a nonce in their names, and one of another program.
fn files(folder: &Path) -> Vec<Sound> {
    let mut files = Vec::new();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let own = folder.join(format!("{compression:?}"));
        let sealed = record(&own, "10.0.0.1", compression, &blocks());
        let unnamed = own.join("00000002-20261127T000000Z.mcap");
        fs::copy(&sealed, &unnamed).unwrap();
        let data_end = Sound::of(sealed.clone(), true).data_end;
        let data = &fs::read(&sealed).unwrap()[..usize::try_from(data_end).unwrap()];
        let torn = sealed.with_extension("mcap.part");
        fs::write(&torn, data).unwrap();
        let unnamed_torn = unnamed.with_extension("mcap.part");
        fs::write(&unnamed_torn, data).unwrap();
        for (path, is_named) in [
            (sealed, true),
            (unnamed, false),
            (torn, true),
            (unnamed_torn, false),
        ] {
            files.push(Sound::of(path, is_named));
        }
    }
    let foreign = folder.join("foreign.mcap");
    fs::write(&foreign, foreign_file(true)).unwrap();
    files.push(Sound::of(foreign, false));
    // Without checksums, only the disk says that bytes are lost, and only the summary says where a chunk begins.
    let unchecked = folder.join("unchecked.mcap");
    fs::write(&unchecked, foreign_file(false)).unwrap();
    let unchecked = Sound::of(unchecked, false);
    files.push(Sound {
        has_checksums: false,
        ..unchecked
    });
    files
}

fn foreign_file(has_checksums: bool) -> Vec<u8> {
    let options = mcap::WriteOptions::new()
        .chunk_size(Some(8192))
        .calculate_chunk_crcs(has_checksums)
        .compression(None::<McapCompression>);
    let mut bytes = io::Cursor::new(Vec::new());
    let mut writer = options.create(&mut bytes).unwrap();
    let channel = writer.add_channel(0, "/imu", "raw", &Default::default());
    let channel = channel.unwrap();
    for sequence in 0..600 {
        let header = mcap::records::MessageHeader {
            channel_id: channel,
            sequence,
            log_time: sequence.into(),
            publish_time: 0,
        };
        let data = payload(sequence.into());
        writer.write_to_known_channel(&header, &data).unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    bytes.into_inner()
}

#[test]
fn every_message_in_a_readable_chunk_is_read_and_no_other() {
    let given = std::env::var("BLOCKSD_TEST_DAMAGES").ok();
    let damages = given.map_or(DAMAGES, |given| given.parse().expect("a number"));
    let folder = TempDir::new().unwrap();
    let mut chance = Chance(20_261_127);
    for file in files(folder.path()) {
        let sectors = file.len.div_ceil(SECTOR);
        assert!(sectors > 10, "{sectors} sectors");
        file.check(Vec::new());
        for sector in 0..sectors {
            file.check(vec![sector * SECTOR]);
        }
        for _ in 0..damages {
            let count = chance.of(1..=usize::try_from(sectors).unwrap());
            let last = usize::try_from(sectors - 1).unwrap();
            let bad = (0..count).map(|_| chance.of(0..=last) as u64 * SECTOR);
            file.check(bad.collect());
        }
        file.check((0..sectors).map(|sector| sector * SECTOR).collect());
    }
}

#[test]
fn a_file_that_is_unreadable_is_lost_in_whole() {
    let folder = TempDir::new().unwrap();
    let file = record(folder.path(), "10.0.0.1", Compression::None, &blocks());
    let sound = Sound::of(file, true);
    let disk = Arc::new(BadDisk {
        file: fs::File::open(&sound.path).unwrap(),
        bad: (0..sound.len.div_ceil(SECTOR))
            .map(|it| it * SECTOR)
            .collect(),
    });
    let mut scan = Scan::new(sound.open(&disk), None, false);
    let mut causes = HashMap::new();
    while let Some(found) = scan.advance().unwrap() {
        let Found::Lost(lost) = found else {
            panic!("{found:?}")
        };
        *causes.entry(lost.to_string()).or_insert(0) += 1;
    }
    let len = sound.len;
    let line = format!(
        "{len} bytes lost at 0: unreadable: {len} bytes at 0: Input/output error (os error 5)"
    );
    assert_eq!(causes, HashMap::from([(line, 1)]));
}
