//! The ranges of a file that the disk cannot read: [`UnreadableRange`]. `Unreadable::read` reads around them.
//!
//! A failed read is repeated with single blocks, so that only blocks that fail on their own are given up. A disk that fails
//! often, or slowly, is not read for hours: after [`COST_MAX`] in a file, or [`SECONDS_MAX`] in all files, each failure skips
//! twice as much as the one before.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Length and alignment of the smallest read after a failure, in bytes: the page of the system's cache, which reads no less.
const BLOCK_LEN: u64 = 4096;
/// Cost of failed reads of one file until blocks are skipped without an attempt. A failed read costs 1, and 1 more for each
/// second that it took.
const COST_MAX: u64 = 256;
/// Seconds in failed reads of all files until blocks are skipped without an attempt.
const SECONDS_MAX: u64 = 20 * 60;

/// Seconds that failed reads of this process have taken.
static SECONDS: AtomicU64 = AtomicU64::new(0);

/// A file that can be read at any offset. Tests replace it with one that fails.
pub trait ReadAt: fmt::Debug + Send + Sync {
    /// Reads some bytes at an offset, and returns how many. 0 at the end of the file.
    ///
    /// # Errors
    /// The error of the system.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Returns the metadata of the file.
    ///
    /// # Errors
    /// The error of the system.
    fn metadata(&self) -> io::Result<Metadata>;
}

impl ReadAt for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Self::metadata(self)
    }
}

/// Bytes of a file that the disk cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableRange {
    /// Offset of the first of these bytes.
    pub offset: u64,
    /// Number of these bytes. Within a lost range, they need not follow one another.
    pub len: u64,
    /// The error number of the operating system, if it has one.
    pub error: Option<i32>,
}

impl fmt::Display for UnreadableRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unreadable: {} bytes at {}: ", self.len, self.offset)?;
        match self.error {
            Some(error) => io::Error::from_raw_os_error(error).fmt(f),
            None => f.write_str("read error"),
        }
    }
}

/// What is known about the unreadable ranges of one file.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// In the order of their offsets, without overlap.
    ranges: Vec<UnreadableRange>,
    cost: u64,
    /// Seconds in failed reads of all files.
    seconds: &'static AtomicU64,
    /// Length to skip at the next failure, once the cost is reached.
    skip: u64,
}

impl Default for Unreadable {
    fn default() -> Self {
        Self::counting(&SECONDS)
    }
}

impl Unreadable {
    const fn counting(seconds: &'static AtomicU64) -> Self {
        Self {
            ranges: Vec::new(),
            cost: 0,
            seconds,
            skip: 0,
        }
    }

    /// Whether failed reads took too many attempts, or too long.
    fn is_spent(&self) -> bool {
        COST_MAX <= self.cost || SECONDS_MAX <= self.seconds.load(Ordering::Relaxed)
    }

    /// Returns the first unreadable byte of a range, the number of unreadable bytes in it, and their error.
    pub(super) fn within(&self, from: u64, to: u64) -> Option<UnreadableRange> {
        let first = self.ranges.partition_point(|it| end(it) <= from);
        let inside = self.ranges.iter().skip(first);
        let mut inside = inside.take_while(|it| it.offset < to);
        let clip = |it: &UnreadableRange| (it.offset.max(from), end(it).min(to));
        let first = inside.next()?;
        let (offset, first_end) = clip(first);
        let rest = inside.map(|it| clip(it).1 - clip(it).0).sum::<u64>();
        let (len, error) = (first_end - offset + rest, first.error);
        Some(UnreadableRange { offset, len, error })
    }

    /// Fills `space` with the bytes at `offset`, and zeros where they are unreadable. Returns the number of bytes before the
    /// end of the file.
    ///
    /// # Errors
    /// The error of the system, if it says nothing about the content of the file.
    pub(super) fn read(
        &mut self,
        file: &dyn ReadAt,
        space: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        let (mut have, mut step) = (0, u64::MAX);
        while let Some(rest) = space.get_mut(have..).filter(|rest| !rest.is_empty()) {
            let at = offset + have as u64;
            let limit = at + rest.len() as u64;
            let known = self.within(at, limit);
            if let Some(known) = known.filter(|known| known.offset == at) {
                have += zero(rest, self.end_of(known.offset) - at);
                continue;
            }
            let limit = known.map_or(limit, |known| known.offset);
            // Small reads end at a block, so that each block is read once.
            let to = at.saturating_add(step);
            let to = to.checked_next_multiple_of(BLOCK_LEN).unwrap_or(to);
            let to = if step == BLOCK_LEN {
                next_block(at)
            } else {
                to
            };
            let len = usize::try_from(to.min(limit) - at).unwrap_or(usize::MAX);
            let part = rest.get_mut(..len).unwrap_or_default();
            let begun = Instant::now();
            match file.read_at(part, at) {
                // The file was truncated since its length was read.
                Ok(0) => break,
                Ok(len) => {
                    have += len;
                    step = step.saturating_mul(2);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if !is_of_content(&error) => return Err(error),
                Err(error) => {
                    let seconds = begun.elapsed().as_secs();
                    self.cost += 1 + seconds;
                    self.seconds.fetch_add(seconds, Ordering::Relaxed);
                    if step != BLOCK_LEN && !self.is_spent() {
                        step = BLOCK_LEN;
                        continue;
                    }
                    step = BLOCK_LEN;
                    let to = self.skip_from(at);
                    self.add(at, to, error.raw_os_error());
                }
            }
        }
        Ok(have)
    }

    /// Returns the end of the range that a failed read at `at` gives up.
    fn skip_from(&mut self, at: u64) -> u64 {
        if !self.is_spent() {
            return next_block(at);
        }
        self.skip = self.skip.max(BLOCK_LEN).saturating_mul(2);
        at.saturating_add(self.skip)
    }

    fn add(&mut self, from: u64, to: u64, error: Option<i32>) {
        let index = self.ranges.partition_point(|it| it.offset <= from);
        // A skip may reach over ranges that are known already.
        let next = self.ranges.get(index).map_or(u64::MAX, |it| it.offset);
        let to = to.min(next);
        let before = index
            .checked_sub(1)
            .and_then(|index| self.ranges.get_mut(index));
        match before {
            Some(before) if end(before) == from && before.error == error => {
                before.len = to - before.offset;
            }
            _ => {
                let len = to - from;
                let offset = from;
                let range = UnreadableRange { offset, len, error };
                self.ranges.insert(index, range);
            }
        }
    }

    /// Returns the end of the known range that contains a byte.
    fn end_of(&self, at: u64) -> u64 {
        let index = self.ranges.partition_point(|it| end(it) <= at);
        self.ranges.get(index).map_or(at, end)
    }
}

const fn end(range: &UnreadableRange) -> u64 {
    range.offset.saturating_add(range.len)
}

const fn next_block(at: u64) -> u64 {
    (at / BLOCK_LEN + 1) * BLOCK_LEN
}

/// Zeros the first `len` bytes, or all if there are fewer. Returns how many.
fn zero(space: &mut [u8], len: u64) -> usize {
    let len = usize::try_from(len).map_or(space.len(), |len| len.min(space.len()));
    space.get_mut(..len).unwrap_or_default().fill(0);
    len
}

/// Whether an error says that bytes of the file are lost, rather than that the process lacks something.
fn is_of_content(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, OutOfMemory, WouldBlock};
    !matches!(error.kind(), InvalidInput | OutOfMemory | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of ones with unreadable ranges, that counts its failed reads. Reads end before an unreadable byte, as those of
    /// the system's cache, or fail as a whole.
    #[derive(Debug)]
    struct Faulty {
        len: u64,
        bad: Vec<(u64, u64)>,
        is_partial: bool,
        failed: AtomicU64,
    }

    impl ReadAt for Faulty {
        fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
            let to = (offset + bytes.len() as u64).min(self.len);
            let bad = self
                .bad
                .iter()
                .filter(|(from, end)| offset < *end && *from < to);
            let until = match bad.map(|(from, _)| *from).min() {
                Some(from) if from <= offset || !self.is_partial => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    return Err(io::Error::from_raw_os_error(5));
                }
                Some(from) => from,
                None => to,
            };
            let len = usize::try_from(until.saturating_sub(offset)).unwrap();
            bytes[..len].fill(1);
            Ok(len)
        }

        fn metadata(&self) -> io::Result<Metadata> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn read(file: &Faulty, from: u64) -> (Vec<u8>, Vec<(u64, u64)>) {
        let mut unreadable = Unreadable::default();
        let mut bytes = vec![7; usize::try_from(file.len - from).unwrap()];
        let have = unreadable.read(file, &mut bytes, from).unwrap();
        assert_eq!(have, bytes.len());
        let ranges = unreadable.ranges.iter().map(|it| (it.offset, end(it)));
        let ranges = ranges.collect();
        // A second read attempts nothing that failed.
        let failed = file.failed.load(Ordering::Relaxed);
        let mut again = vec![7; bytes.len()];
        unreadable.read(file, &mut again, from).unwrap();
        assert_eq!(again, bytes);
        assert_eq!(file.failed.load(Ordering::Relaxed), failed);
        (bytes, ranges)
    }

    #[test]
    fn only_blocks_that_fail_are_unreadable() {
        for is_partial in [true, false] {
            let bad = vec![(0, 4096), (12_288, 20_480), (40_960, 41_000)];
            let file = Faulty {
                len: 50_000,
                bad,
                is_partial,
                failed: AtomicU64::new(0),
            };
            let (bytes, ranges) = read(&file, 0);
            assert_eq!(ranges, [(0, 4096), (12_288, 20_480), (40_960, 45_056)]);
            for (at, byte) in bytes.iter().enumerate() {
                let at = at as u64;
                let is_bad = ranges.iter().any(|(from, to)| (*from..*to).contains(&at));
                assert_eq!(*byte, u8::from(!is_bad), "at {at}");
            }
            // A read that begins within a block gives up the rest of it.
            assert_eq!(read(&file, 13_000).1[0], (13_000, 20_480));
        }
    }

    #[test]
    fn a_file_that_is_unreadable_takes_a_bounded_number_of_reads() {
        for is_partial in [true, false] {
            let len = 64 << 20;
            let file = Faulty {
                len,
                bad: vec![(4096, len)],
                is_partial,
                failed: AtomicU64::new(0),
            };
            let (bytes, ranges) = read(&file, 0);
            assert_eq!(ranges.len(), 1);
            assert_eq!(ranges[0].0, 4096);
            assert!(bytes[..4096].iter().all(|byte| *byte == 1));
            assert!(bytes[4096..].iter().all(|byte| *byte == 0));
            let failed = file.failed.load(Ordering::Relaxed);
            assert!(failed <= COST_MAX + 16, "{failed}");
        }
    }

    #[test]
    fn after_many_minutes_in_failed_reads_other_files_take_few() {
        static SPENT: AtomicU64 = AtomicU64::new(SECONDS_MAX);
        let len = 64 << 20;
        let file = Faulty {
            len,
            bad: vec![(0, len)],
            is_partial: true,
            failed: AtomicU64::new(0),
        };
        let mut bytes = vec![7; usize::try_from(len).unwrap()];
        let mut unreadable = Unreadable::counting(&SPENT);
        unreadable.read(&file, &mut bytes, 0).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert!(file.failed.load(Ordering::Relaxed) < 20);
    }

    #[test]
    fn the_unreadable_bytes_of_a_range_are_counted() {
        let mut unreadable = Unreadable::default();
        unreadable.add(8192, 12_288, Some(5));
        unreadable.add(0, 4096, Some(5));
        unreadable.add(4096, 5000, Some(5));
        assert_eq!(unreadable.ranges.len(), 2);
        assert_eq!(unreadable.within(5000, 8192), None);
        let found = unreadable.within(4000, 9000).unwrap();
        assert_eq!((found.offset, found.len), (4000, 1000 + 808));
        assert_eq!(
            found.to_string(),
            "unreadable: 1808 bytes at 4000: Input/output error (os error 5)"
        );
    }
}
