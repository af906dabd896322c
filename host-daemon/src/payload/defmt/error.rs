//! Why frames cannot be decoded: [`DefmtError`] at the start, [`NoFirmware`] of a connection.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::payload::defmt::build_id::BuildId;

/// Why a decoding cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefmtError {
    /// No decoding has this name.
    #[error(
        "unknown decoding; the decodings are raw, text, json, cbor, msgpack, kv, defmt:ELF and defmt:DIR"
    )]
    Unknown,
    /// No path follows `defmt:`.
    #[error("a path is missing, as in defmt:firmware.elf")]
    NoPath,
    /// The ELF file or the directory cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file or directory.
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

/// Why the firmware of a connection has no formats: the cause and its remedy.
#[derive(Debug)]
pub(super) struct NoFirmware<'a> {
    /// The ELF file or the directory.
    pub(super) path: &'a Path,
    /// The build id that the firmware sent.
    pub(super) sent: Option<&'a BuildId>,
    pub(super) cause: Cause<'a>,
}

#[derive(Debug)]
pub(super) enum Cause<'a> {
    /// The ELF file is of this build.
    OfOther(&'a BuildId),
    /// The directory has ELF files of this many builds, but none, or not only one, is suitable.
    Among(usize),
    /// This many formats are already in use.
    TooMany(usize),
}

impl fmt::Display for NoFirmware<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.sent {
            Some(sent) => write!(f, "the firmware is build {sent}, ")?,
            None => write!(f, "the firmware sent no build id, ")?,
        }
        match (&self.cause, self.sent) {
            (Cause::OfOther(own), _) => write!(
                f,
                "but {path} is build {own}; name the ELF file of the firmware with --decode"
            )?,
            (Cause::TooMany(most), _) => {
                return write!(
                    f,
                    "and the formats of {most} other builds are in use, which is the limit; until one is no longer \
                     used, the frames of this connection are shown as bytes"
                );
            }
            (Cause::Among(0), None) => write!(
                f,
                "and {path} has no ELF file with defmt formats; copy that of the firmware there"
            )?,
            (Cause::Among(_), Some(_)) => {
                write!(f, "of which {path} has no ELF file; copy it there")?;
            }
            (Cause::Among(builds), None) => write!(
                f,
                "and {path} has ELF files of {builds} builds; send the build id first, or name one ELF file with \
                 --decode"
            )?,
        }
        f.write_str("; until then the frames of this connection are shown as bytes")
    }
}
