//! The origins of messages: every reader gets them, whatever happens to the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use blocksd_recording::scan::{Found, Scan};
use blocksd_recording::{
    Channel, ChannelSpec, Compression, Error, FindingKind, Log, LogContext, LogOptions, LostRange,
    Message, MessageOrigin, Packer, Reader, Retention, Stats, Visitor, Wanted, WindowedFile,
    catalog, repair_dir, verify,
};
use tempfile::TempDir;

const TOPICS: [&str; 3] = ["/device/a/blocks", "/device/a/pieces", "/blocksd/events"];

/// A message: its topic, the number of the message in the topic, its origin, and its time.
type Stored = (String, u32, Option<(u64, u64)>, u64);

/// The messages of a recording, and the number of places where some are missing.
#[derive(Debug, Default)]
struct Messages {
    stored: Vec<Stored>,
    gaps: usize,
}

impl Visitor for Messages {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let topic = message.channel.record.topic.clone();
        let origin = message.origin.map(|it| (it.connection, it.seq));
        self.stored
            .push((topic, message.sequence, origin, message.time));
        Ok(())
    }

    fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), Error> {
        self.gaps += 1;
        Ok(())
    }

    fn gap(&mut self) -> Result<(), Error> {
        self.gaps += 1;
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn read(path: &Path, wanted: Wanted) -> Messages {
    let mut messages = Messages::default();
    let reader = Reader::new(vec![path.into()], wanted);
    reader.visit(&mut messages).unwrap();
    messages
}

/// A source of numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Appends runs of messages of a few connections to a log, and commits now and then. With `is_sealed`, in several sealed
/// files; otherwise in one that is left torn.
fn write(context: &Arc<LogContext>, random: &mut Random, is_sealed: bool) -> Vec<Stored> {
    let options = LogOptions {
        compression: Compression::None,
        rotate_bytes: if is_sealed { 6_000 } else { 1 << 30 },
        ..LogOptions::default()
    };
    let mut log = Log::after_others(options, Arc::clone(context)).unwrap();
    let mut channels = [Channel::default(); 3];
    let mut sequences = [0_u32; 3];
    let mut seqs = [0_u64; 4];
    let mut stored = Vec::new();
    for time in 1..300 {
        let (topic, connection) = (random.below(3) as usize, random.below(4));
        let spec = || ChannelSpec {
            topic: TOPICS[topic].to_owned(),
            ..ChannelSpec::default()
        };
        log.rotate_if_due().unwrap();
        let channel = log.channel(&mut channels[topic], spec).unwrap();
        let count = random.below(4) as u32;
        let payload = vec![b'x'; random.below(40) as usize];
        let seq = &mut seqs[connection as usize];
        // Some numbers are skipped, or used again.
        *seq = (*seq + random.below(3)).saturating_sub(1);
        let origin = MessageOrigin::new(connection, *seq);
        assert_eq!(origin.is_none(), connection == 0);
        let run = (0..count).map(|_| payload.as_slice());
        log.append_all(channel, origin, sequences[topic], time, run)
            .unwrap();
        for _ in 0..count {
            let origin = origin.map(|_| (connection, *seq));
            stored.push((TOPICS[topic].to_owned(), sequences[topic], origin, time));
            sequences[topic] += 1;
            *seq += 1;
        }
        if random.below(6) == 0 {
            log.commit().unwrap();
        }
    }
    if is_sealed {
        log.finish().unwrap();
    } else {
        log.commit().unwrap();
    }
    stored
}

fn context(folder: &Path) -> Arc<LogContext> {
    let context = LogContext::open(folder, Arc::<Stats>::default(), Retention::new(None));
    Arc::new(context.unwrap())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = catalog::list_directory(folder).unwrap().into_iter();
    files.map(|file| file.path).collect()
}

fn findings(path: &Path) -> Vec<FindingKind> {
    let mut kinds = Vec::new();
    let input = WindowedFile::open(path).unwrap();
    verify(input, false, &mut |finding| {
        kinds.push(finding.kind.clone());
    })
    .unwrap();
    kinds
}

/// Offset and length of each chunk of a file.
fn chunks(path: &Path) -> Vec<(usize, usize)> {
    let mut chunks = Vec::new();
    let mut scan = Scan::open(path, false).unwrap();
    while let Some(found) = scan.advance().unwrap() {
        if let Found::Chunk(chunk) = found {
            chunks.push((chunk.offset as usize, chunk.bytes.len()));
        }
        if scan.has_ended() {
            break;
        }
    }
    chunks
}

/// Whether all of `part` are in `all`, in order.
#[track_caller]
fn assert_in_order(part: &[Stored], all: &[Stored]) {
    let mut all = all.iter();
    for stored in part {
        assert!(all.any(|it| it == stored), "{stored:?}");
    }
}

#[test]
fn every_message_is_read_with_its_origin() {
    for seed in 0..20 {
        let folder = TempDir::new().unwrap();
        let mut random = Random(seed);
        let stored = write(&context(folder.path()), &mut random, true);
        let all = read(folder.path(), Wanted::default());
        assert_eq!(all.stored, stored, "{seed}");
        let files = files(folder.path());
        assert!(1 < files.len());
        for file in &files {
            assert_eq!(findings(file), [], "{seed}");
        }
        // From the middle of a chunk.
        let from = random.below(300);
        let later = read(
            folder.path(),
            Wanted {
                from,
                ..Wanted::default()
            },
        );
        let expected = stored.iter().filter(|(.., time)| from <= *time);
        assert!(later.stored.iter().eq(expected), "{seed}");
    }
}

#[test]
fn a_lost_chunk_loses_no_origin_of_another_before_and_after_a_repair() {
    for seed in 0..20 {
        let folder = TempDir::new().unwrap();
        let mut random = Random(seed);
        let stored = write(&context(folder.path()), &mut random, false);
        let torn = files(folder.path()).pop().unwrap();
        let places = chunks(&torn);
        // One of the second half: the first chunks define the channels.
        let half = places.len() / 2;
        let at = half + random.below((places.len() - half) as u64) as usize;
        let (offset, len) = places[at];
        let mut bytes = fs::read(&torn).unwrap();
        bytes[offset + len - 1] ^= 1;
        fs::write(&torn, &bytes).unwrap();
        let damaged = read(folder.path(), Wanted::default());
        assert_eq!(damaged.gaps, 1);
        assert!(damaged.stored.len() < stored.len());
        assert_in_order(&damaged.stored, &stored);

        let repaired = repair_dir(folder.path()).unwrap();
        assert!(repaired.map(Result::unwrap).count() == 1);
        let now = read(folder.path(), Wanted::default());
        assert_eq!(now.stored, damaged.stored, "{seed}");
        // Nothing follows the last chunk.
        assert_eq!(now.gaps, usize::from(at + 1 != places.len()), "{seed}");
        assert_eq!(findings(&files(folder.path()).pop().unwrap()), []);
    }
}

#[test]
fn a_packed_file_has_the_origins_of_the_original() {
    for seed in 0..5 {
        let folder = TempDir::new().unwrap();
        let context = context(folder.path());
        let packer = Packer::start(&context, Compression::Auto);
        let stored = write(&context, &mut Random(seed), true);
        packer.finish(Duration::from_secs(60));
        assert!(context.stats.read().files_packed != 0);
        let all = read(folder.path(), Wanted::default());
        assert_eq!(all.stored, stored, "{seed}");
        for file in files(folder.path()) {
            assert_eq!(findings(&file), [], "{seed}");
        }
    }
}

/// A log without compression, and a channel of its first file.
fn plain_log(folder: &Path) -> (Log, Channel) {
    let options = LogOptions {
        compression: Compression::None,
        ..LogOptions::default()
    };
    let mut log = Log::open(folder, options).unwrap();
    let channel = log.channel(&mut Channel::default(), ChannelSpec::default);
    let channel = channel.unwrap();
    (log, channel)
}

#[test]
fn messages_that_follow_each_other_need_one_record_in_a_chunk() {
    let folder = TempDir::new().unwrap();
    let (mut log, channel) = plain_log(folder.path());
    for n in 0..1_000_u32 {
        let origin = MessageOrigin::new(7, n.into());
        log.append_all(channel, origin, n, 1, [&b"x"[..]].into_iter())
            .unwrap();
        if n % 500 == 499 {
            log.commit().unwrap();
        }
    }
    log.finish().unwrap();
    let bytes = fs::read(files(folder.path()).remove(0)).unwrap();
    let record = b"\xb7\x12\0\0\0\0\0\0\0\x01\0\x07\0\0\0\0\0\0\0";
    let records = bytes.windows(record.len()).filter(|it| it == record);
    assert_eq!(records.count(), 2);
}

#[test]
fn verify_reports_an_origin_without_a_channel_or_with_another_length() {
    let folder = TempDir::new().unwrap();
    let (mut log, channel) = plain_log(folder.path());
    let origin = MessageOrigin::new(7, 0);
    log.append_all(channel, origin, 0, 1, [&b"message"[..]].into_iter())
        .unwrap();
    log.finish().unwrap();
    let path = files(folder.path()).remove(0);
    let sound = fs::read(&path).unwrap();
    assert_eq!(findings(&path), []);
    let record = b"\xb7\x12\0\0\0\0\0\0\0\x01\0";
    let at = sound.windows(record.len()).position(|it| it == record);
    let at = at.unwrap();
    let message = at + record.len() + 16;
    let with_crc = |mut bytes: Vec<u8>| {
        let (offset, len) = chunks(&path)[0];
        let crc = crc32fast::hash(&bytes[offset + 49..offset + len]);
        bytes[offset + 33..offset + 37].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    // Another channel.
    let mut unknown = sound.clone();
    unknown[at + 9] = 9;
    // The length of the record grows by 10 bytes, those of the beginning of the message, whose rest is another
    // private record.
    let mut long = sound.clone();
    long[at + 1] += 10;
    let rest = sound[message..].len().min(38) - 10 - 9;
    long[message + 10] = 0xb7;
    long[message + 11..message + 19].copy_from_slice(&(rest as u64).to_le_bytes());
    for (bytes, expected) in [(unknown, Some(9)), (long, Some(1))] {
        let bytes = with_crc(bytes);
        fs::write(&path, bytes).unwrap();
        let kinds = findings(&path);
        let expected = FindingKind::Origin { channel: expected };
        assert!(kinds.contains(&expected), "{kinds:?}");
    }
}
