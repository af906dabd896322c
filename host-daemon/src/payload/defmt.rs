//! defmt log frames, shown with the format strings of the firmware's ELF file. [`Defmt::open`] reads that file, or finds
//! it in a directory by the build id that the firmware sends.

mod build_id;
mod decoder;
mod error;
mod firmware;
mod folder;
mod formats;
mod frame;
mod hint;
mod log_frame;
mod rzcobs;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use defmt_decoder::Encoding;
use framing_core::AnyFraming;

use self::build_id::BuildId;
pub(super) use self::decoder::DefmtDecoder;
pub use self::error::DefmtError;
use self::error::{Cause, NoFirmware};
use self::firmware::Firmware;
use self::folder::Folder;
pub use self::log_frame::LogFrame;

/// The ELF files of firmware: one, or those in a directory.
#[derive(Debug)]
pub struct Defmt {
    source: ElfSource,
    /// It was reported that frames are decoded without a check of their build.
    is_unchecked: AtomicBool,
}

#[derive(Debug)]
enum ElfSource {
    File(Arc<Firmware>),
    Folder(Folder),
}

impl Defmt {
    /// Reads an ELF file, or opens a directory of ELF files.
    ///
    /// # Errors
    /// If the file cannot be read or has no formats, or the directory cannot be read.
    pub fn open(path: &Path) -> Result<Self, DefmtError> {
        if path.as_os_str().is_empty() {
            return Err(DefmtError::NoPath);
        }
        let source = match path.is_dir() {
            true => {
                let folder = Folder::open(path).map_err(|error| DefmtError::File {
                    path: path.into(),
                    error,
                });
                ElfSource::Folder(folder?)
            }
            false => ElfSource::File(Arc::new(Firmware::open(path)?)),
        };
        Ok(Self::of(source))
    }

    const fn of(source: ElfSource) -> Self {
        let is_unchecked = AtomicBool::new(false);
        Self {
            source,
            is_unchecked,
        }
    }

    /// Data without any format, for tests.
    #[cfg(test)]
    pub(crate) fn without_formats() -> Self {
        Self::of(ElfSource::File(Arc::new(Firmware::without_formats())))
    }

    /// Whether both were read from the same path, and are the same build.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.source, &other.source) {
            (ElfSource::File(one), ElfSource::File(other)) => {
                (&one.path, one.digest) == (&other.path, other.digest)
            }
            (ElfSource::Folder(one), ElfSource::Folder(other)) => one.path() == other.path(),
            _ => false,
        }
    }

    /// Warnings about this framing: frames in its messages are not decoded, or not reliably.
    pub(super) fn warnings(&self, framing: &AnyFraming) -> Vec<String> {
        let mut warnings = Vec::new();
        match &self.source {
            ElfSource::File(firmware) => {
                let path = firmware.path.display();
                if firmware.build.is_none() {
                    warnings.push(format!(
                        "{path} has no build id, so frames of another build are not noticed; link the firmware with \
                         --build-id"
                    ));
                }
                if firmware.encoding == Encoding::Raw && framing.to_string() == "delimited:00" {
                    warnings.push(format!(
                        "frames of {path} have no encoding, so they contain zeros, and delimited:00 cuts them; use \
                         another framing, or defmt's encoding-rzcobs"
                    ));
                }
            }
            ElfSource::Folder(folder) if folder.count() == 0 => warnings.push(format!(
                "{} has no ELF file with defmt formats yet",
                folder.path().display()
            )),
            ElfSource::Folder(_) => {}
        }
        warnings
    }

    /// The formats for firmware that has sent this build id, or none.
    fn choose<'a>(&'a self, sent: Option<&'a BuildId>) -> Result<Arc<Firmware>, NoFirmware<'a>> {
        let (path, chosen) = match &self.source {
            ElfSource::File(firmware) => {
                let chosen = match (sent, &firmware.build) {
                    (Some(sent), Some(own)) if sent != own => Err(Cause::OfOther(own)),
                    _ => Ok(Arc::clone(firmware)),
                };
                (&*firmware.path, chosen)
            }
            ElfSource::Folder(folder) => (folder.path(), folder.choose(sent)),
        };
        chosen.map_err(|cause| NoFirmware { path, sent, cause })
    }

    /// Logs once that frames are decoded without a check of their build.
    fn warn_unchecked(&self, firmware: &Firmware) {
        if firmware.build.is_some() && !self.is_unchecked.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a device sends defmt frames without its build id first: they are decoded with {:?}, and a frame of \
                 another build is not noticed",
                firmware.path
            );
        }
    }
}
