//! defmt log frames, shown with the format strings of the firmware's ELF file. [`Defmt::open`] reads that file.

mod formats;
mod frame;
mod hint;

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use defmt_decoder::{Locations, Table};
use object::{Object as _, ObjectSection as _};

use self::formats::{Formats, TableEntry};
use self::frame::{Reader, reason, take_array};
use crate::payload::{DecodeError, Meaning};

/// The section in which linkers put the build id, as a note with a header.
const BUILD_SECTION: &str = ".note.gnu.build-id";
/// The header of a GNU note of type 3 with 20 bytes, on a little-endian machine. This is the default of `--build-id`.
const NOTE_HEADER: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";

/// The formats and source locations of a firmware's log, from its ELF file.
pub struct Defmt {
    path: PathBuf,
    formats: Formats,
    locations: Locations,
    /// The section with the build id, which the firmware has in flash; empty if the linker made none.
    build: Vec<u8>,
}

/// A line of a firmware's log, from a complete frame. The text is written on demand.
#[derive(Clone, Copy)]
pub struct LogFrame<'a> {
    firmware: &'a Defmt,
    index: u16,
    entry: &'a TableEntry,
    len: usize,
    /// Arguments of the time.
    time: &'a [u8],
    /// Arguments of the statement.
    arguments: &'a [u8],
}

/// Why a decoding cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefmtError {
    /// No decoding has this name.
    #[error("unknown decoding; the decodings are raw, text, json, cbor and defmt:PATH.elf")]
    Unknown,
    /// The ELF file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// The file is not an ELF file, or has no defmt formats.
    #[error("{} has no defmt formats: {reason}", path.display())]
    NoFormats {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl Defmt {
    /// Whether both were read from the same path, and have the same build id.
    pub(super) fn is_same_build(&self, other: &Self) -> bool {
        (&self.path, &self.build) == (&other.path, &other.build)
    }

    /// Reads an ELF file.
    ///
    /// # Errors
    /// If it cannot be read, or has no formats.
    pub fn open(path: &Path) -> Result<Self, DefmtError> {
        let elf = read_file(path).map_err(|error| DefmtError::File {
            path: path.into(),
            error,
        })?;
        let no_formats = |reason| DefmtError::NoFormats {
            path: path.into(),
            reason,
        };
        // The libraries that parse the file may panic if it is damaged.
        let found = catch_unwind(|| Self::find(&elf));
        let found = found.unwrap_or_else(|_| Err("it is damaged".to_owned()));
        let (formats, locations) = found.map_err(no_formats)?;
        let build = object::File::parse(&*elf).ok().and_then(|elf| {
            let section = elf.section_by_name(BUILD_SECTION)?;
            section.data().ok().map(<[u8]>::to_vec)
        });
        Ok(Self {
            path: path.into(),
            formats,
            locations,
            build: build.unwrap_or_default(),
        })
    }

    /// Data without any format, for tests.
    #[cfg(test)]
    pub(crate) fn without_formats() -> Self {
        Self {
            path: PathBuf::new(),
            formats: Formats::default(),
            locations: Locations::new(),
            build: Vec::new(),
        }
    }

    fn find(elf: &[u8]) -> Result<(Formats, Locations), String> {
        let table = Table::parse(elf).map_err(|error| error.to_string())?;
        let table = table.ok_or("it has no section .defmt")?;
        // A stripped ELF file can be used too, without source locations.
        let locations = table.get_locations(elf).unwrap_or_default();
        Ok((Formats::of(&table)?, locations))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read_build<'a>(&self, bytes: &[u8]) -> Meaning<'a> {
        Meaning::Build {
            id: build_id(bytes),
            known: !bytes.is_empty() && bytes == self.build,
        }
    }

    /// Length of the longest format string.
    pub(super) const fn longest_format(&self) -> usize {
        self.formats.longest
    }

    /// Reads a message that is one frame.
    pub(super) fn read<'a>(&'a self, bytes: &'a [u8]) -> Result<LogFrame<'a>, DecodeError> {
        let mut rest = bytes;
        let index = u16::from_le_bytes(take_array(&mut rest)?);
        let mut nothing = Nothing;
        let mut reader = Reader::new(&self.formats, bytes.len(), &mut nothing);
        let time = rest;
        if let Some(entry) = &self.formats.timestamp {
            reader.pass(entry.whole.as_ref(), &mut rest)?;
        }
        let entry = self.formats.get(index);
        let entry = entry.ok_or_else(|| reason("it refers to a format that the ELF file lacks"))?;
        let arguments = rest;
        reader.pass(entry.whole.as_ref(), &mut rest)?;
        if !rest.is_empty() {
            return Err(DecodeError::Invalid(format!(
                "trailing bytes after the frame: {}",
                rest.len()
            )));
        }
        Ok(LogFrame {
            firmware: self,
            index,
            entry,
            len: bytes.len(),
            time,
            arguments,
        })
    }
}

impl LogFrame<'_> {
    /// `trace` to `error`; `None` for a plain print.
    #[must_use]
    pub const fn level(&self) -> Option<&'static str> {
        self.entry.level
    }

    /// Whether the frame has a timestamp of the firmware.
    #[must_use]
    pub const fn has_time(&self) -> bool {
        self.firmware.formats.timestamp.is_some()
    }

    /// Writes the firmware's timestamp.
    ///
    /// # Errors
    /// Like [`Self::write_message`].
    pub fn write_time(&self, to: &mut dyn fmt::Write) -> Result<(), DecodeError> {
        match &self.firmware.formats.timestamp {
            Some(entry) => self.write(entry, self.time, to),
            None => Ok(()),
        }
    }

    /// Writes the message, without escaping it.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] if `to` refuses more text, [`DecodeError::Invalid`] if the message takes more steps
    /// than its length allows. Part of it may have been written.
    pub fn write_message(&self, to: &mut dyn fmt::Write) -> Result<(), DecodeError> {
        self.write(self.entry, self.arguments, to)
    }

    fn write(
        &self,
        entry: &TableEntry,
        mut arguments: &[u8],
        to: &mut dyn fmt::Write,
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(&self.firmware.formats, self.len, to);
        reader.show(entry.whole.as_ref(), &mut arguments)
    }

    /// File and line of the statement, if the ELF file has them.
    #[must_use]
    pub fn location(&self) -> Option<impl fmt::Display> {
        let (file, line) = self.place()?;
        Some(fmt::from_fn(move |f| {
            write!(f, "{}:{line}", file.display())
        }))
    }

    /// The source file and line, if the ELF file has them.
    #[must_use]
    pub fn place(&self) -> Option<(&Path, u64)> {
        let place = self.firmware.locations.get(&self.index.into())?;
        Some((relative(&place.file), place.line))
    }
}

impl fmt::Debug for LogFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFrame")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Discards text.
struct Nothing;

impl fmt::Write for Nothing {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

impl fmt::Debug for Defmt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Defmt")
            .field("path", &self.path)
            .field("build", &build_id(&self.build))
            .finish_non_exhaustive()
    }
}

/// Reads a regular file. A device or a pipe may never end, and a foreign recording can name any path.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::other("it is not a regular file"));
    }
    fs::read(path)
}

/// A path relative to the current directory, if it is below that.
fn relative(path: &Path) -> &Path {
    static HERE: LazyLock<PathBuf> = LazyLock::new(|| std::env::current_dir().unwrap_or_default());
    path.strip_prefix(&*HERE).unwrap_or(path)
}

/// The id in a note, in hexadecimal; if it is not a note, all bytes.
fn build_id(note: &[u8]) -> String {
    let id = note.strip_prefix(NOTE_HEADER).unwrap_or(note);
    id.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
