//! The formats and source locations of one firmware image, from its ELF file: [`Firmware::open`].

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use defmt_decoder::{Encoding, Locations, Table};
use object::{Object as _, ObjectSection as _, ReadCache, ReadRef};

use crate::payload::defmt::build_id::BuildId;
use crate::payload::defmt::error::DefmtError;
use crate::payload::defmt::formats::Formats;
use crate::payload::defmt::rzcobs;

/// Maximum length of an ELF file. It is in memory while its formats are read.
const ELF_MAX: u64 = 256 << 20;
/// Bytes of an ELF file that are read to find its build id.
const SUMMARY_MAX: u64 = 64 << 20;

/// The data to show the log of one build.
pub(super) struct Firmware {
    pub(super) path: PathBuf,
    pub(super) formats: Formats,
    pub(super) locations: Locations,
    /// How frames are encoded.
    pub(super) encoding: Encoding,
    /// The id that the linker made; the firmware has it in flash.
    pub(super) build: Option<BuildId>,
    /// Distinguishes files without a build id.
    pub(super) digest: u64,
}

impl Firmware {
    /// Reads an ELF file.
    ///
    /// # Errors
    /// If it cannot be read, or has no formats.
    pub(super) fn open(path: &Path) -> Result<Self, DefmtError> {
        let elf = read_file(path).map_err(|error| DefmtError::File {
            path: path.into(),
            error,
        })?;
        let no_formats = |reason| DefmtError::NoFormats {
            path: path.into(),
            reason,
        };
        let (table, locations, build) = guarded(|| parse(&elf)).map_err(no_formats)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&elf);
        Ok(Self {
            path: path.into(),
            formats: Formats::of(&table).map_err(no_formats)?,
            locations,
            encoding: table.encoding(),
            build,
            digest: hasher.finish(),
        })
    }

    /// Whether a message only separates frames.
    pub(super) fn separates(&self, message: &[u8]) -> bool {
        self.encoding == Encoding::Rzcobs && rzcobs::trim(message).is_empty()
    }

    /// An image without any format, for tests.
    #[cfg(test)]
    pub(super) fn without_formats() -> Self {
        Self {
            path: PathBuf::new(),
            formats: Formats::default(),
            locations: Locations::new(),
            encoding: Encoding::Raw,
            build: None,
            digest: 0,
        }
    }
}

impl fmt::Debug for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firmware")
            .field("path", &self.path)
            .field("build", &self.build)
            .finish_non_exhaustive()
    }
}

/// The build id of an ELF file with a section `.defmt`, if the linker made one. Reads little of the file.
///
/// # Errors
/// If the file cannot be read, or is not such an ELF file.
pub(super) fn build_of(path: &Path) -> Result<Option<BuildId>, String> {
    let file = open_file(path).map_err(|error| error.to_string())?;
    let left = SUMMARY_MAX;
    let cache = ReadCache::new(Limited { file, left });
    guarded(|| {
        let elf = object::File::parse(&cache).map_err(|error| error.to_string())?;
        let is_defmt = |name: &str| name == ".defmt" || name.starts_with(".defmt.");
        let mut sections = elf.sections();
        if !sections.any(|section| section.name().is_ok_and(is_defmt)) {
            return Err("it has no section .defmt".to_owned());
        }
        Ok(build_id(&elf))
    })
}

type Parsed = (Table, Locations, Option<BuildId>);

fn parse(elf: &[u8]) -> Result<Parsed, String> {
    let table = Table::parse(elf).map_err(|error| error.to_string())?;
    let table = table.ok_or("it has no section .defmt")?;
    // A stripped ELF file can be used too, without source locations.
    let locations = table.get_locations(elf).unwrap_or_default();
    let build = object::File::parse(elf).ok().and_then(|elf| build_id(&elf));
    Ok((table, locations, build))
}

fn build_id<'e, R: ReadRef<'e>>(elf: &object::File<'e, R>) -> Option<BuildId> {
    if let Ok(Some(id)) = elf.build_id() {
        return BuildId::new(id);
    }
    // A section that a tool has copied need not have the type of a note.
    let section = elf.section_by_name(".note.gnu.build-id")?;
    BuildId::of_message(section.data().ok()?)
}

/// Calls a function that parses a file. The libraries may panic if it is damaged.
fn guarded<T>(parse: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let parsed = catch_unwind(AssertUnwindSafe(parse));
    parsed.unwrap_or_else(|_| Err("it is damaged".to_owned()))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut elf = Vec::new();
    open_file(path)?.take(ELF_MAX + 1).read_to_end(&mut elf)?;
    match elf.len() as u64 <= ELF_MAX {
        true => Ok(elf),
        false => Err(io::Error::other(format!(
            "it is longer than {} MiB; `objcopy --strip-debug` makes it shorter, without files and lines",
            ELF_MAX >> 20
        ))),
    }
}

/// Opens a regular file. A device or a pipe may never end, and opening one may wait or have an effect.
fn open_file(path: &Path) -> io::Result<File> {
    let check = |kind: fs::FileType| match kind.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is not a regular file")),
    };
    check(fs::metadata(path)?.file_type())?;
    // Another file may have taken its place.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    check(file.metadata()?.file_type())?;
    Ok(file)
}

/// A file of which only a part is read. A damaged ELF file may name one part many times.
struct Limited {
    file: File,
    left: u64,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(buffer)?;
        self.left = self
            .left
            .checked_sub(len as u64)
            .ok_or_else(|| io::Error::other("it has too many parts"))?;
        Ok(len)
    }
}

impl Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
