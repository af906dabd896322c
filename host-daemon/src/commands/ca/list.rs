//! `blocksd ca list`: the certificates of an authority. Start with [`list`].

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::path::Path;

use blocksd_engine::stdio;
use serde::Serialize;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::authority::hex;
use super::folder::{self, certificate, check};
use super::index::{IndexEntry, SerialIndex};
use super::moment::Moment;
use super::pem::{parse, read_certificate, read_crl, unusable};
use crate::cli::{CaList, ListOutput};
use crate::commands::table::{name, write_table};
use crate::error::CommandError;
use crate::escape::json::write_json;
use crate::escape::printable;
use crate::output::counted;
use crate::service::log::print_status;

/// A certificate as JSON.
#[derive(Debug, Serialize)]
struct ListedCertificate<'a> {
    state: &'static str,
    kind: &'static str,
    id: &'a str,
    not_before: String,
    not_after: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    serial: &'a str,
    sha256: &'a str,
}

/// Lists the certificates. Needs no lock and no key: files change in one step.
///
/// # Errors
/// [`CommandError::Ca`], [`CommandError::File`].
pub(super) fn list(arguments: &CaList) -> Result<(), CommandError> {
    let folder = &arguments.dir;
    check(folder)?;
    let index = SerialIndex::read(folder::index(folder))?;
    let now = Moment::now();
    let written = match arguments.output {
        ListOutput::Text => write_text(&index.entries, now),
        ListOutput::Json => write_lines(&index.entries, now),
    };
    written.map_err(CommandError::stdout)?;
    report_authority(folder, now)?;
    report_crl(folder, &index.entries, now)
}

fn write_text(entries: &[IndexEntry], now: Moment) -> io::Result<()> {
    let names = ["STATE", "KIND", "ID", "NOT AFTER", "REVOKED", "SERIAL"];
    let rows = entries.iter().map(|entry| {
        [
            entry.state(now).to_owned(),
            entry.kind.as_str().to_owned(),
            name(&entry.id),
            entry.not_after.to_string(),
            entry
                .revoked
                .map_or_else(|| "-".to_owned(), |at| at.to_string()),
            entry.serial.clone(),
        ]
    });
    write_table(&mut stdio::stdout(), names, rows, 0..0)
}

fn write_lines(entries: &[IndexEntry], now: Moment) -> io::Result<()> {
    let mut out = stdio::stdout();
    entries.iter().try_for_each(|entry| {
        let listed = ListedCertificate {
            state: entry.state(now),
            kind: entry.kind.as_str(),
            id: &entry.id,
            not_before: entry.not_before.to_string(),
            not_after: entry.not_after.to_string(),
            revoked: entry.revoked.map(|at| at.to_string()),
            serial: &entry.serial,
            sha256: &entry.fingerprint,
        };
        write_json(&mut out, &listed)?;
        writeln!(out)
    })
}

/// Reports an authority whose certificate has expired.
fn report_authority(folder: &Path, now: Moment) -> Result<(), CommandError> {
    let path = certificate(folder);
    let certificate = read_certificate(&path)?;
    let not_after = Moment::of(parse(&path, &certificate)?.validity().not_after);
    if not_after <= now {
        let path = printable(path.display());
        print_status(format_args!("blocksd: {path} has expired at {not_after}"));
    }
    Ok(())
}

/// Reports a list of revoked certificates that is out of date, or lacks certificates.
fn report_crl(folder: &Path, entries: &[IndexEntry], now: Moment) -> Result<(), CommandError> {
    let path = folder::crl(folder);
    let crl = match read_crl(&path) {
        Err(CommandError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            let path = printable(path.display());
            print_status(format_args!(
                "blocksd: {path} is missing; make it with `blocksd ca crl`"
            ));
            return Ok(());
        }
        crl => crl?,
    };
    let (_, crl) = CertificateRevocationList::from_der(&crl).map_err(|error| {
        unusable(
            &path,
            format_args!("not a list of revoked certificates: {error}"),
        )
    })?;
    let path = printable(path.display());
    if let Some(next) = crl.next_update().map(Moment::of)
        && next <= now
    {
        print_status(format_args!(
            "blocksd: {path} is out of date since {next}; renew it with `blocksd ca crl`"
        ));
    }
    let listed = crl.iter_revoked_certificates();
    let listed: HashSet<_> = listed.map(|it| hex(it.raw_serial())).collect();
    let missing = entries.iter().filter(|entry| {
        entry.revoked.is_some() && now < entry.not_after && !listed.contains(&entry.serial)
    });
    match missing.count() as u64 {
        0 => {}
        missing => {
            let missing = counted(missing, "revoked certificate");
            print_status(format_args!(
                "blocksd: {path} lacks {missing}; renew it with `blocksd ca crl`"
            ));
        }
    }
    Ok(())
}
