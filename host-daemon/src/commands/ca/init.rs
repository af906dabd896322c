//! `blocksd ca init`: makes a certificate authority. Start with [`init`].

use std::io::Write as _;

use blocksd_engine::stdio;

use super::authority::Authority;
use super::files::{PUBLIC, SECRET, create, put, replace};
use super::folder::CaFolder;
use super::index::SerialIndex;
use super::moment::Moment;
use super::revoke::CRL_DAYS;
use crate::cli::CaInit;
use crate::error::{CaError, CommandError};
use crate::escape::printable;

/// Makes a certificate authority in a new folder. Its certificate is written last: without it, the folder has no authority.
///
/// # Errors
/// [`CaError::NotEmpty`], [`CaError::Exists`], [`CommandError::Write`].
pub(super) fn init(arguments: &CaInit) -> Result<(), CommandError> {
    let folder = CaFolder::make(&arguments.dir)?;
    let now = Moment::now();
    let path = folder.index();
    if path.symlink_metadata().is_ok() && !SerialIndex::read(path.clone())?.entries.is_empty() {
        // It is not one of an interrupted command.
        let advice =
            "it lists certificates of an authority: restore its ca.pem, or choose another folder";
        return Err(CaError::Exists { path, advice }.into());
    }
    let (authority, certificate, key) = Authority::new(arguments.name.as_deref(), now)?;
    let kept = put(&folder.key(), key.as_bytes(), SECRET)?;
    let index = SerialIndex::new(path);
    index.write()?;
    let crl = authority.sign_crl(&index.entries, now.seconds(), CRL_DAYS, now)?;
    replace(&folder.crl(), crl.as_bytes(), PUBLIC)?;
    create(&folder.certificate(), certificate.as_bytes(), PUBLIC)?;
    let name = |path: std::path::PathBuf| printable(path.display());
    let mut text = format!(
        "{}: certificate of the authority, until {}\n{}: its secret key; keep a copy, and keep it off the devices and the daemon's host",
        name(folder.certificate()),
        authority.not_after(),
        name(folder.key()),
    );
    if let Some(kept) = kept {
        text += &format!("; the key of an interrupted command kept as {}", name(kept));
    }
    let crl = name(folder.crl());
    let next = now.after_days(CRL_DAYS);
    text += &format!("\n{crl}: no revoked certificates; renew it before {next}");
    writeln!(stdio::stdout(), "{text}").map_err(CommandError::stdout)
}
