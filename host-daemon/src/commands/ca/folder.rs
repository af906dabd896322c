//! The folder of a certificate authority: a [`CaFolder`] is locked, and knows the names of the files in it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blocksd_recording::{Error as RecordingError, Lock, parent, sync_directory};

use super::files::{UNFINISHED, failure, remove_unfinished};
use crate::cli::CertificateKind;
use crate::error::{CaError, CommandError};

/// Permissions of the folder and of those in it.
const PRIVATE: u32 = 0o700;

/// How long a command waits for others that use the folder. Each takes some milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// A folder that no other process changes.
#[derive(Debug)]
pub(super) struct CaFolder {
    path: PathBuf,
    _lock: Lock,
}

/// The files of one id.
#[derive(Debug)]
pub(super) struct CertificateFiles {
    /// The certificate, in PEM.
    pub(super) certificate: PathBuf,
    /// The key, in PEM.
    pub(super) key: PathBuf,
    /// The certificate, in DER.
    pub(super) der: PathBuf,
    /// The key, in DER.
    pub(super) pkcs8: PathBuf,
    /// The arrays in Rust.
    pub(super) rust: PathBuf,
    /// The arrays in C.
    pub(super) c: PathBuf,
}

impl CaFolder {
    /// Makes a folder, or takes an empty one. One that an interrupted [`init`](super::init) has left is empty too.
    ///
    /// # Errors
    /// [`CaError::NotEmpty`], [`CaError::Exists`], [`CaError::Locked`], [`CommandError::Write`].
    pub(super) fn make(path: &Path) -> Result<Self, CommandError> {
        let above = parent(path);
        fs::create_dir_all(above).map_err(|error| failure(above, error))?;
        make_private(path)?;
        check_empty(path)?;
        let private = fs::set_permissions(path, Permissions::from_mode(PRIVATE));
        private.map_err(|error| failure(path, error))?;
        let folder = Self::lock(path)?;
        // Another process may have been quicker.
        check_empty(path)?;
        for kind in [CertificateKind::Device, CertificateKind::Server] {
            make_private(&path.join(kind.as_str()))?;
        }
        Ok(folder)
    }

    /// Locks the folder of a certificate authority.
    ///
    /// # Errors
    /// [`CaError::NoAuthority`], [`CaError::Locked`], [`CommandError::Recording`].
    pub(super) fn open(path: &Path) -> Result<Self, CommandError> {
        check(path)?;
        let folder = Self::lock(path)?;
        for kind in [CertificateKind::Device, CertificateKind::Server] {
            let inner = path.join(kind.as_str());
            make_private(&inner)?;
            remove_unfinished(&inner);
        }
        remove_unfinished(path);
        Ok(folder)
    }

    /// The certificate of the authority.
    pub(super) fn certificate(&self) -> PathBuf {
        certificate(&self.path)
    }

    /// The key of the authority.
    pub(super) fn key(&self) -> PathBuf {
        self.path.join("ca.key")
    }

    /// The list of revoked certificates.
    pub(super) fn crl(&self) -> PathBuf {
        crl(&self.path)
    }

    /// The index of all certificates.
    pub(super) fn index(&self) -> PathBuf {
        index(&self.path)
    }

    /// The files of an id. A colon, which programs such as `scp` take for the end of a host name, is `%3A` in their names.
    pub(super) fn files(&self, kind: CertificateKind, id: &str) -> CertificateFiles {
        let folder = self.path.join(kind.as_str());
        let name = id.replace(':', "%3A");
        let file = |suffix: &str| folder.join(format!("{name}.{suffix}"));
        CertificateFiles {
            certificate: file("pem"),
            key: file("key"),
            der: file("der"),
            pkcs8: file("pk8"),
            rust: file("rs"),
            c: file("h"),
        }
    }

    fn lock(path: &Path) -> Result<Self, CommandError> {
        let begin = Instant::now();
        loop {
            match Lock::take(path) {
                Ok(lock) => {
                    return Ok(Self {
                        path: path.into(),
                        _lock: lock,
                    });
                }
                Err(RecordingError::Locked { .. }) if begin.elapsed() < LOCK_TIMEOUT => {}
                Err(RecordingError::Locked { path }) => return Err(CaError::Locked { path }.into()),
                Err(RecordingError::Folder { path, source }) => return Err(failure(&path, source)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Checks whether a folder has a certificate authority.
///
/// # Errors
/// [`CaError::NoAuthority`], [`CommandError::File`].
pub(super) fn check(path: &Path) -> Result<(), CommandError> {
    let certificate = certificate(path);
    match certificate.symlink_metadata() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CaError::NoAuthority { path: path.into() }.into())
        }
        Err(error) => Err(CommandError::File {
            path: certificate,
            error,
        }),
    }
}

/// The certificate of the authority in a folder.
pub(super) fn certificate(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

/// The list of revoked certificates in a folder.
pub(super) fn crl(folder: &Path) -> PathBuf {
    folder.join("crl.pem")
}

/// The index of all certificates in a folder.
pub(super) fn index(folder: &Path) -> PathBuf {
    folder.join("serials")
}

/// Makes a folder that only its owner can enter, unless it exists.
fn make_private(path: &Path) -> Result<(), CommandError> {
    match DirBuilder::new().mode(PRIVATE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(failure(path, error)),
        Ok(()) => Ok(sync_directory(parent(path))?),
    }
}

/// Checks whether a folder has nothing but the files of an interrupted [`init`](super::init).
fn check_empty(path: &Path) -> Result<(), CommandError> {
    /// What such an `init` leaves. It writes `ca.pem` last.
    const LEFT: [&str; 6] = [
        Lock::FILE_NAME,
        "ca.key",
        "crl.pem",
        "device",
        "serials",
        "server",
    ];
    let certificate = certificate(path);
    if certificate.symlink_metadata().is_ok() {
        return Err(CaError::Exists {
            path: certificate,
            advice: "the folder has a certificate authority",
        }
        .into());
    }
    let failure = |error| CommandError::File {
        path: path.into(),
        error,
    };
    for entry in fs::read_dir(path).map_err(failure)? {
        let name = entry.map_err(failure)?.file_name();
        let name = name.to_string_lossy();
        let is_kept = name.strip_prefix("ca.key.").is_some();
        if !LEFT.contains(&&*name) && !is_kept && !name.starts_with(UNFINISHED) {
            return Err(CaError::NotEmpty {
                path: path.into(),
                found: name.into_owned(),
            }
            .into());
        }
    }
    Ok(())
}
