//! The programs that tests run: the daemon, built once, Python peers, and programs of others.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::skip::skipped;

/// Where `tests/peers/unpack` puts programs of others.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers/root");
/// The environment variable that names a `blocksd` to test in place of building one.
const BINARY_NAMED: &str = "BLOCKSD";

/// `blocksd` with these arguments, built once for all tests.
pub fn blocksd(args: &[&str]) -> Command {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BINARY.get_or_init(|| match std::env::var_os(BINARY_NAMED) {
        Some(path) => Ok(path.into()),
        None => build(),
    });
    let built = built.as_ref();
    let binary = built.unwrap_or_else(|error| panic!("blocksd cannot be built:\n{error}"));
    let mut command = Command::new(binary);
    command.args(args).env_remove("RUST_LOG");
    command
}

/// One of the peers in `tests/peers`, written for Python's standard library.
pub fn python(peer: &str, args: &[&str]) -> Command {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let mut command = Command::new("python3");
    // Unbuffered, and without files of its own beside ours.
    command
        .args(["-u", "-B"])
        .arg(peers.join(peer))
        .args(args)
        .env("PYTHONUTF8", "1");
    command
}

/// A program of others: unpacked by `tests/peers/unpack`, or installed.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    root: &'static Path,
}

impl Program {
    /// Finds a program. Reports that the test `name` is skipped where it is missing.
    pub fn find(name: &str, program: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let unpacked =
            ["usr/sbin", "usr/bin", "bin"].map(|folder| Path::new(UNPACKED).join(folder));
        // Debian keeps services where the path of most users does not lead.
        let folders = unpacked.into_iter().chain(std::env::split_paths(&path));
        let mut files = folders
            .chain(["/usr/sbin".into()])
            .map(|folder| folder.join(program));
        let found = files.find(|file| file.is_file());
        if found.is_none() {
            let reason = format_args!("`{program}` is missing; `tests/run` installs or unpacks it");
            skipped(name, reason);
        }
        found.map(|path| Self {
            root: Path::new(if path.starts_with(UNPACKED) {
                UNPACKED
            } else {
                "/"
            }),
            path,
        })
    }

    /// A file of its package, by the path that it has where the package is installed.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The command that runs it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(args);
        if self.root == Path::new(UNPACKED) {
            let system = format!("{}-linux-gnu", std::env::consts::ARCH);
            let libraries = ["/usr/lib/", "/lib/"].map(|folder| self.file(folder).join(&system));
            let libraries = libraries
                .into_iter()
                .chain([self.file("/usr/lib/syslog-ng")]);
            let libraries = std::env::join_paths(libraries).expect("a path without colons");
            // Where each of them looks for its modules.
            let modules = self.file("/usr/lib").join(&system).join("rsyslog");
            let gensio = newest(&self.file("/usr/libexec").join(&system).join("gensio"));
            command
                .env("LD_LIBRARY_PATH", libraries)
                .env("RSYSLOG_MODDIR", modules)
                .env("GENSIO_LIBRARY_PATH", gensio)
                .env("SYSLOGNG_PREFIX", self.file("/usr"));
        }
        command
    }
}

/// The folder of the newest version in a folder; the folder itself where it has none.
fn newest(folder: &Path) -> PathBuf {
    let versions = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path()).max();
    newest.unwrap_or_else(|| folder.to_owned())
}

fn build() -> Result<PathBuf, String> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--package", "blocksd", "--bin", "blocksd"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "blocksd")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .filter(|_| output.status.success())
        .ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}
