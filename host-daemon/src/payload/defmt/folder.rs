//! The ELF files in a directory, found by their build ids: [`Folder::choose`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::payload::defmt::build_id::BuildId;
use crate::payload::defmt::error::Cause;
use crate::payload::defmt::firmware::{self, Firmware};

/// Maximum number of files that are looked at.
const FILES_MAX: usize = 4_096;
/// Maximum number of images whose formats are in memory.
const LOADED_MAX: usize = 32;
/// Least time between two looks at a directory whose own time is unchanged: a file may have been overwritten.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Least time between two looks at a directory that has changed.
const LOOK_AGAIN_CHANGED: Duration = Duration::from_millis(100);
/// Maximum number of files that one warning names.
const NAMED_MAX: usize = 3;

/// A directory of ELF files. Its subdirectories, and files whose names begin with a dot, are not looked at.
pub(super) struct Folder {
    path: PathBuf,
    files: Mutex<Files>,
}

/// The known state of the directory.
#[derive(Default)]
struct Files {
    files: BTreeMap<OsString, KnownFile>,
    /// Formats in memory; those chosen last are at the end.
    loaded: Vec<Loaded>,
    last_look: Option<Look>,
    /// The directory could not be read at the last look.
    is_unreadable: bool,
}

/// When the directory was looked at, and its own time of change then.
struct Look {
    at: Instant,
    changed: Option<SystemTime>,
}

struct KnownFile {
    stamp: Stamp,
    content: ElfContent,
}

enum ElfContent {
    /// An ELF file with formats, and its build id.
    Formats(Option<BuildId>),
    Ignored,
}

struct Loaded {
    name: OsString,
    stamp: Stamp,
    firmware: Arc<Firmware>,
}

/// Changes when a file is replaced or overwritten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    changed: (i64, i64),
    inode: (u64, u64),
    len: u64,
}

impl Folder {
    /// The directory at `path`. Its files are looked at when they are needed.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::read_dir(path)?;
        Ok(Self {
            path: path.into(),
            files: Mutex::default(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The formats of the build that a firmware has sent the id of. Without an id, those of the only build in the
    /// directory. Looks at the directory if that is needed, and reads the ELF file.
    pub(super) fn choose(&self, sent: Option<&BuildId>) -> Result<Arc<Firmware>, Cause<'static>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = sent
            && let Some(firmware) = files.loaded_build(sent)
        {
            return Ok(firmware);
        }
        // The id of a file that is known finds it without a look. That there is only one file is to be checked.
        let mut found = sent.and_then(|_| files.find(sent));
        if found.is_none() {
            files.look(&self.path);
            found = files.find(sent);
        }
        while let Some(name) = found {
            match files.load(&self.path, &name, sent) {
                Ok(firmware) => return Ok(firmware),
                Err(Some(cause)) => return Err(cause),
                // It is ignored now; there may be a copy.
                Err(None) => found = files.find(sent),
            }
        }
        Err(Cause::Among(files.builds().len()))
    }

    /// Looks at the directory, if it has not been looked at yet. Returns the number of builds.
    pub(super) fn count(&self) -> usize {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.look(&self.path);
        files.builds().len()
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Files {
    /// The formats of a build, if they are in memory. Its file may be of another build by now.
    fn loaded_build(&mut self, sent: &BuildId) -> Option<Arc<Firmware>> {
        let is_wanted = |it: &Loaded| it.firmware.build.as_ref() == Some(sent);
        let at = self.loaded.iter().position(is_wanted)?;
        Some(self.use_loaded(at))
    }

    fn use_loaded(&mut self, at: usize) -> Arc<Firmware> {
        let loaded = self.loaded.remove(at);
        let firmware = Arc::clone(&loaded.firmware);
        self.loaded.push(loaded);
        firmware
    }

    /// The newest file of a build, or of the only build.
    fn find(&self, sent: Option<&BuildId>) -> Option<OsString> {
        if sent.is_none() && self.builds().len() != 1 {
            return None;
        }
        let files = self.files.iter().filter(|(_, file)| match &file.content {
            ElfContent::Formats(build) => sent.is_none() || build.as_ref() == sent,
            ElfContent::Ignored => false,
        });
        let newest = files.max_by_key(|(_, file)| file.stamp);
        newest.map(|(name, _)| name.clone())
    }

    /// The different builds. A file without a build id is one.
    fn builds(&self) -> BTreeSet<Result<&BuildId, &OsStr>> {
        let files = self.files.iter();
        files
            .filter_map(|(name, file)| match &file.content {
                ElfContent::Formats(build) => Some(build.as_ref().ok_or(name.as_os_str())),
                ElfContent::Ignored => None,
            })
            .collect()
    }

    /// Loads a file. Without a cause in the error, the file was replaced or is invalid, and is ignored until it
    /// changes.
    fn load(
        &mut self,
        folder: &Path,
        name: &OsStr,
        sent: Option<&BuildId>,
    ) -> Result<Arc<Firmware>, Option<Cause<'static>>> {
        let file = self.files.get_mut(name).ok_or(None)?;
        let stamp = file.stamp;
        let is_it = |it: &Loaded| it.name == name && it.stamp == stamp;
        if let Some(at) = self.loaded.iter().position(is_it) {
            return Ok(self.use_loaded(at));
        }
        if LOADED_MAX <= self.loaded.len() {
            let is_unused = |it: &Loaded| Arc::strong_count(&it.firmware) == 1;
            let unused = self.loaded.iter().position(is_unused);
            self.loaded
                .remove(unused.ok_or(Cause::TooMany(LOADED_MAX))?);
        }
        let path = folder.join(name);
        let reason = match Firmware::open(&path) {
            Ok(firmware) if sent.is_none() || firmware.build.as_ref() == sent => {
                let firmware = Arc::new(firmware);
                self.loaded.push(Loaded {
                    name: name.to_owned(),
                    stamp,
                    firmware: Arc::clone(&firmware),
                });
                return Ok(firmware);
            }
            Ok(_) => format!("{path:?} was replaced while it was read"),
            Err(error) => error.to_string(),
        };
        file.content = ElfContent::Ignored;
        tracing::warn!("{reason}; it is ignored until it changes");
        Err(None)
    }

    /// Looks at the directory, unless that was done a moment ago. Reads only files that have changed.
    fn look(&mut self, folder: &Path) {
        let changed = fs::metadata(folder).and_then(|it| it.modified()).ok();
        if let Some(last) = &self.last_look {
            let least = match changed == last.changed {
                true => LOOK_AGAIN,
                false => LOOK_AGAIN_CHANGED,
            };
            if last.at.elapsed() < least {
                return;
            }
        }
        let listed = list(folder);
        if let Err(error) = &listed
            && !self.is_unreadable
        {
            tracing::warn!("cannot read {folder:?}: {error}; the files known so far are used");
        }
        self.is_unreadable = listed.is_err();
        if let Ok(listed) = listed {
            self.take(folder, listed);
        }
        let at = Instant::now();
        self.last_look = Some(Look { at, changed });
    }

    fn take(&mut self, folder: &Path, listed: Vec<(OsString, Stamp)>) {
        let mut before = std::mem::take(&mut self.files);
        let (mut ignored, mut without_id) = (Vec::new(), Vec::new());
        for (name, stamp) in listed {
            let known = before.remove(&name).filter(|file| file.stamp == stamp);
            let known = known.unwrap_or_else(|| {
                let content = match firmware::build_of(&folder.join(&name)) {
                    Ok(build) => {
                        if build.is_none() {
                            without_id.push(name.clone());
                        }
                        ElfContent::Formats(build)
                    }
                    Err(_) => {
                        ignored.push(name.clone());
                        ElfContent::Ignored
                    }
                };
                KnownFile { stamp, content }
            });
            self.files.insert(name, known);
        }
        if !ignored.is_empty() {
            let names = named(&ignored);
            tracing::warn!("not ELF files with defmt formats, so ignored, in {folder:?}: {names}");
        }
        if !without_id.is_empty() {
            let names = named(&without_id);
            tracing::warn!(
                "without a build id, so used only if the firmware sends none and no other file is there, in \
                 {folder:?}: {names}; link with --build-id"
            );
        }
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            changed: (file.mtime(), file.mtime_nsec()),
            inode: (file.dev(), file.ino()),
            len: file.len(),
        }
    }
}

/// The files of a directory. Links are followed.
fn list(folder: &Path) -> io::Result<Vec<(OsString, Stamp)>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        // A link that leads nowhere, or a file that was just removed.
        let Ok(file) = fs::metadata(folder.join(&name)) else {
            continue;
        };
        if !file.is_dir() {
            listed.push((name, Stamp::of(&file)));
        }
    }
    listed.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    if FILES_MAX < listed.len() {
        let len = listed.len();
        tracing::warn!("{folder:?} has {len} files; the first {FILES_MAX} by name are used");
        listed.truncate(FILES_MAX);
    }
    Ok(listed)
}

/// The first of these names, on one line, and the number of the others.
fn named(names: &[OsString]) -> String {
    let first: Vec<_> = names
        .iter()
        .take(NAMED_MAX)
        .map(|it| format!("{it:?}"))
        .collect();
    let more = match names.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", first.join(", "))
}
