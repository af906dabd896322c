//! Environment variables that the program or one of its libraries reads.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use blocksd_tests::process::blocksd;

use super::Names;

/// Environment variables that libraries read, with words of our sources that cause it.
const LIBRARIES: [(&str, &[&str]); 5] = [
    ("watchdog_enabled", &["WATCHDOG_PID", "WATCHDOG_USEC"]),
    ("ListenFd::from_env", &["LISTEN_FDS", "LISTEN_PID"]),
    ("temp_dir", &["TMPDIR"]),
    (
        "Backtrace::capture",
        &["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"],
    ),
    ("new_multi_thread", &["TOKIO_WORKER_THREADS"]),
];

/// Environment variables named in our sources, and those that the used libraries read.
pub(super) fn names(names: &mut Names) {
    let mut found = BTreeSet::new();
    let mut text = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-daemon");
    for folder in ["src", "engine/src", "recording/src"] {
        sources(&root.join(folder), &mut text);
    }
    for call in text.split("env::var").skip(1) {
        let argument = call.trim_start_matches("_os").trim_start_matches('(');
        let argument = argument.split(')').next().unwrap();
        let constant = argument.rsplit("::").next().unwrap();
        let constant = format!("const {constant}: &str = ");
        let literal = match argument.starts_with('"') {
            true => Some(argument),
            false => text.split(&constant).nth(1),
        };
        let variable = literal.and_then(|literal| literal.split('"').nth(1));
        found.insert(variable.unwrap_or_else(|| panic!("unknown variable {argument}")));
    }
    assert!(found.contains("RUST_LOG"), "{found:?}");
    for (word, variables) in LIBRARIES {
        assert!(
            text.contains(word),
            "`{word}` is no longer used; remove it from the list"
        );
        found.extend(variables);
    }
    // The binary contains them as strings, except that an optimizer may turn short ones into immediates.
    let is_string = |variable: &str| cfg!(debug_assertions) && variable.len() > 8;
    let binary = fs::read(blocksd(&[]).get_program()).unwrap();
    let is_letter = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
    let mut letters = String::new();
    for run in binary
        .split(|byte| !is_letter(byte))
        .filter(|run| run.len() > 8)
    {
        letters.extend(run.iter().map(|&byte| char::from(byte)));
        letters.push(' ');
    }
    for variable in found {
        assert!(
            !is_string(variable) || letters.contains(variable),
            "{variable} is not in the binary"
        );
        names.insert(format!("environment variable {variable}"));
    }
}

/// Appends all sources of a folder, if it exists.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
