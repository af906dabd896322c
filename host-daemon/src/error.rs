//! Errors of commands: one line for a person, and an exit code for a program. Start with [`CommandError`].

mod ca;
mod code;
#[cfg(feature = "nats")]
mod forward;
mod from;
mod session;
mod stream;
mod tls;
mod words;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use blocksd_recording::Error as RecordingError;
use framing_core::{AnyFraming, Fault, Refusal};

pub use self::ca::CaError;
pub use self::code::Code;
#[cfg(feature = "nats")]
pub use self::forward::ForwardError;
pub use self::session::{KeptIn, SessionEnd, SessionError, SpoolFault};
pub use self::stream::ReadStreamError;
pub use self::tls::{TlsCause, TlsError, TlsSetupError, is_final};
pub(crate) use self::words::with_causes;
use self::words::{duplicate, not_exported, not_whole, unrecorded};

use crate::config::error::ConfigError;

/// Why a command failed. The message is one line that includes the cause, which is also the
/// [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// An address that cannot be listened on.
    #[error(
        "cannot listen on {address}: {error}{}",
        words::listen_hint(address, error)
    )]
    Listen {
        /// The address as it was given.
        address: String,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// Files of TLS that cannot be used.
    #[error("TLS of {address}: {}", with_causes(&**error))]
    Tls {
        /// The address of the server.
        address: String,
        /// The error of the files.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A cluster that the recording cannot be forwarded to.
    #[cfg(feature = "nats")]
    #[error("forward to {to}: {error}")]
    Forward {
        /// The servers.
        to: String,
        /// The reason.
        #[source]
        error: ForwardError,
    },
    /// An address that cannot be reached.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// The address as it was given.
        address: String,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// A daemon that did not answer a request, or refused it.
    #[error("{url}: {reason}")]
    Request {
        /// The address of the daemon.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// A file that cannot be written, renamed or removed.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// A recording that cannot be read, written or locked.
    #[error("{}", with_causes(.0))]
    Recording(#[source] RecordingError),
    /// The program cannot start: no thread, no signal handler.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// Two listeners, or a listener and the metrics, on one address.
    #[error("{}", duplicate(first, again))]
    Duplicate {
        /// The address as it was given first.
        first: String,
        /// The address as it was given again.
        again: String,
    },
    /// A directory of recordings that a daemon is writing to.
    #[error("a daemon is recording to {}; stop it first", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A file that a daemon is writing.
    #[error("a daemon is writing {}; stop it first, or copy what is complete with --output FILE", path.display())]
    BeingWritten {
        /// The file.
        path: PathBuf,
    },
    /// A selection of recorded messages that cannot match: a device that is not in the recording, or an empty range.
    #[error("{0}")]
    Selection(String),
    /// A config file that `serve` cannot follow.
    #[error("{0}")]
    Config(#[source] Box<ConfigError>),
    /// A recording without intact data.
    #[error("{} has no intact data to recover; it was not changed", path.display())]
    NothingWhole {
        /// The file.
        path: PathBuf,
    },
    /// Torn files of a directory that could not be repaired. The reasons are in the log.
    #[error("{files} of {of} torn files could not be repaired; they were not changed")]
    Unrepaired {
        /// Number of these files.
        files: u64,
        /// Number of torn files.
        of: u64,
    },
    /// A torn file whose intact data does not make a sound recording. It was not changed.
    #[error(
        "the intact data of {} does not make a sound recording ({findings} findings, the first: {first}); please report \
         this, and keep the file",
        path.display()
    )]
    UnsoundRepair {
        /// The file.
        path: PathBuf,
        /// Number of findings in the repaired file.
        findings: u64,
        /// The first of them.
        first: String,
    },
    /// Recordings that are not sound. Each finding was reported before.
    #[error("{files} of {of} files are not sound")]
    Unsound {
        /// Number of these files.
        files: u64,
        /// Number of files that were checked.
        of: u64,
    },
    /// Sessions with numbers that are missing, or that stand twice. Each was reported before.
    #[error("{sessions} of {of} sessions are not sound")]
    UnsoundSessions {
        /// Number of these sessions.
        sessions: u64,
        /// Number of sessions that were checked.
        of: u64,
    },
    /// Connections of a replay that were cut off. Each was reported before.
    #[error("the peer did not accept all messages of {connections} of {of} connections")]
    CutOff {
        /// Number of these connections.
        connections: usize,
        /// Number of connections that were opened.
        of: usize,
    },
    /// Messages that a replay cannot send. The reasons were reported before.
    #[error("recorded messages that were not sent: {messages}")]
    Unsent {
        /// Number of these messages.
        messages: u64,
    },
    /// A replay that needs more connections at once than the system permits.
    #[error(
        "the recording has more than {open} connections open at once, and the system permits {descriptors} open files; \
         raise the hard limit (`ulimit -Hn`), or replay fewer devices (--device)"
    )]
    TooManyConnections {
        /// Number of connections that are open.
        open: usize,
        /// The limit on open file descriptors.
        descriptors: u64,
    },
    /// An address that cannot be reached any more.
    #[error("cannot connect to {address} again: {error}")]
    Reconnect {
        /// The address as it was given.
        address: String,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// A command that a signal has ended early.
    #[error("interrupted")]
    Interrupted,
    /// Recordings with lost data. Each lost range, and each file that cannot be read, was reported before.
    #[error("{}", not_whole(*lost, *unread))]
    NotWhole {
        /// Number of bytes that are lost.
        lost: u64,
        /// Number of files that cannot be read.
        unread: u64,
    },
    /// A format that this build of the program was made without.
    #[error(
        "this build of blocksd cannot write {format}; the builds of a release can, and those of `cargo install --locked --path host-daemon --features {feature}`"
    )]
    NotBuilt {
        /// The format.
        format: &'static str,
        /// The feature of the package that adds it.
        feature: &'static str,
    },
    /// A command that this build of the program was made without.
    #[error(
        "this build of blocksd has no command `{command}`; the builds of a release have it, and those of `cargo install --locked --path host-daemon --features {feature}`"
    )]
    CommandNotBuilt {
        /// The command.
        command: &'static str,
        /// The feature of the package that adds it.
        feature: &'static str,
    },
    /// An option that this build of the program was made without.
    #[error(
        "this build of blocksd has no option --{option}; the builds of a release have it, and those of `cargo install --locked --path host-daemon --features {feature}`"
    )]
    OptionNotBuilt {
        /// The option.
        option: &'static str,
        /// The feature of the package that adds it.
        feature: &'static str,
    },
    /// A command that needs a terminal.
    #[error("`{command}` needs a terminal; for a file or a pipe, use {instead}")]
    NoTerminal {
        /// The command.
        command: &'static str,
        /// What does not need one.
        instead: &'static str,
    },
    /// A file that a command would overwrite.
    #[error("{} exists; choose another --out, or overwrite it with --force", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Messages or values that were not exported. The reasons were reported before.
    #[error("{}", not_exported(*messages, *values))]
    NotExported {
        /// Number of these messages.
        messages: u64,
        /// Number of these values.
        values: u64,
    },
    /// A command that does not work with this framing.
    #[error("`{command}` does not support the framing {framing}; use `serve` and `send` instead")]
    Framing {
        /// The command.
        command: &'static str,
        /// The framing.
        framing: AnyFraming,
    },
    /// A file that the framing cannot carry.
    #[error("{} cannot be sent in {framing}: {refusal}", path.display())]
    Unsendable {
        /// The file.
        path: PathBuf,
        /// The framing.
        framing: AnyFraming,
        /// The reason.
        #[source]
        refusal: Refusal,
    },
    /// A file that is longer than the longest message of the framing.
    #[error(
        "{} has {len} bytes, and the longest message of this framing has {max}; choose another framing",
        path.display()
    )]
    FileTooLong {
        /// The file.
        path: PathBuf,
        /// Its length, in bytes.
        len: u64,
        /// Length of the longest message, in bytes.
        max: u32,
    },
    /// An unknown command.
    #[error("unknown command `{0}`; `blocksd --help` lists the commands")]
    NoCommand(String),
    /// Options that exclude each other.
    #[error("{one} cannot be combined with {other}")]
    Conflict {
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A message that the framing cannot carry.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A line of standard input that the framing cannot carry.
    #[error("line {number} of standard input: {refusal}")]
    RefusedLine {
        /// Number of the line, from 1.
        number: u64,
        /// The reason.
        #[source]
        refusal: Refusal,
    },
    /// The received bytes are not a message.
    #[error("{0}")]
    Fault(#[source] Fault),
    /// The peer closed in the middle of a message.
    #[error("socket closed {have} bytes into a {want}-byte message")]
    Closed {
        /// Bytes of the message that were received.
        have: u32,
        /// Length of the message, in bytes.
        want: u32,
    },
    /// The connection failed.
    #[error("connection failed: {0}")]
    Connection(#[source] io::Error),
    /// A command that failed after a part of its work.
    #[error("{failure}; {done}")]
    Partly {
        /// The reason.
        #[source]
        failure: Box<Self>,
        /// The part of the work that was done.
        done: String,
    },
    /// Standard output cannot be written.
    #[error("cannot write standard output: {0}")]
    Output(#[source] io::Error),
    /// Standard output is a pipe whose reader has closed it. This is not a failure.
    #[error("the reader of standard output has closed it")]
    BrokenPipe,
    /// The reader of standard output has closed it, and the messages go nowhere else.
    #[error(
        "standard output was closed by its reader, and nothing is recorded; received and not shown: {lost}; use --record \
         DIR, or --output none"
    )]
    OutputClosed {
        /// The number of events that were received and not shown.
        lost: String,
    },
    /// Standard output cannot be written, and the messages go nowhere else.
    #[error(
        "cannot write standard output, and nothing is recorded: {error}; received and not shown: {lost}"
    )]
    OutputFailed {
        /// The error of the system.
        #[source]
        error: io::Error,
        /// The number of events that were received and not shown.
        lost: String,
    },
    /// Standard output did not accept the last events in time, and they go nowhere else.
    #[error(
        "standard output did not accept the last events in time, and nothing is recorded; received and not shown: {lost}"
    )]
    OutputStuck {
        /// The number of events that were received and not shown.
        lost: String,
    },
    /// The disk did not accept all messages that were received.
    #[error(
        "recording incomplete: {} received messages are not recorded",
        unrecorded(*least, *most)
    )]
    Unrecorded {
        /// The least number of received messages that are in no file.
        least: u64,
        /// The greatest number, with all messages that the disk has not confirmed.
        most: u64,
    },
    /// The stream of a cluster that is not read.
    #[error("{0}")]
    ReadStream(#[from] ReadStreamError),
    /// TLS cannot be set up.
    #[error("{0}")]
    ClientTls(#[from] TlsSetupError),
    /// A session that did not deliver everything.
    #[error("{0}")]
    Session(#[from] SessionError),
    /// A certificate authority that refuses something, or failed.
    #[error("{0}")]
    Ca(#[from] CaError),
    /// Any other I/O error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The emulated board did not start, or did not end its series. Its script has reported the reason.
    #[error("the emulated board did not start, or did not end its series")]
    Board,
    /// The recorder of the demo did not start, or did not end as it should.
    #[error("the recorder of the demo failed: {reason}")]
    Recorder {
        /// The last line of its log, or how it ended.
        reason: String,
    },
    /// The demo has lost messages.
    #[error("the counts of sent and kept messages differ")]
    Unbalanced,
}

impl CommandError {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code() as u8)
    }

    /// The error of a failed write to standard output.
    #[must_use]
    pub fn stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::Output(error)
        }
    }

    /// The error of a daemon whose received messages go only to standard output. `lost` is the number of those that were not
    /// shown. Without a cause, the output did not accept them in time.
    #[must_use]
    pub fn only_output(lost: String, cause: Option<io::Error>) -> Self {
        match cause {
            None => Self::OutputStuck { lost },
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Self::OutputClosed { lost },
            Some(error) => Self::OutputFailed { error, lost },
        }
    }

    /// The error of an address that cannot be listened on.
    #[must_use]
    pub fn listen(address: SocketAddr, error: io::Error) -> Self {
        Self::Listen {
            address: address.to_string(),
            error,
        }
    }
}

#[cfg(test)]
mod tests;
