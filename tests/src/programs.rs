//! The programs that tests run: the daemon ([`blocksd()`]), Python peers, and third-party programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip::skipped;

/// Where tests keep files for later runs.
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
/// Where `tests/peers/unpack` unpacks third-party programs.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers/root");
/// Settings of Go: no network, and none of the user's settings.
const GO: [(&str, &str); 5] = [
    ("GOENV", "off"),
    ("GOFLAGS", "-mod=mod"),
    ("GOPROXY", "off"),
    ("GOTOOLCHAIN", "local"),
    ("GO111MODULE", "on"),
];
/// The environment variable that names a `blocksd` to test in place of [`UNDER_TEST`].
const BINARY_NAMED: &str = "BLOCKSD";
/// The binary of this package that runs `blocksd`. Cargo builds it with the tests, so it is up to date.
const UNDER_TEST: &str = "blocksd-under-test";

/// `blocksd` with these arguments.
///
/// # Panics
/// If it is not built.
pub fn blocksd(args: &[&str]) -> Command {
    let binary = std::env::var_os(BINARY_NAMED).map_or_else(beside, PathBuf::from);
    let mut command = Command::new(binary);
    command.args(args).env_remove("RUST_LOG");
    command
}

/// One of the peers in `tests/peers`, which need only Python's standard library.
pub fn python(peer: &str, args: &[&str]) -> Command {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let mut command = Command::new("python3");
    // Unbuffered, and without writing bytecode files beside the sources.
    command
        .args(["-u", "-B"])
        .arg(peers.join(peer))
        .args(args)
        .env("PYTHONUTF8", "1");
    command
}

/// A third-party program: unpacked by `tests/peers/unpack`, or installed.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    root: &'static Path,
}

impl Program {
    /// Finds a program. If it is missing, reports that the test `name` is skipped.
    pub fn find(name: &str, program: &str) -> Option<Self> {
        let found = Self::locate(program);
        if let Err(reason) = &found {
            skipped(name, reason);
        }
        found.ok()
    }

    /// Finds a program.
    ///
    /// # Errors
    /// Why a test that needs it is skipped.
    pub fn locate(program: &str) -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let unpacked =
            ["usr/sbin", "usr/bin", "bin"].map(|folder| Path::new(UNPACKED).join(folder));
        // Debian installs services in folders that are not in the PATH of most users.
        let folders = unpacked.into_iter().chain(std::env::split_paths(&path));
        let mut files = folders
            .chain(["/usr/sbin".into()])
            .map(|folder| folder.join(program));
        let missing = || format!("`{program}` is missing; `tests/run` installs or unpacks it");
        let path = files.find(|file| file.is_file()).ok_or_else(missing)?;
        let is_unpacked = path.starts_with(UNPACKED);
        let root = Path::new(if is_unpacked { UNPACKED } else { "/" });
        Ok(Self { path, root })
    }

    /// The program itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the program's package, by its path in an installed package.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The command that runs the program.
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
            // The folders in which each program looks for its modules.
            let modules = self.file("/usr/lib").join(&system).join("rsyslog");
            let gensio = newest(&self.file("/usr/libexec").join(&system).join("gensio"));
            command
                .env("LD_LIBRARY_PATH", libraries)
                .env("RSYSLOG_MODDIR", modules)
                .env("GENSIO_LIBRARY_PATH", gensio)
                .env("SYSLOGNG_PREFIX", self.file("/usr"));
        }
        if self.path.ends_with("go") {
            let kept = Path::new(TARGET).join("tmp");
            command
                .envs(GO.iter().copied())
                .env("GOCACHE", kept.join("go-build"))
                .env("GOPATH", kept.join("go"));
        }
        command
    }
}

/// The folder of the newest version in `folder`; `folder` itself if it contains no versions.
fn newest(folder: &Path) -> PathBuf {
    let versions = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path()).max();
    newest.unwrap_or_else(|| folder.to_owned())
}

/// The folder of this build profile, `target/PROFILE`. Tests run from `deps` in it, examples from `examples`.
fn beside() -> PathBuf {
    let own = std::env::current_exe().expect("/proc is mounted");
    let mut above = own.ancestors().skip(1);
    let kind = above.next().and_then(Path::file_name);
    let profile = above.next().expect("a binary in `deps` or `examples`");
    let (name, package) = if kind.is_some_and(|kind| kind == "examples") {
        ("blocksd", "blocksd")
    } else {
        (UNDER_TEST, "blocksd-tests")
    };
    let binary = profile.join(name);
    let release = if cfg!(debug_assertions) {
        ""
    } else {
        " --release"
    };
    assert!(
        binary.exists(),
        "{} is missing: run `cargo build -p {package}{release}`, or set {BINARY_NAMED} to a `blocksd`",
        binary.display()
    );
    binary
}
