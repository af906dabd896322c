//! `blocksd ca revoke` and `blocksd ca crl`: revocation, and the list of revoked certificates. Start with [`revoke`].

use std::io::Write as _;

use blocksd_engine::stdio;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::authority::Authority;
use super::files::{PUBLIC, replace};
use super::folder::CaFolder;
use super::index::SerialIndex;
use super::moment::Moment;
use super::pem::{read_crl, unusable};
use crate::cli::{CaCrl, CaRevoke};
use crate::error::CommandError;
use crate::escape::printable;
use crate::output::counted;

/// Days until a list is out of date, unless the command line has others.
pub(super) const CRL_DAYS: u32 = 30;

/// Revokes all valid certificates of an id, and renews the list.
///
/// # Errors
/// [`CommandError::Ca`], [`CommandError::File`], [`CommandError::Write`].
pub(super) fn revoke(arguments: &CaRevoke) -> Result<(), CommandError> {
    let folder = CaFolder::open(&arguments.dir)?;
    let authority = Authority::read(&folder)?;
    let mut index = SerialIndex::read(folder.index())?;
    let kind = index.kind(&arguments.id, arguments.kind)?;
    let number = next_number(&folder)?;
    let now = Moment::now();
    let mut revoked = 0;
    for entry in &mut index.entries {
        if entry.kind == kind && entry.id == arguments.id && entry.is_valid(now) {
            entry.revoked = Some(now);
            revoked += 1;
        }
    }
    // If an earlier command was interrupted here, only the list is written.
    index.write()?;
    let (kind, id) = (kind.as_str(), &arguments.id);
    let line = format!("revoked {} of {kind} {id}", counted(revoked, "certificate"));
    writeln!(stdio::stdout(), "{line}").map_err(CommandError::stdout)?;
    write_crl(&folder, &authority, &index, number, CRL_DAYS, now)
}

/// Renews the list of revoked certificates.
///
/// # Errors
/// [`CommandError::Ca`], [`CommandError::File`], [`CommandError::Write`].
pub(super) fn crl(arguments: &CaCrl) -> Result<(), CommandError> {
    let folder = CaFolder::open(&arguments.dir)?;
    let authority = Authority::read(&folder)?;
    let index = SerialIndex::read(folder.index())?;
    let number = next_number(&folder)?;
    let now = Moment::now();
    write_crl(&folder, &authority, &index, number, arguments.days, now)
}

fn write_crl(
    folder: &CaFolder,
    authority: &Authority,
    index: &SerialIndex,
    number: u64,
    days: u32,
    now: Moment,
) -> Result<(), CommandError> {
    let crl = authority.sign_crl(&index.entries, number, days, now)?;
    let path = folder.crl();
    replace(&path, crl.as_bytes(), PUBLIC)?;
    let listed = index
        .entries
        .iter()
        .filter(|it| it.revoked.is_some() && now < it.not_after);
    let listed = counted(listed.count() as u64, "revoked certificate");
    let next = now.after_days(days);
    let path = printable(path.display());
    let line = format!("{path}: {listed}; give it to the daemon, and renew it before {next}");
    writeln!(stdio::stdout(), "{line}").map_err(CommandError::stdout)
}

/// The number of the next list. Numbers follow the clock, so they increase also if the last list is lost.
fn next_number(folder: &CaFolder) -> Result<u64, CommandError> {
    let now = Moment::now().seconds();
    let path = folder.crl();
    if path.symlink_metadata().is_err() {
        return Ok(now);
    }
    let crl = read_crl(&path)?;
    let last = match CertificateRevocationList::from_der(&crl) {
        Ok((_, crl)) => crl.crl_number().map_or(Ok(0), u64::try_from),
        Err(error) => {
            let reason = format!("not a list of revoked certificates ({error}); remove it");
            return Err(unusable(&path, reason));
        }
    };
    match last.ok().and_then(|last| last.checked_add(1)) {
        Some(next) => Ok(next.max(now)),
        None => Err(unusable(&path, "its number is too large")),
    }
}
