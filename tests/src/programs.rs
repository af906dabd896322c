//! The programs that tests run: the daemon, built once, and Python peers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// `blocksd` with these arguments, built once for all tests.
pub fn blocksd(args: &[&str]) -> Command {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BINARY.get_or_init(build).as_ref();
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

fn build() -> Result<PathBuf, String> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--package", "host-daemon", "--bin", "blocksd"])
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
