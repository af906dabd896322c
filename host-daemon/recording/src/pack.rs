//! Packs sealed files of slow senders: [`Packer`] rewrites a file of many short chunks with a few long ones.
//!
//! Every commit ends a chunk, so that its messages are durable. If each commit has few messages, headers and indexes take most
//! of the file, and short chunks compress badly. A packed file holds the same messages, in the same order, under the same
//! name.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mcap::records::{Record, op};

use crate::error::Error;
use crate::format::chunk::Chunk;
use crate::format::filename::{self, NEW, SEALED, Suffix};
use crate::format::nonce::{self, FileNonce};
use crate::format::origin::{self, Origins};
use crate::format::private;
use crate::read::scan::{Found, Scan};
use crate::read::summary::Summary;
use crate::read::window::WindowedFile;
use crate::write::channel::{ChannelSpec, SchemaSpec};
use crate::write::compress::{ChunkEnd, Compression};
use crate::write::report::LogReport;
use crate::write::retry::LogContext;
use crate::write::segment::SegmentWriter;

/// Length of a packed chunk before compression, in bytes: the same as that of a full chunk of a log.
const CHUNK_LEN: usize = 512 << 10;
/// A file is packed if the average length of its chunks before compression is below this, in bytes.
const SHORT_LEN: u64 = CHUNK_LEN as u64 / 8;
/// A file is packed if it has at least this many chunks.
const CHUNKS_MIN: usize = 4;

/// Packs files one after another, on a dedicated thread.
#[derive(Debug)]
pub struct Packer {
    names: mpsc::Sender<String>,
    /// Begin no other file, and leave the current one unchanged.
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The result of packing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// The file is packed.
    Done {
        /// Its length before, in bytes.
        before: u64,
        /// Its length now, in bytes.
        after: u64,
    },
    /// The file is unchanged: its chunks are long, it is damaged, or it has records that a packed file cannot hold.
    Unchanged,
    /// The file is unchanged, because the packer was stopped.
    Stopped,
}

impl Packer {
    /// Starts the thread. It packs the newest sealed file in the folder, then each file that the log of this context seals.
    /// Without compression it packs nothing.
    #[must_use]
    pub fn start(context: &Arc<LogContext>, compression: Compression) -> Self {
        let (names, queue) = mpsc::channel();
        let stop = Arc::<AtomicBool>::default();
        let of_log = names.clone();
        context.on_sealed(move |name| {
            // If the thread has ended, the next start packs the file.
            let _ = of_log.send(name.to_owned());
        });
        let thread = {
            let (context, stop) = (Arc::clone(context), Arc::clone(&stop));
            std::thread::spawn(move || run(&context, compression, &queue, &stop))
        };
        Self {
            names,
            stop,
            thread,
        }
    }

    /// Waits until all sealed files are packed, for at most this time, then stops the thread. The next start packs the
    /// newest file if it is still unpacked.
    pub fn finish(self, at_most: Duration) {
        // The context keeps a sender, so the channel stays open. An empty name ends the thread.
        let _ = self.names.send(String::new());
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < at_most {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn run(
    context: &LogContext,
    compression: Compression,
    names: &mpsc::Receiver<String>,
    stop: &AtomicBool,
) {
    if compression == Compression::None {
        return;
    }
    let last = clean(context.path());
    for name in last.into_iter().chain(names) {
        if name.is_empty() || stop.load(Ordering::Relaxed) {
            return;
        }
        let should_stop = || stop.load(Ordering::Relaxed) || context.has_given_up();
        match pack(context, &name, compression, &should_stop) {
            Ok(Packed::Done { before, after }) => context.stats.packed(before, after),
            Ok(Packed::Unchanged | Packed::Stopped) => {}
            Err(error) => context.report(&LogReport::PackingFailed {
                file: &name,
                error: &error,
            }),
        }
    }
}

/// Removes the files that an interrupted packing has left. Returns the name of the newest sealed file.
fn clean(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let files = entries.filter(|it| it.file_type().is_ok_and(|it| it.is_file()));
    let names: Vec<String> = files
        .filter_map(|it| it.file_name().into_string().ok())
        .collect();
    for name in &names {
        // A `.new` file without a sealed original may belong to an interrupted repair, and the next repair replaces it.
        let is_left = filename::suffix(name) == Some(Suffix::New)
            && names.iter().any(|it| name.strip_prefix(it) == Some(".new"));
        if is_left {
            let _ = fs::remove_file(folder.join(name));
        }
    }
    let sealed = names.into_iter().filter(|name| filename::is_sealed(name));
    sealed.max_by_key(|name| filename::number(name))
}

/// Packs a sealed file of the folder.
///
/// # Errors
/// [`Error::Read`], [`Error::Write`]; the file is then unchanged.
fn pack(
    context: &LogContext,
    name: &str,
    compression: Compression,
    should_stop: &dyn Fn() -> bool,
) -> Result<Packed, Error> {
    let path = context.path().join(name);
    let mut input = match WindowedFile::open(&path) {
        // Retention or a user has deleted it.
        Err(error) if error.is_not_found() => return Ok(Packed::Unchanged),
        input => input?,
    };
    let Some(summary) = Summary::of_sealed(&mut input, false)? else {
        return Ok(Packed::Unchanged);
    };
    let chunks = summary.chunks.len();
    if chunks < CHUNKS_MIN || SHORT_LEN <= summary.uncompressed_len / chunks as u64 {
        return Ok(Packed::Unchanged);
    }
    if !context.reserve_copy(name, input.len()) {
        // There is no room for the copy.
        return Ok(Packed::Unchanged);
    }
    let to = path.with_extension(format!("{SEALED}.{NEW}"));
    let copy = Copy::create(&to, compression, input.len());
    let packed = copy.and_then(|copy| {
        let packed = replace(context, name, copy, input, &summary, should_stop);
        if !matches!(packed, Ok(Packed::Done { .. })) {
            let _ = fs::remove_file(&to);
        }
        packed
    });
    context.release_copy();
    packed
}

/// Copies a file, and replaces it by the copy. If that fails, the copy remains and the file is unchanged.
fn replace(
    context: &LogContext,
    name: &str,
    copy: Copy,
    input: WindowedFile,
    summary: &Summary,
    should_stop: &dyn Fn() -> bool,
) -> Result<Packed, Error> {
    let (path, to, before) = (context.path().join(name), copy.path.clone(), input.len());
    let identity = |file: &fs::Metadata| (file.dev(), file.ino(), file.len());
    let original = identity(&input.metadata()?);
    let scan = Scan::new(input, Some(summary), false);
    let after = match copy.all(scan, before, should_stop)? {
        Packed::Done { after, .. } => after,
        not_packed => return Ok(not_packed),
    };
    // The summaries must count the same messages.
    let counts = |summary: &Summary| {
        let statistics = summary.statistics.as_ref();
        statistics.map(|it| (it.message_count, it.channel_message_counts.clone()))
    };
    let written = Summary::read(&mut WindowedFile::open(&to)?)?;
    let is_same = written.is_ok_and(|written| counts(&written) == counts(summary));
    if !is_same || before <= after {
        return Ok(Packed::Unchanged);
    }
    let write = |error| Error::write(&path, error);
    let is_placed = context.with_names(|| {
        // Do not restore an original that was deleted or replaced meanwhile, for example by retention.
        match fs::symlink_metadata(&path) {
            Ok(file) if identity(&file) == original => fs::rename(&to, &path).map(|()| true),
            _ => Ok(false),
        }
    });
    if !is_placed.map_err(write)? {
        return Ok(Packed::Unchanged);
    }
    let synced = context.sync_folder();
    synced.map_err(|error| Error::write(context.path(), error))?;
    Ok(Packed::Done { before, after })
}

/// A packed file that is being written.
struct Copy {
    path: PathBuf,
    file: File,
    compression: Compression,
    segment: Option<SegmentWriter>,
    schemas: HashMap<u16, SchemaSpec>,
    /// Channels that are defined. They keep their numbers.
    channels: HashSet<u16>,
    origins: Origins,
    len: u64,
    /// Largest length, in bytes.
    max: u64,
    /// The copy would be longer, and is not written on.
    is_too_long: bool,
}

impl Copy {
    fn create(path: &Path, compression: Compression, max: u64) -> Result<Self, Error> {
        let file = File::options().write(true).create_new(true).open(path);
        Ok(Self {
            file: file.map_err(|error| Error::write(path, error))?,
            path: path.into(),
            compression,
            segment: None,
            schemas: HashMap::new(),
            channels: HashSet::new(),
            origins: Origins::default(),
            len: 0,
            max,
            is_too_long: false,
        })
    }

    /// Copies and syncs all messages of a file of `before` bytes.
    fn all(
        mut self,
        mut scan: Scan,
        before: u64,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Packed, Error> {
        while let Some(found) = scan.advance()? {
            if should_stop() {
                return Ok(Packed::Stopped);
            }
            let is_copied = match found {
                Found::Header(header) => self.begin(FileNonce::of_library(&header.library)),
                Found::Chunk(chunk) => self.chunk(&chunk)?,
                Found::Record { raw, .. } => matches!(raw.opcode, op::MESSAGE_INDEX | op::DATA_END),
                Found::Lost(_) => false,
            };
            if !is_copied || self.is_too_long {
                return Ok(Packed::Unchanged);
            }
        }
        let Some(mut segment) = self.segment.take() else {
            return Ok(Packed::Unchanged);
        };
        self.end_chunk(&mut segment)?;
        segment.finish();
        self.write(&mut segment)?;
        if self.is_too_long {
            return Ok(Packed::Unchanged);
        }
        let synced = self.file.sync_all();
        synced.map_err(|error| Error::write(&self.path, error))?;
        let after = self.len;
        Ok(Packed::Done { before, after })
    }

    /// Begins the file with the nonce of the original. Returns false if the original has none.
    fn begin(&mut self, nonce: Option<FileNonce>) -> bool {
        self.segment = nonce.map(|nonce| SegmentWriter::with_nonce(nonce, self.compression));
        self.segment.is_some()
    }

    /// Copies the messages of a chunk. Returns false if a record cannot be copied.
    fn chunk(&mut self, chunk: &Chunk<'_>) -> Result<bool, Error> {
        let Some(mut segment) = self.segment.take() else {
            return Ok(false);
        };
        self.origins.begin_chunk(chunk.records);
        for (_, raw) in chunk.records() {
            let is_copied = match raw.opcode {
                op::MESSAGE => {
                    let message = raw.message();
                    message.is_some_and(|(header, data)| {
                        let channel = header.channel_id;
                        if !self.channels.contains(&channel) {
                            return false;
                        }
                        let (sequence, time) = (header.sequence, header.log_time);
                        let added = segment.messages(
                            channel,
                            self.origins.message(channel),
                            sequence,
                            time,
                            &mut std::iter::once(data),
                            CHUNK_LEN,
                        );
                        added == 1 && header.publish_time == time
                    })
                }
                op::SCHEMA | op::CHANNEL => self.define(&mut segment, raw.parse()),
                // The copy gets its own.
                nonce::OPCODE => true,
                origin::OPCODE => self.origins.record(&raw),
                // The file is sealed, so all of it is synced.
                private::SYNCED => true,
                // A repair of earlier files needs the records about them where they are.
                _ => false,
            };
            if !is_copied {
                return Ok(false);
            }
            if CHUNK_LEN <= segment.chunk_len() {
                self.end_chunk(&mut segment)?;
            }
        }
        self.segment = Some(segment);
        Ok(true)
    }

    fn define(&mut self, segment: &mut SegmentWriter, record: Option<Record<'_>>) -> bool {
        match record {
            Some(Record::Schema { header, data }) => {
                let schema = SchemaSpec {
                    name: header.name,
                    encoding: header.encoding,
                    data: data.into_owned(),
                };
                self.schemas.insert(header.id, schema);
                true
            }
            Some(Record::Channel(channel)) => {
                let schema = self.schemas.get(&channel.schema_id).cloned();
                if channel.schema_id != 0 && schema.is_none() {
                    return false;
                }
                let spec = ChannelSpec {
                    topic: channel.topic,
                    encoding: channel.message_encoding,
                    schema,
                    metadata: channel.metadata,
                    is_counted: false,
                };
                // Refuse equal descriptions under two numbers: the copy would merge them.
                match segment.channel(&spec) {
                    Ok(id) => id == channel.id && self.channels.insert(id),
                    Err(_) => false,
                }
            }
            _ => false,
        }
    }

    fn end_chunk(&mut self, segment: &mut SegmentWriter) -> Result<(), Error> {
        let ended = segment.end_chunk(ChunkEnd::Commit);
        ended.map_err(|error| Error::write(&self.path, error))?;
        self.write(segment)
    }

    fn write(&mut self, segment: &mut SegmentWriter) -> Result<(), Error> {
        let ready = segment.ready();
        let len = ready.len();
        self.is_too_long |= self.max < self.len + len as u64;
        if !self.is_too_long {
            let written = self.file.write_all(ready);
            written.map_err(|error: io::Error| Error::write(&self.path, error))?;
        }
        segment.written(len);
        self.len += len as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tempfile::TempDir;

    use super::*;
    use crate::write::channel::Channel;
    use crate::write::log::Log;
    use crate::write::options::LogOptions;
    use crate::write::retention::Retention;

    /// A folder with a sealed file of many short chunks.
    fn recording() -> (TempDir, LogContext, String) {
        let folder = TempDir::new().unwrap();
        let mut log = Log::open(folder.path(), LogOptions::default()).unwrap();
        let mut channel = Channel::default();
        for sequence in 0..100 {
            let channel = log.channel(&mut channel, ChannelSpec::default).unwrap();
            log.append(channel, sequence, 1, b"reading").unwrap();
            log.commit().unwrap();
        }
        log.finish().unwrap();
        let context = LogContext::open(folder.path(), Arc::default(), Retention::new(None));
        let name = clean(folder.path()).unwrap();
        (folder, context.unwrap(), name)
    }

    fn files(folder: &TempDir) -> Vec<String> {
        let names = fs::read_dir(folder.path()).unwrap();
        let names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != filename::LOCK).collect()
    }

    #[test]
    fn a_file_that_is_deleted_or_replaced_meanwhile_is_not_restored() {
        for replacement in [None, Some("another file")] {
            let (folder, context, name) = recording();
            let path = folder.path().join(&name);
            let calls = Cell::new(0);
            let interfere = || {
                calls.set(calls.get() + 1);
                if calls.get() == 50 {
                    fs::remove_file(&path).unwrap();
                    if let Some(text) = replacement {
                        fs::write(&path, text).unwrap();
                    }
                }
                false
            };
            let packed = pack(&context, &name, Compression::Auto, &interfere).unwrap();
            assert_eq!(packed, Packed::Unchanged);
            assert!(50 < calls.get());
            let left = replacement.map(|_| name.clone());
            assert_eq!(files(&folder), Vec::from_iter(left));
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), replacement);
        }
    }

    #[test]
    fn packing_that_is_stopped_at_any_record_leaves_the_file_unchanged() {
        let (folder, context, name) = recording();
        let before = fs::read(folder.path().join(&name)).unwrap();
        for most in 0.. {
            let calls = Cell::new(0);
            let stop = || {
                calls.set(calls.get() + 1);
                most < calls.get()
            };
            let packed = pack(&context, &name, Compression::Auto, &stop).unwrap();
            let now = fs::read(folder.path().join(&name)).unwrap();
            assert_eq!(files(&folder), std::slice::from_ref(&name));
            if let Packed::Done { before: was, after } = packed {
                assert_eq!((was, after), (before.len() as u64, now.len() as u64));
                assert!(100 < most && after < was);
                break;
            }
            assert_eq!(packed, Packed::Stopped);
            assert!(now == before, "{most}");
        }
    }
}
