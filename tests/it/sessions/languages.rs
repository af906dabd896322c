//! The programs of `docs/send-from` that send lines: one entry of [`PROGRAMS`] for each language.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use blocksd_tests::skip::skipped;

use super::arduino::sketch;
use super::compiled::{c, root};
use super::go::go;
use super::senders::Setup;

/// Finds or compiles a program. Returns the command that runs it, or why it cannot run here.
type Prepare = fn() -> Result<Vec<OsString>, String>;
/// A command, or why it cannot run here.
type Prepared = LazyLock<Result<Vec<OsString>, String>, Prepare>;

type Arguments = &'static [&'static str];
type Variables = &'static [(&'static str, &'static str)];

/// A program that sends each line of its standard input.
pub(super) struct SenderProgram {
    /// The language.
    pub(super) name: &'static str,
    sender: Prepared,
    spelling: Spelling,
    framer: Framer,
    /// Whether it sends over TLS.
    has_tls: bool,
    /// The command that sends over TLS, if it is not the sender.
    tls_sender: Option<Prepared>,
    /// Arguments and variables with which it speaks no TLS 1.3, besides the configuration of OpenSSL.
    old_tls: (Arguments, Variables),
    /// Whether it ends a connection over TLS with `close_notify`.
    pub(super) sends_close_notify: bool,
    /// Whether its command is for users, and not one of the tests.
    is_command: bool,
}

/// The names of the options.
#[derive(Clone, Copy)]
enum Spelling {
    /// Those of the program in C, which reads no long ones.
    Short,
    Long,
}

/// The command that frames lines without a session.
enum Framer {
    None,
    /// The sender, with `--frame`.
    Sender,
    Other(Prepared),
    /// A command for `cobs-crc32` only.
    Checked(Prepared),
}

/// All of them.
static PROGRAMS: [SenderProgram; 9] = [
    SenderProgram {
        name: "C",
        sender: LazyLock::new(|| one(c("docs/send-from/c/send.c", &[]))),
        spelling: Spelling::Short,
        framer: Framer::Other(LazyLock::new(|| one(c("docs/send-from/c/frame.c", &[])))),
        has_tls: true,
        tls_sender: Some(LazyLock::new(c_with_tls)),
        old_tls: (&[], &[]),
        sends_close_notify: true,
        is_command: true,
    },
    SenderProgram::script("Python", Framer::Sender, || {
        let path = root("docs/send-from/python/blocks_session.py");
        Ok(vec!["python3".into(), "-B".into(), path.into()])
    }),
    SenderProgram::script("MicroPython in CPython", Framer::Sender, || {
        let path = root("tests/peers/micropython_lines.py");
        Ok(vec!["python3".into(), "-B".into(), path.into()])
    })
    .into_library()
    .without_close_notify(),
    SenderProgram::script("MicroPython", Framer::Sender, micropython)
        .into_library()
        .without_tls(),
    SenderProgram::script("Node.js", Framer::Sender, || {
        let path = root("docs/send-from/node/blocks_session.cjs");
        match Command::new("node").arg("--version").output() {
            Ok(_) => Ok(vec!["node".into(), path.into()]),
            Err(_) => Err("`node` is missing".to_owned()),
        }
    })
    .old_tls_with(&[], &[("NODE_OPTIONS", "--tls-max-v1.2")]),
    SenderProgram::script("Go", Framer::Sender, || {
        one(go(&root("docs/send-from/go"), "./cmd/send"))
    })
    .old_tls_with(&["--tls-max", "1.2"], &[]),
    SenderProgram::script(
        "Arduino with Wi-Fi",
        Framer::Checked(LazyLock::new(|| {
            one(sketch("tests/peers/arduino/serial_lines.cpp", &[]))
        })),
        || one(sketch("tests/peers/arduino/session_lines.cpp", &[])),
    )
    .with_short_options(),
    SenderProgram::script("Arduino with Ethernet", Framer::None, || {
        let source = "tests/peers/arduino/session_lines.cpp";
        one(sketch(source, &["-DWITH_ETHERNET"]))
    })
    .with_short_options(),
    SenderProgram::script("C with POSIX sockets", Framer::None, || {
        one(c("tests/peers/socket_lines.c", &[]))
    })
    .with_short_options(),
];

impl SenderProgram {
    /// A program with long options.
    const fn script(name: &'static str, framer: Framer, prepare: Prepare) -> Self {
        Self {
            name,
            sender: LazyLock::new(prepare),
            spelling: Spelling::Long,
            framer,
            has_tls: true,
            tls_sender: None,
            old_tls: (&[], &[]),
            sends_close_notify: true,
            is_command: true,
        }
    }

    const fn into_library(mut self) -> Self {
        self.is_command = false;
        self
    }

    const fn without_tls(mut self) -> Self {
        self.has_tls = false;
        self
    }

    const fn without_close_notify(mut self) -> Self {
        self.sends_close_notify = false;
        self
    }

    const fn old_tls_with(mut self, arguments: Arguments, variables: Variables) -> Self {
        self.old_tls = (arguments, variables);
        self
    }

    /// Makes it a program with the options of that in C, and without TLS.
    const fn with_short_options(mut self) -> Self {
        self.spelling = Spelling::Short;
        self.has_tls = false;
        self
    }

    /// The programs that this machine can run. Reports that the test `name` is skipped for the others.
    pub(super) fn all(name: &str) -> Vec<&'static Self> {
        let all = PROGRAMS.iter();
        all.filter(|it| it.can_run(name, &it.sender)).collect()
    }

    /// As [`all`](Self::all), the programs that send over TLS.
    pub(super) fn all_with_tls(name: &str) -> Vec<&'static Self> {
        let all = PROGRAMS.iter().filter(|it| it.has_tls);
        all.filter(|it| it.can_run(name, it.tls_sender())).collect()
    }

    /// As [`all`](Self::all), the programs that frame lines, with the commands for a framing.
    pub(super) fn all_with_frames(name: &str, framing: &str) -> Vec<(&'static Self, Command)> {
        let all = Self::all(name).into_iter();
        all.filter_map(|it| Some((it, it.frame(framing)?)))
            .collect()
    }

    fn can_run(&self, name: &str, prepared: &Prepared) -> bool {
        if let Err(reason) = &**prepared {
            skipped(&format!("{name} ({})", self.name), reason);
        }
        prepared.is_ok()
    }

    fn tls_sender(&self) -> &Prepared {
        self.tls_sender.as_ref().unwrap_or(&self.sender)
    }

    /// The command that sends lines over a session.
    pub(super) fn send(&self, to: &str, device: &str, setup: Setup) -> Command {
        let mut command = command(&self.sender);
        let (room, timeout) = (setup.room.to_string(), setup.timeout_s.to_string());
        match self.spelling {
            Spelling::Short => {
                command.args(["-b", "100", "-r", &room, "-t", &timeout]);
                command.args(setup.drop_oldest.then_some("-d"));
            }
            Spelling::Long => {
                command.args(["--backoff-max", "0.1", "--room", &room]);
                command.args(["--timeout", &timeout]);
                command.args(setup.drop_oldest.then_some("--drop-oldest"));
            }
        }
        command.args([to, device]);
        command
    }

    /// The command with these arguments, if it reads long options.
    pub(super) fn with_long_options(&self, args: &[&str]) -> Option<Command> {
        let is_long = self.is_command && matches!(self.spelling, Spelling::Long);
        is_long.then(|| {
            let mut command = command(&self.sender);
            command.args(args);
            command
        })
    }

    /// The command that sends lines over TLS, with its times, and the names of its options: the authority, the certificate, the key,
    /// and the name of the host.
    pub(super) fn send_tls(&self, timeout_s: u32, backoff_ms: u32) -> (Command, [&'static str; 4]) {
        let mut command = command(self.tls_sender());
        match self.spelling {
            Spelling::Short => {
                command.args(["-t", &timeout_s.to_string()]);
                command.args(["-b", &backoff_ms.to_string()]);
                (command, ["-C", "-c", "-k", "-n"])
            }
            Spelling::Long => {
                let backoff_s = f64::from(backoff_ms) / 1e3;
                command.args(["--timeout", &timeout_s.to_string()]);
                command.args(["--backoff-max", &backoff_s.to_string()]);
                let names = ["--tls-ca", "--tls-cert", "--tls-key", "--tls-name"];
                (command, names)
            }
        }
    }

    /// Leaves TLS 1.3 out.
    pub(super) fn without_tls_1_3(&self, command: &mut Command) {
        let (args, variables) = self.old_tls;
        command.args(args).envs(variables.iter().copied());
    }

    fn frame(&self, framing: &str) -> Option<Command> {
        let mut frame = match &self.framer {
            Framer::None => return None,
            Framer::Sender => command(&self.sender),
            Framer::Other(framer) => command(framer),
            Framer::Checked(framer) if framing == "cobs-crc32" => command(framer),
            Framer::Checked(_) => return None,
        };
        let option = matches!(self.framer, Framer::Sender).then_some("--frame");
        frame.args(option).arg(framing);
        Some(frame)
    }
}

fn command(prepared: &Result<Vec<OsString>, String>) -> Command {
    let [program, args @ ..] = &prepared.as_ref().expect("it can run")[..] else {
        unreachable!("a command names a program");
    };
    let mut command = Command::new(program);
    command.args(args).env("PYTHONUTF8", "1");
    command
}

/// A command without arguments.
fn one(program: Result<PathBuf, String>) -> Result<Vec<OsString>, String> {
    Ok(vec![program?.into()])
}

/// The interpreter, compiled to WebAssembly.
fn micropython() -> Result<Vec<OsString>, String> {
    let modules = root("target/node/node_modules");
    if !modules.join("@micropython").is_dir() {
        return Err("MicroPython is missing; `tests/run` installs it with npm".to_owned());
    }
    let script = root("tests/peers/micropython.mjs");
    let modules = modules.canonicalize().expect("a folder");
    Ok(vec!["node".into(), script.into(), modules.into()])
}

fn c_with_tls() -> Result<Vec<OsString>, String> {
    let mut cc = Command::new("cc");
    cc.args(["-E", "-x", "c", "-include", "openssl/ssl.h", "/dev/null"]);
    if cc.output().is_ok_and(|output| !output.status.success()) {
        return Err("OpenSSL's headers are missing (`libssl-dev`)".to_owned());
    }
    let last = ["-DBLOCKS_TLS", "-lssl", "-lcrypto"];
    one(c("docs/send-from/c/send.c", &last))
}
