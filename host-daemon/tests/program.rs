//! The binary `blocksd` is the program of the library: it runs a command, and returns the exit code of a wrong one. All
//! other tests of the program run `blocksd::program` from a binary of their own.

use std::process::{Command, Output};

fn blocksd(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blocksd"));
    command.args(args).output().unwrap()
}

#[test]
fn the_binary_runs_a_command() {
    let output = blocksd(&["--version"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let version = concat!("blocksd ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}

#[test]
fn the_binary_exits_with_2_after_a_wrong_command_line() {
    let output = blocksd(&["serve", "--lissten"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!output.stderr.is_empty(), "no message");
}
