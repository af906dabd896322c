//! Runs the examples `write`, `tail` and `recover` like a user: writes a log, prints it while it grows, kills the
//! writer, and recovers the torn file. `cargo test -p blocksd-recording` builds the examples.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest duration of any step of a test.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The program of an example: `examples/NAME` next to `deps/TEST`.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(
        program.exists(),
        "{} is not built; run `cargo test -p blocksd-recording` without `--test`",
        program.display()
    );
    Command::new(program)
}

/// A running example. It is killed when dropped.
struct Running(Child);

impl Running {
    fn start(name: &str, folder: &Path) -> Self {
        let mut command = example(name);
        let command = command.arg(folder).stdin(Stdio::piped());
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `tail`, and the lines that it prints.
struct Tail {
    _process: Running,
    lines: Receiver<String>,
}

impl Tail {
    fn start(folder: &Path) -> Self {
        let mut process = Running::start("tail", folder);
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self {
            _process: process,
            lines,
        }
    }

    /// Waits for the next lines.
    fn take(&self, count: usize) -> Vec<String> {
        let next = |_| self.lines.recv_timeout(TIMEOUT).expect("a line of tail");
        (0..count).map(next).collect()
    }
}

/// The line that `tail` prints for message `number` of a test.
fn printed(number: usize) -> String {
    format!("/lines {number} \"message {number}\"")
}

/// Writes a complete log with this number of messages, then runs `recover`.
fn write(folder: &Path, count: usize) -> Output {
    let mut writer = Running::start("write", folder);
    let mut input = writer.0.stdin.take().unwrap();
    for number in 0..count {
        writeln!(input, "message {number}").unwrap();
    }
    drop(input);
    let status = writer.0.wait().unwrap();
    assert!(status.success(), "{status}");
    example("recover").arg(folder).output().unwrap()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_wanted = |path: &PathBuf| path.extension().is_some_and(|it| it == extension);
    paths.filter(is_wanted).collect()
}

#[test]
fn tail_prints_what_write_wrote() {
    let folder = TempDir::new().unwrap();
    let recovered = write(folder.path(), 100);
    assert_eq!(files(folder.path(), "mcap").len(), 1);
    assert_eq!(files(folder.path(), "part").len(), 0);
    let want: Vec<_> = (0..100).map(printed).collect();
    assert_eq!(Tail::start(folder.path()).take(100), want);
    // No file is torn.
    assert!(recovered.status.success() && recovered.stdout.is_empty());
}

#[test]
fn recover_keeps_what_tail_printed_before_the_writer_was_killed() {
    let folder = TempDir::new().unwrap();
    let tail = Tail::start(folder.path());
    let mut writer = Running::start("write", folder.path());
    let mut input = writer.0.stdin.take().unwrap();
    let (begin, mut sent, mut shown) = (Instant::now(), 0, Vec::new());
    // The example commits when a line arrives.
    while shown.len() < 3 {
        assert!(begin.elapsed() < TIMEOUT, "tail printed only {shown:?}");
        writeln!(input, "message {sent}").unwrap();
        sent += 1;
        shown.extend(tail.lines.recv_timeout(Duration::from_millis(20)));
    }
    writer.kill();
    let part = files(folder.path(), "part").pop().expect("a torn file");
    let torn = OpenOptions::new().write(true).open(&part).unwrap();
    // Cut within the index after the last chunk.
    torn.set_len(torn.metadata().unwrap().len() - 3).unwrap();

    let recovered = example("recover").arg(folder.path()).output().unwrap();
    assert!(recovered.status.success(), "{recovered:?}");
    let said = String::from_utf8(recovered.stdout).unwrap();
    assert!(said.starts_with(part.to_str().unwrap()), "{said}");
    assert!(!said.contains("lost 0 bytes"), "{said}");
    assert!(!part.exists());
    assert_eq!(files(folder.path(), "mcap").len(), 1);
    let kept = Tail::start(folder.path()).take(shown.len());
    assert_eq!(kept, shown);
    assert_eq!(kept, (0..shown.len()).map(printed).collect::<Vec<_>>());
}
