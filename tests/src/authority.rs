//! A certificate authority of `blocksd ca` in a temporary folder: an [`Authority`] checks after each command that nothing was
//! overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::ended::Ended;
use crate::process::{blocksd, finish};
use crate::programs::Program;

/// The files of a folder and of those in it, by their paths, with their contents and permissions.
pub type Snapshot = BTreeMap<PathBuf, (Vec<u8>, u32)>;

/// A certificate authority in the folder `ca` of a temporary directory, and OpenSSL.
#[derive(Debug)]
pub struct Authority {
    place: TempDir,
    openssl: Program,
}

impl Authority {
    /// Makes an authority. Reports that the test `name` is skipped without OpenSSL.
    #[track_caller]
    pub fn new(name: &str) -> Option<Self> {
        let this = Self::without(name)?;
        this.ok(&["init", "ca"]);
        Some(this)
    }

    /// An empty directory, for an authority.
    pub fn without(name: &str) -> Option<Self> {
        Some(Self {
            openssl: Program::find(name, "openssl")?,
            place: tempfile::tempdir().expect("a directory"),
        })
    }

    /// A file in the folder of the authority.
    pub fn file(&self, name: &str) -> PathBuf {
        self.place.path().join("ca").join(name)
    }

    /// The directory that the folder is in, where commands run.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// `blocksd ca` with these arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = blocksd(&["ca"]);
        command.args(args).current_dir(self.place());
        command
    }

    /// Runs `blocksd ca` with these arguments, and checks that it has overwritten nothing.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ended {
        let before = self.snapshot();
        let ended = finish(self.command(args), b"");
        assert_kept(&before, &self.snapshot());
        ended
    }

    /// The same, for a command that succeeds. Returns standard output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.stdout_text()
    }

    /// The same, for a command that is refused with exit code 2, and changes nothing.
    #[track_caller]
    pub fn refused(&self, args: &[&str], what: &str) {
        let before = self.snapshot();
        self.run(args).assert_refused(2, what);
        let lock = self.file("blocksd.lock");
        let without_lock = |mut files: Snapshot| {
            files.remove(&lock);
            files
        };
        assert_eq!(
            without_lock(before),
            without_lock(self.snapshot()),
            "{args:?}"
        );
    }

    /// Runs OpenSSL in the directory.
    pub fn openssl(&self, args: &[&str]) -> Ended {
        finish(self.openssl_command(args), b"")
    }

    /// OpenSSL in the directory.
    pub fn openssl_command(&self, args: &[&str]) -> Command {
        let mut command = self.openssl.command(args);
        command.current_dir(self.place());
        command
    }

    /// The output of OpenSSL, which must succeed.
    #[track_caller]
    pub fn openssl_text(&self, args: &[&str]) -> String {
        let ended = self.openssl(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.stdout_text()
    }

    /// The verdict of OpenSSL about a certificate, with the list of revoked ones: nothing, or the error.
    pub fn verdict(&self, certificate: &str, purpose: &str) -> Result<(), String> {
        let args = ["verify", "-x509_strict", "-crl_check", "-purpose", purpose];
        let files = [
            "-CAfile",
            "ca/ca.pem",
            "-CRLfile",
            "ca/crl.pem",
            certificate,
        ];
        let ended = self.openssl(&[&args[..], &files].concat());
        match ended.code {
            Some(0) => Ok(()),
            _ => Err(ended.stderr),
        }
    }

    /// The certificates that `list` prints.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let text = self.ok(&["list", "ca", "--output", "json"]);
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("JSON lines")
    }

    /// The serial numbers in the list of revoked certificates, by OpenSSL.
    #[track_caller]
    pub fn revoked(&self) -> BTreeSet<String> {
        let text = self.openssl_text(&["crl", "-in", "ca/crl.pem", "-noout", "-text"]);
        let serials = text.split("Serial Number: ").skip(1);
        let serials = serials.filter_map(|rest| rest.lines().next());
        serials.map(str::to_lowercase).collect()
    }

    /// All files in the folder of the authority.
    pub fn snapshot(&self) -> Snapshot {
        let mut files = Snapshot::new();
        collect(&self.file(""), &mut files);
        files
    }
}

/// Checks that each file is still there, or was kept under a number. The index only gets longer, apart from states, and the list
/// of revoked certificates is made again.
#[track_caller]
pub fn assert_kept(before: &Snapshot, after: &Snapshot) {
    for (path, old) in before {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "crl.pem" || name.starts_with(".%new-") {
            continue;
        }
        let new = after.get(path);
        if name == "serials" {
            let lines = |bytes: &[u8]| -> Vec<String> {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let lines = text.lines().map(|line| line.split(" valid").next());
                lines
                    .map(|line| line.unwrap_or_default().to_owned())
                    .collect()
            };
            let (old, new) = (lines(&old.0), lines(&new.expect("an index").0));
            let same = old.iter().zip(&new).all(|(old, new)| new.starts_with(old));
            assert!(same && old.len() <= new.len(), "{old:#?} {new:#?}");
            continue;
        }
        let numbered = format!("{}.", path.display());
        let is_numbered = |other: &Path| {
            let number = other.to_str().and_then(|it| it.strip_prefix(&*numbered));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let mut kept = after.iter().filter(|(other, _)| is_numbered(other));
        assert!(
            new == Some(old) || kept.any(|(_, file)| file.0 == old.0),
            "{} was overwritten",
            path.display()
        );
    }
}

fn collect(folder: &Path, files: &mut Snapshot) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let mode = entry.metadata().expect("a file").permissions().mode() & 0o777;
        match path.is_dir() {
            true => collect(&path, files),
            false => {
                files.insert(path.clone(), (fs::read(&path).expect("a file"), mode));
            }
        }
    }
}
