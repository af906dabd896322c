//! Compares the help of every command, and the errors of wrong command lines and config files, with the transcripts in
//! `tests/golden`.
//!
//! To accept a change: `BLOCKSD_TEST_ACCEPT=1 cargo test -p blocksd-tests --test it -- transcripts::`

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use blocksd::cli::Cli;
use blocksd_tests::golden::assert_golden;
use blocksd_tests::process::{blocksd, finish};
use blocksd_tests::subcommands::subcommands;
use clap::CommandFactory;
use tempfile::TempDir;

#[test]
fn the_help_of_every_command_matches_the_transcript() {
    let shell = Shell::new();
    let mut text = String::from("# The help of every command. Written by `transcripts::`.\n");
    let program = Cli::command();
    let commands = subcommands(&program).into_iter();
    let commands = commands.map(|(name, _)| format!("blocksd {name} --help"));
    let all = ["blocksd --help", "blocksd -h", "blocksd serve -h"];
    for line in all.into_iter().map(str::to_owned).chain(commands) {
        shell.transcribe(&line, &mut text);
    }
    assert_golden("help.txt", text);
}

/// Runs the commands in `mistakes.txt`. To add a case, add a line that begins with `$`, and accept the output.
#[test]
fn the_error_of_every_mistake_matches_the_transcript() {
    const FILE: &str = "mistakes.txt";
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(FILE);
    let shell = Shell::new();
    let (mut text, mut mistakes) = (String::new(), 0);
    for line in fs::read_to_string(file).unwrap().lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            mistakes += usize::from(shell.transcribe(command, &mut text) != 0);
        } else if line.starts_with('#') {
            let last = text.lines().last().unwrap_or("#");
            let space = if last.starts_with('#') { "" } else { "\n" };
            writeln!(text, "{space}{line}").unwrap();
        }
    }
    assert!(mistakes > 90, "only {mistakes} commands failed");
    assert_golden(FILE, text);
}

/// A temporary folder in which commands run one after another.
struct Shell(TempDir);

impl Shell {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        let program = folder.path().join("bin/blocksd");
        symlink(blocksd(&[]).get_program(), program).unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        Self(folder)
    }

    /// Runs a command. Appends the command, its exit code if it is not 0, and its output to `text`. Returns the exit code.
    fn transcribe(&self, line: &str, text: &mut String) -> i32 {
        let mut command = Command::new("sh");
        let path = std::env::var("PATH").unwrap();
        let program = self.0.path().join("bin");
        command
            .args(["-c", &format!("exec 2>&1; {line}")])
            .current_dir(self.0.path().join("work"))
            .env("PATH", format!("{}:{path}", program.display()))
            .env("LC_ALL", "C")
            .env_remove("RUST_LOG")
            .env_remove("COLUMNS");
        let ended = finish(command, b"");
        let code = ended.code.expect("an exit code, not a signal");
        writeln!(text, "\n$ {line}").unwrap();
        if code != 0 {
            writeln!(text, "? {code}").unwrap();
        }
        text.push_str(&ended.stdout_text());
        code
    }
}
