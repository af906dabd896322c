//! `blocksd ca server` and `blocksd ca device`: new keys and certificates. Start with [`device`] and [`server`].

use rcgen::{KeyPair, SubjectPublicKeyInfo};

use super::authority::{Authority, WantedCertificate, hex, sign_error};
use super::embed::{Embedded, write_embedded};
use super::files::{PUBLIC, SECRET, put, set_aside};
use super::folder::{CaFolder, CertificateFiles};
use super::index::SerialIndex;
use super::moment::Moment;
use super::pem::{parse, read_certificate};
use super::report::IssueReport;
use super::request::requested_key;
use crate::cli::{CaDevice, CaServer, CertificateKind, KeyFormat};
use crate::error::{CaError, CommandError};
use crate::service::log::print_status;

/// Length of the longest name of a file without its suffix and number, in bytes.
const FILE_NAME_MAX: usize = 240;

/// Makes a key and a certificate for a device, or a certificate for the key of its request.
///
/// # Errors
/// [`CommandError::Ca`], [`CommandError::File`], [`CommandError::Write`].
pub(super) fn device(arguments: &CaDevice) -> Result<(), CommandError> {
    let folder = CaFolder::open(&arguments.dir)?;
    let request = arguments.csr.as_deref().map(requested_key).transpose()?;
    let wanted = WantedCertificate {
        kind: CertificateKind::Device,
        id: &arguments.id,
        names: &[],
        days: arguments.days,
    };
    issue(&folder, &wanted, request, arguments.format)
}

/// Makes a key and a certificate for a server.
///
/// # Errors
/// [`CommandError::Ca`], [`CommandError::File`], [`CommandError::Write`].
pub(super) fn server(arguments: &CaServer) -> Result<(), CommandError> {
    let folder = CaFolder::open(&arguments.dir)?;
    let first = arguments.names.first().map(ToString::to_string);
    let id = first.unwrap_or_default();
    let wanted = WantedCertificate {
        kind: CertificateKind::Server,
        id: &id,
        names: &arguments.names,
        days: arguments.days,
    };
    issue(&folder, &wanted, None, KeyFormat::Pem)
}

/// Makes a certificate, and a key unless there is a request. Files of an id whose certificate was revoked are kept under
/// numbers; otherwise the id must be free.
fn issue(
    folder: &CaFolder,
    wanted: &WantedCertificate<'_>,
    request: Option<SubjectPublicKeyInfo>,
    format: KeyFormat,
) -> Result<(), CommandError> {
    let files = folder.files(wanted.kind, wanted.id);
    if FILE_NAME_MAX < wanted.id.len() {
        let reason =
            "the first name is the name of the files, and is too long; give a shorter one first";
        return Err(super::pem::unusable(&files.certificate, reason));
    }
    let authority = Authority::read(folder)?;
    let mut index = SerialIndex::read(folder.index())?;
    let is_replaced = check_free(&files, &index)?;
    if request.is_some() && !is_replaced && files.key.symlink_metadata().is_ok() {
        let advice = "it may not be the key of the request; move it elsewhere";
        let path = files.key;
        return Err(CaError::Exists { path, advice }.into());
    }
    let now = Moment::now();
    let (signed, key) = match &request {
        Some(key) => (authority.sign(folder, wanted, key, now)?, None),
        None => {
            let key = KeyPair::generate().map_err(sign_error)?;
            (authority.sign(folder, wanted, &key, now)?, Some(key))
        }
    };
    index.entries.push(signed.entry.clone());
    index.write()?;
    let mut report = IssueReport::default();
    match &key {
        Some(key) => {
            let kept = put(&files.key, key.serialize_pem().as_bytes(), SECRET)?;
            report.add(&files.key, "its secret key", kept);
        }
        None if files.key.symlink_metadata().is_ok() => {
            let kept = set_aside(&files.key, SECRET)?;
            report.add(&files.key, "no key: it is that of the request", Some(kept));
        }
        None => {}
    }
    let embedded = Embedded {
        id: wanted.id,
        certificate: &signed.der,
        key: key.as_ref().map(KeyPair::serialized_der),
        authority: &authority.certificate,
        made: now,
    };
    write_embedded(&files, &embedded, format, &mut report)?;
    let kept = put(&files.certificate, signed.pem.as_bytes(), PUBLIC)?;
    report.add_certificate(&files.certificate, &signed, kept);
    report.print(&signed)?;
    if let Some(key) = request {
        report_request(&key);
    }
    Ok(())
}

/// Checks whether an id has no certificate, or a revoked one. Returns whether it has one.
fn check_free(files: &CertificateFiles, index: &SerialIndex) -> Result<bool, CommandError> {
    let path = &files.certificate;
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let certificate = read_certificate(path)?;
    let parsed = parse(path, &certificate)?;
    let entry = index.serial(&hex(parsed.raw_serial()));
    match entry.is_some_and(|entry| entry.revoked.is_some()) {
        true => Ok(true),
        false => Err(CaError::Exists {
            path: path.clone(),
            advice: "renew it with `blocksd ca renew`, or revoke it before you make a new key",
        }
        .into()),
    }
}

fn report_request(key: &SubjectPublicKeyInfo) {
    use rcgen::PublicKeyData as _;
    use sha2::{Digest as _, Sha256};

    let digest = hex(&Sha256::digest(key.subject_public_key_info()));
    print_status(format_args!(
        "blocksd: names and extensions of the request were ignored; SHA-256 of its public key: {digest}"
    ));
}
