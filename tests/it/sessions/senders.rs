//! The senders of these tests, one for each language. Start with [`Language::start`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};

use blocksd_tests::process::{Process, finish};
use blocksd_tests::skip::{ran, skipped};
use tempfile::TempDir;

use super::link;

/// Options of the C compiler: no warning is accepted.
const C_OPTIONS: [&str; 7] = [
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    "-Wconversion",
    "-g",
];
/// Options with which a bad access and undefined behaviour end the program.
const C_SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover"];

/// The command in Python, from the folder of the tests.
pub(super) const PYTHON_SENDER: &str = "../docs/send-from/python/blocks_session.py";

/// A sender of lines.
#[derive(Debug)]
pub(super) enum Language {
    /// `framing_core::blocking::Link`, in a thread.
    Rust,
    /// `docs/send-from/python/blocks_session.py`.
    Python,
    /// `docs/send-from/c/send.c`.
    C(Compiled),
}

/// A program in C.
#[derive(Debug)]
pub(super) struct Compiled(TempDir);

/// How a sender is started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Length of the ring, in bytes.
    pub(super) room: u32,
    pub(super) drop_oldest: bool,
    /// When it gives up after the end of its input, in s.
    pub(super) timeout_s: u32,
}

/// A sender that runs.
pub(super) enum Sending {
    Process(Process),
    Thread(JoinHandle<i32>),
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            room: 65_536,
            drop_oldest: false,
            timeout_s: 60,
        }
    }
}

impl Language {
    /// Runs `check` with each language, at the same time. Reports that the test `name` is skipped for those that this machine
    /// cannot run.
    #[track_caller]
    pub(super) fn each(name: &str, check: impl Fn(&Self) + Sync) {
        let mut all = vec![Self::Rust, Self::Python];
        all.extend(Compiled::new(name, "docs/send-from/c/send.c").map(Self::C));
        let check = &check;
        thread::scope(|scope| {
            for language in &all {
                scope.spawn(move || check(language));
            }
        });
    }

    /// Starts a sender of these messages.
    pub(super) fn start(&self, to: SocketAddr, messages: &[String], setup: Setup) -> Sending {
        let (to, room) = (to.to_string(), setup.room.to_string());
        let timeout = setup.timeout_s.to_string();
        let mut command = match self {
            Self::Rust => {
                let messages = messages.to_owned();
                let send = move || link::send(&to, &messages, setup);
                return Sending::Thread(thread::spawn(send));
            }
            Self::Python => {
                let mut command = Command::new("python3");
                command.args(["-B", PYTHON_SENDER]);
                command.args(["--backoff-max", "0.1", "--room", &room]);
                command.args(["--timeout", &timeout]);
                command.args(setup.drop_oldest.then_some("--drop-oldest"));
                command
            }
            Self::C(program) => {
                let mut command = program.command();
                command.args(["-b", "100", "-r", &room, "-t", &timeout]);
                command.args(setup.drop_oldest.then_some("-d"));
                command
            }
        };
        command.args([&*to, "device-1"]);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        let mut process = Process::start(command);
        process.write((messages.join("\n") + "\n").as_bytes());
        Sending::Process(process)
    }
}

impl Compiled {
    /// Compiles a program. Reports that the test `name` is skipped for it if there is no compiler.
    ///
    /// # Panics
    /// If the compiler refuses the source.
    #[track_caller]
    pub(super) fn new(name: &str, source: &str) -> Option<Self> {
        Self::with(name, source, &[])
    }

    /// Compiles a program with `BLOCKS_TLS`. Reports that the test `name` is skipped for it if OpenSSL's headers are missing, too.
    ///
    /// # Panics
    /// If the compiler refuses the source.
    #[track_caller]
    pub(super) fn within_tls(name: &str, source: &str) -> Option<Self> {
        let mut cc = Command::new("cc");
        cc.args(["-E", "-x", "c", "-include", "openssl/ssl.h", "/dev/null"]);
        if cc.output().is_ok_and(|output| !output.status.success()) {
            skipped(name, "OpenSSL's headers are missing (`libssl-dev`)");
            return None;
        }
        Self::with(name, source, &["-DBLOCKS_TLS", "-lssl", "-lcrypto"])
    }

    #[track_caller]
    fn with(name: &str, source: &str, last: &[&str]) -> Option<Self> {
        let program = Self(TempDir::new().expect("a folder for temporary files"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(source);
        let compile = |more: &[&str]| {
            let mut cc = Command::new("cc");
            cc.args(C_OPTIONS).args(more).arg("-o").arg(program.path());
            cc.arg(&source).args(last).output()
        };
        let Ok(sanitized) = compile(&C_SANITIZERS) else {
            skipped(name, "there is no C compiler `cc`");
            return None;
        };
        if !sanitized.status.success() {
            let plain = compile(&[]).expect("a compiler");
            let errors = String::from_utf8_lossy(&plain.stderr);
            assert!(plain.status.success(), "{errors}");
            ran(name, "the program in C without sanitizers");
        }
        Some(program)
    }

    /// The command that runs the program.
    pub(super) fn command(&self) -> Command {
        Command::new(self.path())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("program")
    }
}

impl Sending {
    /// Waits until it ends. Returns its exit code.
    #[track_caller]
    pub(super) fn end(self) -> i32 {
        match self {
            Self::Thread(thread) => thread.join().expect("the sender does not panic"),
            Self::Process(process) => {
                let ended = process.end();
                eprintln!("{}", ended.stderr);
                ended.code.expect("no signal ends it")
            }
        }
    }

    /// Waits until it ends, and asserts that the host has acknowledged everything.
    #[track_caller]
    pub(super) fn assert_acknowledged(self) {
        assert_eq!(self.end(), 0);
    }
}

/// The messages from 0.
pub(super) fn messages(count: usize) -> Vec<String> {
    (0..count).map(|it| format!("message {it}")).collect()
}

#[test]
fn bad_arguments_of_the_sender_in_python_are_one_line() {
    for (args, what) in [
        (&["somewhere", "device-1"][..], "HOST:PORT"),
        (&["localhost:port", "device-1"], "HOST:PORT"),
        (&["localhost:65536", "device-1"], "HOST:PORT"),
        (&["localhost:1060", "gr\u{f6}\u{df}e"], "device id"),
        (&["localhost:1060", "device-1", "--room", "-1"], "ring"),
        (
            &["localhost:1060", "device-1", "--backoff-max", "nan"],
            "seconds",
        ),
        (&["localhost:1060"], "DEVICE"),
    ] {
        let mut command = Command::new("python3");
        command.args(["-B", PYTHON_SENDER]);
        command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
        finish(command, b"").assert_refused(2, what);
    }
}
