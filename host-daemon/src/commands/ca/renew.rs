//! `blocksd ca renew`: a new certificate for the same key and names. Start with [`renew`].

use std::io;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{KeyPair, SubjectPublicKeyInfo};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::authority::{Authority, WantedCertificate, hex, read_key};
use super::embed::{Embedded, has_key, write_embedded};
use super::files::{PUBLIC, put};
use super::folder::{CaFolder, CertificateFiles};
use super::index::SerialIndex;
use super::moment::Moment;
use super::pem::{parse, read, read_certificate, unusable};
use super::report::IssueReport;
use crate::cli::{CaRenew, HostName, KeyFormat};
use crate::error::{CaError, CommandError};

/// Makes a new certificate for the key of the present one, which is kept under a number and stays valid until its end.
/// Files of other formats that exist are written again.
///
/// # Errors
/// [`CommandError::Ca`], [`CommandError::File`], [`CommandError::Write`].
pub(super) fn renew(arguments: &CaRenew) -> Result<(), CommandError> {
    let folder = CaFolder::open(&arguments.dir)?;
    let authority = Authority::read(&folder)?;
    let mut index = SerialIndex::read(folder.index())?;
    let kind = index.kind(&arguments.id, arguments.kind)?;
    let files = folder.files(kind, &arguments.id);
    let path = &files.certificate;
    let old = read_certificate(path)?;
    let parsed = parse(path, &old)?;
    let serial = hex(parsed.raw_serial());
    let entry = index
        .serial(&serial)
        .filter(|entry| entry.kind == kind && entry.id == arguments.id);
    let Some(entry) = entry else {
        let index = index.path().display();
        let reason = format!(
            "not the certificate of {}: {index} has no such serial number",
            arguments.id
        );
        return Err(unusable(path, reason));
    };
    if let Some(revoked) = entry.revoked {
        return Err(CaError::Revoked {
            id: arguments.id.clone(),
            revoked: revoked.to_string(),
            kind: kind.as_str(),
        }
        .into());
    }
    let key = SubjectPublicKeyInfo::from_der(parsed.public_key().raw);
    let key = key.map_err(|error| unusable(path, error))?;
    let names = names(path, &parsed)?;
    let wanted = WantedCertificate {
        kind,
        id: &arguments.id,
        names: &names,
        days: arguments.days,
    };
    let now = Moment::now();
    let signed = authority.sign(&folder, &wanted, &key, now)?;
    let secret = match has_key(&files) {
        true => secret_key(&files, &parsed)?,
        false => None,
    };
    index.entries.push(signed.entry.clone());
    index.write()?;
    let mut report = IssueReport::default();
    let embedded = Embedded {
        id: &arguments.id,
        certificate: &signed.der,
        key: secret.as_ref().map(KeyPair::serialized_der),
        authority: &authority.certificate,
        made: now,
    };
    write_embedded(&files, &embedded, KeyFormat::Pem, &mut report)?;
    let kept = put(path, signed.pem.as_bytes(), PUBLIC)?;
    report.add_certificate(path, &signed, kept);
    report.print(&signed)
}

/// The names of a server in its certificate.
fn names(path: &Path, certificate: &X509Certificate<'_>) -> Result<Vec<HostName>, CommandError> {
    let names = certificate.subject_alternative_name();
    let names = names.map_err(|error| unusable(path, error))?;
    let names = names.map(|names| &*names.value.general_names);
    let names = names
        .unwrap_or_default()
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(HostName::Dns((*name).to_owned())),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                address.ok().map(HostName::Ip)
            }
            _ => None,
        });
    Ok(names.collect())
}

/// The secret key of a certificate. `None` if it is not here.
fn secret_key(
    files: &CertificateFiles,
    certificate: &X509Certificate<'_>,
) -> Result<Option<KeyPair>, CommandError> {
    let path = &files.key;
    let bytes = match read(path) {
        Err(CommandError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        bytes => bytes?,
    };
    let key = read_key(&String::from_utf8_lossy(&bytes));
    let key = key.map_err(|reason| unusable(path, reason))?;
    match key.public_key_raw() == &*certificate.public_key().subject_public_key.data {
        true => Ok(Some(key)),
        false => {
            let reason = format!("not the key of {}", files.certificate.display());
            Err(unusable(path, reason))
        }
    }
}
