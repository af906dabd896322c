//! Damage in a sealed file changes no position in it: a tail that continues skips and repeats no message.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;

use blocksd_recording::scan::{ChunkLocation, Summary};
use blocksd_recording::{
    Error, FileNonce, LostRange, Message, Reader, Tail, TailPosition, Visitor, Wanted, WindowedFile,
};
use tempfile::TempDir;

use crate::{Collect, Ended, Following, Numbers, Seen, files, record};

/// Messages of a chunk.
const CHUNK: u32 = 3;
/// Messages of a file.
const MESSAGES: u32 = 12;

/// A sealed file of four chunks, and one after it.
fn recording() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut log = Numbers::open(folder.path());
    for first in (0..MESSAGES).step_by(CHUNK as usize) {
        log.write(first..first + CHUNK);
    }
    log.log.finish().unwrap();
    record(folder.path(), MESSAGES..MESSAGES + CHUNK);
    folder
}

/// The chunks of a sealed file.
fn chunks(path: &Path) -> Vec<ChunkLocation> {
    let mut input = WindowedFile::open(path).unwrap();
    Summary::read(&mut input).unwrap().unwrap().chunks
}

/// The ways to damage a chunk: all of it, its head, and its content.
fn damages(chunk: &ChunkLocation) -> [Range<u64>; 3] {
    let Range { start, end } = chunk.offset..chunk.offset + chunk.len;
    [start..end, start..start + 20, end - 20..end]
}

fn zero(path: &Path, range: Range<u64>) {
    let mut bytes = fs::read(path).unwrap();
    bytes[range.start as usize..range.end as usize].fill(0);
    fs::write(path, bytes).unwrap();
}

/// The messages of a chunk.
fn numbers(chunk: usize) -> Range<u32> {
    let first = chunk as u32 * CHUNK;
    first..first + CHUNK
}

/// Reads everything from a position on that there is now.
fn read_from(folder: &Path, position: TailPosition) -> Seen {
    let mut collect = Collect::default();
    collect.is_stopped.store(true, Ordering::Relaxed);
    let tail = Tail::new(folder.into(), Wanted::default()).from_position(position);
    assert!(matches!(tail.visit(&mut collect), Err(Ended(None))));
    collect.seen.lock().unwrap().clone()
}

/// Checks the index of each message: it is the number that the message has. Collects the messages.
#[derive(Default)]
struct Indexes(Vec<u32>);

impl Visitor for Indexes {
    type Error = Error;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let number = u32::from_le_bytes(*message.data.first_chunk().unwrap());
        assert_eq!(message.index, u64::from(number % MESSAGES), "{number}");
        self.0.push(number);
        Ok(())
    }

    fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), Error> {
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn indexed(path: &Path, wanted: Wanted) -> Vec<u32> {
    let mut indexes = Indexes::default();
    let reader = Reader::new(vec![path.into()], wanted);
    reader.visit(&mut indexes).unwrap();
    indexes.0
}

fn nonce(path: &Path) -> FileNonce {
    let name = path.file_stem().unwrap().to_str().unwrap();
    FileNonce::of_digits(name.rsplit('-').next().unwrap()).unwrap()
}

#[test]
fn a_tail_continues_at_its_position_whichever_chunk_is_lost() {
    let intact = recording();
    let path = &files(intact.path())[0];
    let (bytes, name) = (fs::read(path).unwrap(), path.file_name().unwrap());
    let chunks = chunks(path);
    assert_eq!(chunks.len(), 4);
    for (chunk, range) in chunks.iter().enumerate().flat_map(|(index, chunk)| {
        let ranges = damages(chunk).into_iter();
        ranges.map(move |range| (index, range))
    }) {
        zero(path, range.clone());
        for from in 0..=MESSAGES {
            let position = TailPosition {
                number: 1,
                nonce: nonce(path),
                messages: from.into(),
            };
            let seen = read_from(intact.path(), position);
            let mut expected: Vec<u32> = (from..MESSAGES + CHUNK).collect();
            expected.retain(|it| !numbers(chunk).contains(it));
            assert_eq!(seen.messages, expected, "{range:?} from {from}");
            let is_before = numbers(chunk).end <= from;
            assert_eq!(seen.lost == 0, is_before, "{range:?} from {from}");
        }
        fs::write(intact.path().join(name), &bytes).unwrap();
    }
}

#[test]
fn the_index_of_a_message_does_not_depend_on_damage_or_on_the_selection() {
    let folder = recording();
    let path = &files(folder.path())[0];
    assert_eq!(indexed(path, Wanted::default()).len(), 12);
    let window = Wanted {
        from: 7,
        to: 10,
        ..Wanted::default()
    };
    assert_eq!(indexed(path, window.clone()), [7, 8, 9]);
    let chunks = chunks(path);
    zero(path, damages(&chunks[1])[0].clone());
    assert_eq!(
        indexed(path, Wanted::default()),
        [0, 1, 2, 6, 7, 8, 9, 10, 11]
    );
    assert_eq!(indexed(path, window), [7, 8, 9]);
    zero(path, damages(&chunks[0])[1].clone());
    zero(path, damages(&chunks[2])[2].clone());
    assert_eq!(indexed(path, Wanted::default()), [9, 10, 11]);
}

#[test]
fn a_file_that_is_sealed_after_damage_was_seen_is_read_once() {
    for damaged in 0..3 {
        let (folder, mut log) = damaged_part(damaged);
        let following = Following::of(folder.path());
        let mut expected: Vec<u32> = (0..9).collect();
        expected.retain(|it| !numbers(damaged).contains(it));
        following.expect(expected.clone());
        log.write(9..12);
        log.log.finish().unwrap();
        record(folder.path(), 12..15);
        expected.extend(9..15);
        following.expect(expected);
        following.stop().expect_true_position(folder.path());
    }
}

#[test]
fn a_file_that_is_sealed_while_it_is_read_after_damage_is_read_once() {
    for damaged in 0..3 {
        let (folder, log) = damaged_part(damaged);
        let mut expected: Vec<u32> = (0..15).collect();
        expected.retain(|it| !numbers(damaged).contains(it));
        let mut sealing = Sealing {
            log: Some(log),
            folder: folder.path(),
            collect: Collect::default(),
        };
        let tail = Tail::new(folder.path().into(), Wanted::default());
        assert!(matches!(tail.visit(&mut sealing), Err(Ended(None))));
        let seen = sealing.collect.seen.lock().unwrap().clone();
        assert_eq!(seen.messages, expected);
        seen.expect_true_position(folder.path());
    }
}

/// Seals the file, and writes the next one, when it receives the first message: the end of the file is read before the folder is
/// listed again. Stops after the last message.
struct Sealing<'a> {
    log: Option<Numbers>,
    folder: &'a Path,
    collect: Collect,
}

impl Visitor for Sealing<'_> {
    type Error = Ended;

    fn message(&mut self, message: &Message<'_>) -> Result<(), Ended> {
        if let Some(mut log) = self.log.take() {
            log.write(9..12);
            log.log.finish().unwrap();
            record(self.folder, 12..15);
        }
        if message.data.starts_with(&14_u32.to_le_bytes()) {
            self.collect.is_stopped.store(true, Ordering::Relaxed);
        }
        self.collect.message(message)
    }

    fn lost(&mut self, file: &Path, lost: &LostRange) -> Result<(), Ended> {
        self.collect.lost(file, lost)
    }

    fn reached(&mut self, position: &TailPosition) -> Result<(), Ended> {
        self.collect.reached(position)
    }

    fn idle(&mut self) -> Result<(), Ended> {
        self.collect.idle()
    }
}

impl Seen {
    /// Checks the last position in the first file: it is the true one, also for the next run.
    fn expect_true_position(&self, folder: &Path) {
        let mut positions = self.positions.iter();
        let first = *positions.rfind(|it| it.number == 1).unwrap();
        assert_eq!(first.messages, 12, "{:?}", self.positions);
        assert_eq!(read_from(folder, first).messages, [12, 13, 14]);
    }
}

/// A file that is being written, of three chunks, one of them damaged.
fn damaged_part(damaged: usize) -> (TempDir, Numbers) {
    let folder = TempDir::new().unwrap();
    let mut log = Numbers::open(folder.path());
    for chunk in 0..3 {
        log.write(numbers(chunk));
    }
    let path = &files(folder.path())[0];
    let part = chunks_of_part(path);
    assert_eq!(part.len(), 3);
    let mut bytes = fs::read(path).unwrap();
    bytes[part[damaged] + 60..part[damaged] + 80].fill(0);
    overwrite(path, &bytes);
    (folder, log)
}

/// The offsets of the chunks of a file that is being written.
fn chunks_of_part(path: &Path) -> Vec<usize> {
    use blocksd_recording::scan::{Found, Scan};
    let mut scan = Scan::open(path, true).unwrap();
    let mut offsets = Vec::new();
    while let Some(found) = scan.advance().unwrap() {
        if let Found::Chunk(chunk) = found {
            offsets.push(chunk.offset as usize);
        }
    }
    offsets
}

/// Writes bytes over those of a file that another one writes, too.
fn overwrite(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}
