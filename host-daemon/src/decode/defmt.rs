//! defmt log frames, read with the formats that the firmware's ELF file holds.

use std::fmt::{self, Write as _};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use defmt_decoder::{Locations, Table};
use object::{Object as _, ObjectSection as _};

use super::{Log, Meaning};

/// Where linkers put the build id: as a note, with a header in front.
const BUILD_SECTION: &str = ".note.gnu.build-id";
/// The header of a note of 20 bytes by GNU, of type 3: what `--build-id` makes unless told otherwise, on a machine
/// that is little-endian.
const NOTE_HEADER: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";

/// What an ELF file says about the log of its firmware.
pub struct Defmt {
    path: PathBuf,
    table: Table,
    locations: Locations,
    /// The section with the build id, which the firmware has in flash; empty where the linker made none.
    build: Vec<u8>,
}

/// Why a decoding cannot be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum DefmtError {
    /// No decoding has this name.
    Unknown,
    /// The ELF file cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is no ELF file, or one without defmt's formats.
    NoFormats {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Defmt {
    /// Reads an ELF file.
    ///
    /// # Errors
    /// Where it cannot be read, or has no formats.
    pub fn open(path: &Path) -> Result<Self, DefmtError> {
        let elf = std::fs::read(path).map_err(|error| DefmtError::File {
            path: path.into(),
            error,
        })?;
        let no_formats = |reason| DefmtError::NoFormats {
            path: path.into(),
            reason,
        };
        let table = Table::parse(&elf)
            .map_err(|error| no_formats(error.to_string()))?
            .ok_or_else(|| no_formats("it has no section .defmt".to_owned()))?;
        // An ELF file that was stripped still decodes, without places.
        let locations = table.get_locations(&elf).unwrap_or_default();
        let build = object::File::parse(&*elf).ok().and_then(|elf| {
            let section = elf.section_by_name(BUILD_SECTION)?;
            section.data().ok().map(<[u8]>::to_vec)
        });
        let build = build.unwrap_or_default();
        Ok(Self {
            path: path.into(),
            table,
            locations,
            build,
        })
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

    pub(super) fn read(&self, bytes: &[u8]) -> Result<Log, String> {
        // The decoder trusts that the frame is of this firmware, and panics on some that are not.
        catch_unwind(AssertUnwindSafe(|| self.decode(bytes)))
            .unwrap_or_else(|_| Err("it is of another firmware".to_owned()))
    }

    fn decode(&self, bytes: &[u8]) -> Result<Log, String> {
        let (frame, used) = self
            .table
            .decode(bytes)
            .map_err(|error| error.to_string())?;
        if used != bytes.len() {
            return Err(format!("{} bytes behind the frame", bytes.len() - used));
        }
        let location = self.locations.get(&frame.index());
        Ok(Log {
            level: frame.level().map(|level| level.as_str()),
            timestamp: frame.display_timestamp().map(|time| time.to_string()),
            message: frame.display_message().to_string(),
            location: location
                .map(|place| format!("{}:{}", near(&place.file).display(), place.line)),
        })
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

impl fmt::Display for DefmtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("no such decoding; there are raw, text, json, cbor, defmt:PATH.elf")
            }
            Self::File { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            Self::NoFormats { path, reason } => {
                write!(f, "{} has no formats of defmt: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for DefmtError {}

/// A path as it is seen from here, where it leads below.
fn near(path: &Path) -> &Path {
    static HERE: LazyLock<PathBuf> = LazyLock::new(|| std::env::current_dir().unwrap_or_default());
    path.strip_prefix(&*HERE).unwrap_or(path)
}

/// The id in a note, in hexadecimal; other bytes as they are.
fn build_id(note: &[u8]) -> String {
    let id = note.strip_prefix(NOTE_HEADER).unwrap_or(note);
    id.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
