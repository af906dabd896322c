//! Errors of `blocksd ca`: [`CaError`].

use std::io;
use std::path::PathBuf;

/// Why `blocksd ca` refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A folder without a certificate authority.
    #[error("{} has no certificate authority; make one with `blocksd ca init DIR`", path.display())]
    NoAuthority {
        /// The folder.
        path: PathBuf,
    },
    /// A folder for a new certificate authority that contains files.
    #[error("{} contains {found}; choose a new or empty folder for a certificate authority", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// The name of one of the files.
        found: String,
    },
    /// A file that a command would overwrite.
    #[error("{} exists, and is not overwritten; {advice}", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// What to do instead.
        advice: &'static str,
    },
    /// A file of the folder, or a request, that cannot be used.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name without a certificate.
    #[error("{} lists no certificate of `{id}`; `blocksd ca list` shows all", path.display())]
    Unknown {
        /// The index of the certificates.
        path: PathBuf,
        /// The id of the device or the name of the server.
        id: String,
    },
    /// A name of a device and of a server.
    #[error("a device and a server are named `{id}`; add --kind device, or --kind server")]
    Ambiguous {
        /// The name.
        id: String,
    },
    /// A revoked certificate that was to be renewed.
    #[error(
        "the certificate of `{id}` was revoked at {revoked}; make a new one, with a new key, with `blocksd ca {kind}`"
    )]
    Revoked {
        /// The id of the device or the name of the server.
        id: String,
        /// When.
        revoked: String,
        /// The command that makes a new one.
        kind: &'static str,
    },
    /// The certificate of the authority has expired.
    #[error("{} has expired at {not_after}; make a new certificate authority with `blocksd ca init`", path.display())]
    Expired {
        /// The certificate of the authority.
        path: PathBuf,
        /// When.
        not_after: String,
    },
    /// Another process is changing the folder.
    #[error("another `blocksd` is using {}; try again when it has ended", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// No random numbers, or no signature.
    #[error("cannot make a certificate: {0}")]
    Sign(#[source] io::Error),
}
