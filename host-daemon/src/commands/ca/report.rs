//! What a command of the authority has written: a [`IssueReport`].

use std::io::Write as _;
use std::path::{Path, PathBuf};

use blocksd_engine::stdio;

use super::authority::SignedCertificate;
use crate::error::CommandError;
use crate::escape::printable;
use crate::service::log::print_status;

/// What was written, for the report.
#[derive(Debug, Default)]
pub(super) struct IssueReport(Vec<String>);

impl IssueReport {
    /// Adds a file, and the name under which an older one was kept.
    pub(super) fn add(&mut self, path: &Path, what: &str, kept: Option<PathBuf>) {
        let mut line = format!("{}: {what}", printable(path.display()));
        if let Some(kept) = kept {
            line += &format!("; the old one kept as {}", printable(kept.display()));
        }
        self.0.push(line);
    }

    /// Adds the certificate.
    pub(super) fn add_certificate(
        &mut self,
        path: &Path,
        signed: &SignedCertificate,
        kept: Option<PathBuf>,
    ) {
        let entry = &signed.entry;
        let (kind, id) = (entry.kind.as_str(), &entry.id);
        let what = format!("certificate of {kind} {id}, until {}", entry.not_after);
        self.add(path, &what, kept);
    }

    /// Prints it.
    ///
    /// # Errors
    /// [`CommandError::Output`].
    pub(super) fn print(&self, signed: &SignedCertificate) -> Result<(), CommandError> {
        let mut out = stdio::stdout();
        let mut lines = self.0.iter();
        let printed = lines.try_for_each(|line| writeln!(out, "{line}"));
        printed.map_err(CommandError::stdout)?;
        if signed.is_cut {
            print_status(format_args!(
                "blocksd: the certificate ends earlier than asked, with that of the authority"
            ));
        }
        Ok(())
    }
}
