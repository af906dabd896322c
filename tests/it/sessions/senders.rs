//! The senders of these tests, one for each language. Start with [`Language::start`].

use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use blocksd_tests::process::{Process, finish};

use super::languages::SenderProgram;
use super::link;

/// A sender of lines.
pub(super) enum Language {
    /// `framing_core::blocking::Link`, in a thread.
    Rust,
    /// A program of `docs/send-from`.
    Program(&'static SenderProgram),
}

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

impl Debug for Language {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Program(program) => program.name,
        })
    }
}

impl Language {
    /// Runs `check` with each language, at the same time. Reports that the test `name` is skipped for those that this machine
    /// cannot run.
    #[track_caller]
    pub(super) fn each(name: &str, check: impl Fn(&Self) + Sync) {
        let programs = SenderProgram::all(name).into_iter().map(Self::Program);
        let all: Vec<_> = std::iter::once(Self::Rust).chain(programs).collect();
        let check = &check;
        thread::scope(|scope| {
            for language in &all {
                scope.spawn(move || check(language));
            }
        });
    }

    /// Starts a sender of these messages.
    pub(super) fn start(&self, to: SocketAddr, messages: &[String], setup: Setup) -> Sending {
        let to = to.to_string();
        match self {
            Self::Rust => {
                let messages = messages.to_owned();
                let send = move || link::send(&to, &messages, setup);
                Sending::Thread(thread::spawn(send))
            }
            Self::Program(program) => {
                let mut process = Process::start(program.send(&to, "device-1", setup));
                process.write((messages.join("\n") + "\n").as_bytes());
                Sending::Process(process)
            }
        }
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
fn bad_arguments_of_the_senders_are_one_line() {
    let name = "bad_arguments_of_the_senders_are_one_line";
    for program in SenderProgram::all(name) {
        for (args, what) in [
            (&["somewhere", "device-1"][..], "HOST:PORT"),
            (&["localhost:port", "device-1"], "HOST:PORT"),
            (&["localhost:65536", "device-1"], "HOST:PORT"),
            (&["localhost:1060", "gr\u{f6}\u{df}e"], "device id"),
            (&["--room=-1", "localhost:1060", "device-1"], "-1"),
            (&["--backoff-max=nan", "localhost:1060", "device-1"], "nan"),
            (
                &["--tls-ca=missing", "localhost:1060", "device-1"],
                "missing",
            ),
            (
                &["--tls-name=other", "localhost:1060", "device-1"],
                "--tls-ca",
            ),
            (&["localhost:1060"], "DEVICE"),
        ] {
            if let Some(command) = program.with_long_options(args) {
                finish(command, b"").assert_refused(2, what);
            }
        }
    }
}
