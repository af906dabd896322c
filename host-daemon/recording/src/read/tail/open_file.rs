//! A file that is being followed: an [`OpenFile`] reads it from a message on, while it grows.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::durability::{Durability, ReadableExtent};
use crate::error::Error;
use crate::format::filename;
use crate::format::nonce::FileNonce;
use crate::read::catalog::RecordingFile;
use crate::read::gaps::Gaps;
use crate::read::message::Wanted;
use crate::read::messages::{FileReader, Visitor, is_outside, is_written};
use crate::read::scan::Scan;
use crate::read::summary::Summary;
use crate::read::window::WindowedFile;

/// A file without an end that was changed within this time may still be written by another program.
const SETTLED: Duration = Duration::from_secs(2);

/// How far a file was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Messages up to the last one that was read. Those of lost chunks are included only if it was read as a sealed file.
    pub(super) messages: u64,
    /// Offset up to which it was read.
    pub(super) offset: u64,
    /// Device and inode of the file with this offset: a repaired or packed file is another one.
    pub(super) inode: Option<(u64, u64)>,
    /// Length of the file when it was last read.
    pub(super) len: u64,
    /// Everything was read.
    pub(super) is_done: bool,
    /// It was read as a sealed file, which does not get more messages.
    pub(super) is_sealed: bool,
    /// It had the name of an unsealed file.
    pub(super) was_part: bool,
    /// Its number, if it has the name of a file of a recording.
    pub(super) number: Option<u64>,
}

/// Which part of a file may be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound<'a> {
    /// `None` if everything may be read.
    pub(super) durability: Option<&'a Durability>,
    /// The nonce of the file, if it has one.
    pub(super) nonce: Option<FileNonce>,
}

impl Bound<'_> {
    /// The part that may be read now. Ask before a look at the file: everything that is in the file by the time that it may be
    /// read completely is found then.
    pub(super) fn extent(&self) -> ReadableExtent {
        let known = self.durability.zip(self.nonce);
        known.map_or(ReadableExtent::All, |(it, nonce)| it.extent(nonce))
    }
}

/// A file that is being read.
pub(super) struct OpenFile<'a> {
    scan: Scan,
    pub(super) reader: FileReader<'a>,
    path: PathBuf,
    bound: Bound<'a>,
    /// More of the file may become durable: later files come after it.
    is_bounded: bool,
    is_growing: bool,
    inode: Option<(u64, u64)>,
    /// The number of all messages, if the file is sealed and states it.
    stated: Option<u64>,
    is_sealed: bool,
    /// The file has no message that is wanted.
    is_outside: bool,
}

impl<'a> OpenFile<'a> {
    /// Opens a file, to continue where it was read to. Returns `None` if it was removed.
    pub(super) fn open(
        listed: &RecordingFile,
        wanted: &'a Wanted,
        bound: Bound<'a>,
        progress: &Progress,
        gaps: &mut Gaps,
    ) -> Result<Option<Self>, Error> {
        let extent = bound.extent();
        let Some((mut input, is_open)) = listed.open()? else {
            return Ok(None);
        };
        // A file with another name is sealed, or repaired.
        let extent = match is_part(input.path()) {
            true => extent,
            false => ReadableExtent::All,
        };
        if let ReadableExtent::Synced(len) = extent {
            input.limit(len);
        }
        let summary = Summary::of_sealed(&mut input, is_open)?;
        let is_growing = match extent {
            ReadableExtent::All => is_open || (summary.is_none() && is_recent(&input)),
            ReadableExtent::Synced(_) => true,
            ReadableExtent::Void(_) => false,
        };
        let inode = inode(&input);
        let mut scan = Scan::new(input, summary.as_ref(), is_growing);
        let number = number(&listed.path);
        let skip = progress.messages;
        let mut reader = FileReader::new(wanted, number.zip(bound.nonce), skip);
        if let ReadableExtent::Void(len) = extent {
            reader.confirmed_len = len;
        }
        if let Some(summary) = &summary {
            if skip == 0 {
                scan.only(summary, wanted.from, wanted.to);
            }
            reader.begin(summary, gaps);
            if inode.is_some() && progress.inode == inode {
                // It was not sealed then: the messages of chunks that were lost did not count.
                reader.skip_to(progress.offset);
            }
        }
        let statistics = summary.as_ref().and_then(|it| it.statistics.as_ref());
        Ok(Some(Self {
            scan,
            reader,
            path: listed.path.clone(),
            bound,
            is_bounded: matches!(extent, ReadableExtent::Synced(_)),
            is_growing,
            inode,
            stated: statistics.map(|it| it.message_count),
            is_sealed: summary.is_some(),
            is_outside: summary.as_ref().is_some_and(|it| is_outside(it, wanted)),
        }))
    }

    /// Hands all messages that are there to the visitor.
    pub(super) fn read<V: Visitor + ?Sized>(
        &mut self,
        gaps: &mut Gaps,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        if self.is_outside {
            gaps.pass_over();
            return Ok(());
        }
        let Self { scan, reader, .. } = self;
        reader.read_on(scan, &self.path, gaps, visitor)
    }

    /// Makes later data visible.
    pub(super) fn refresh(&mut self) -> Result<(), Error> {
        let extent = self.bound.extent();
        self.is_bounded = matches!(extent, ReadableExtent::Synced(_));
        self.is_growing = match extent {
            ReadableExtent::All => {
                // Check before: everything that was written before the file was sealed is visible then.
                let is_copied = is_recent(self.scan.input()) && self.path.exists();
                is_written(&self.path) || is_copied
            }
            ReadableExtent::Synced(_) => true,
            ReadableExtent::Void(len) => {
                self.reader.confirmed_len = len;
                false
            }
        };
        self.scan.limit(match extent {
            ReadableExtent::Synced(len) => len,
            ReadableExtent::All | ReadableExtent::Void(_) => u64::MAX,
        });
        self.scan.refresh(self.is_growing)
    }

    /// Whether all messages were read before, according to the summary.
    pub(super) fn was_read(&self) -> bool {
        self.stated.is_some_and(|all| all <= self.reader.skip)
    }

    pub(super) fn is_done(&self) -> bool {
        !self.is_growing || self.scan.has_ended() || self.is_outside
    }

    /// Whether more of the file may become durable, so that later files must wait.
    pub(super) fn is_held(&self) -> bool {
        self.is_bounded && !self.is_done()
    }

    /// How far it was read.
    pub(super) fn progress(&self) -> Progress {
        let is_done = self.is_done();
        // Chunks that are not wanted were not read.
        let all = self.stated.filter(|_| is_done && self.is_sealed);
        Progress {
            messages: all.unwrap_or(self.reader.messages),
            offset: self.scan.offset(),
            inode: self.inode,
            len: self.scan.input().len(),
            is_done,
            is_sealed: self.is_sealed,
            was_part: is_part(&self.path),
            number: number(&self.path),
        }
    }
}

/// The number of a file, if it has the name of a file of a recording.
pub(super) fn number(path: &Path) -> Option<u64> {
    filename::number(path.file_name()?.to_str()?)
}

/// Whether a file has the name of an unsealed file.
pub(super) fn is_part(path: &Path) -> bool {
    filename::sealed_name(path, filename::PART).is_some()
}

/// Device and inode of a file.
fn inode(input: &WindowedFile) -> Option<(u64, u64)> {
    let metadata = input.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether a file was changed a moment ago.
fn is_recent(input: &WindowedFile) -> bool {
    let modified = input.metadata().ok().and_then(|it| it.modified().ok());
    modified.is_some_and(|at| {
        SystemTime::now()
            .duration_since(at)
            .is_ok_and(|age| age < SETTLED)
    })
}
