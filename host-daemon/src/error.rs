//! Why a command could not do its work, as one line for a person and an exit code for a program.

mod code;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use framing_core::{AnyFraming, Fault, ReceiveError, Refusal, SendError};

pub use self::code::Code;

use crate::config::error::ConfigError;

/// Why a command ended without having done its work.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// An address that cannot be listened on.
    Listen {
        /// The address as it was given.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// An address that cannot be reached.
    Connect {
        /// The address as it was given.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// A file that cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file that cannot be written, renamed or removed.
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The folder to record to cannot be used.
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The program cannot start: no thread, no signal handler.
    Start(io::Error),
    /// Two listeners, or a listener and the metrics, on one address.
    Duplicate {
        /// The address as it was given first.
        first: String,
        /// The address as it was given again.
        again: String,
    },
    /// A directory of recordings that a daemon is writing to.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A config file that `serve` cannot follow.
    Config(Box<ConfigError>),
    /// A recording in which nothing is whole.
    NothingWhole {
        /// The file.
        path: PathBuf,
    },
    /// Torn files of a directory that could not be repaired. The reasons are in the log.
    Unrepaired {
        /// How many.
        files: u64,
        /// Of how many.
        of: u64,
    },
    /// A torn file of which a sound recording cannot be made. It stays as it is.
    UnsoundRepair {
        /// The file.
        path: PathBuf,
    },
    /// Recordings that are not sound; what is wrong with them was told.
    Unsound {
        /// How many.
        files: u64,
        /// Of how many.
        of: u64,
    },
    /// Devices whose replay was cut off; which ones was told.
    CutOff {
        /// How many.
        devices: usize,
        /// Of how many.
        of: usize,
    },
    /// Recordings that are not whole; where was told.
    NotWhole {
        /// Bytes that are lost.
        lost: u64,
    },
    /// A command that does not work with this framing.
    Framing {
        /// The command.
        command: &'static str,
        /// The framing.
        framing: AnyFraming,
    },
    /// A file that the framing cannot carry.
    Unsendable {
        /// The file.
        path: PathBuf,
        /// The framing.
        framing: AnyFraming,
        /// Why.
        refusal: Refusal,
    },
    /// There is no such command.
    NoCommand(String),
    /// Options that exclude each other.
    Conflict {
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A message that the framing cannot carry.
    Refused(Refusal),
    /// What came is no message.
    Fault(Fault),
    /// The peer closed before the conversation was over.
    Closed {
        /// Bytes of the message that had come.
        have: u32,
        /// Bytes that it needed.
        want: u32,
    },
    /// The connection failed.
    Connection(io::Error),
    /// An option whose bound depends on other options.
    OutOfBounds {
        /// The option.
        option: &'static str,
        /// Its value.
        given: u64,
        /// What it must be, and why.
        bound: String,
    },
    /// A command failed after a part of its work.
    Partly {
        /// Why it failed.
        failure: Box<Self>,
        /// What it had done.
        done: String,
    },
    /// Standard output cannot be written.
    Output(io::Error),
    /// Standard output is a pipe that nobody reads: not a failure.
    BrokenPipe,
    /// The reader of standard output is gone, and nothing else keeps what is received.
    OutputClosed,
    /// Standard output cannot be written to, and nothing else keeps what is received.
    OutputFailed(io::Error),
    /// Standard output did not take the last events in time, and nothing else keeps them.
    OutputStuck,
    /// The disk did not take all that was received.
    Unrecorded {
        /// Blocks that were received and are in no file, at least.
        least: u64,
        /// The same at most: those that the disk has not confirmed.
        most: u64,
    },
    /// Any other failure of input or output.
    Io(io::Error),
    /// The emulated board did not start, or did not end its series; it has said why on standard error.
    Board,
    /// The demonstration lost something.
    Unbalanced,
}

impl Failure {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code() as u8)
    }

    /// A failure to write to standard output.
    #[must_use]
    pub fn stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::Output(error)
        }
    }

    /// A failure to write to standard output where that is all that becomes of what is received.
    #[must_use]
    pub fn only_output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::OutputFailed(error)
        }
    }

    /// A failure to listen.
    #[must_use]
    pub fn listen(address: SocketAddr, error: io::Error) -> Self {
        Self::Listen {
            address: address.to_string(),
            error,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::Connect { address, error } => write!(f, "cannot connect to {address}: {error}"),
            Self::File { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            Self::Write { path, error } => write!(f, "cannot write {}: {error}", path.display()),
            Self::Folder { path, error } => {
                write!(f, "cannot record to {}: {error}", path.display())
            }
            Self::Start(error) => write!(f, "cannot start: {error}"),
            Self::Duplicate { first, again } if first == again => {
                write!(f, "{again} is given twice; remove one of them")
            }
            Self::Duplicate { first, again } => {
                write!(f, "{again} is the same address as {first}; remove one of them")
            }
            Self::Locked { path } => write!(
                f,
                "a daemon is recording to {}; stop it first",
                path.display()
            ),
            Self::Config(error) => error.fmt(f),
            Self::NoCommand(name) => {
                write!(
                    f,
                    "there is no command `{name}`; `blocksd --help` names them"
                )
            }
            Self::NothingWhole { path } => {
                write!(
                    f,
                    "nothing in {} is whole; it stays as it is",
                    path.display()
                )
            }
            Self::Unrepaired { files, of } => {
                write!(
                    f,
                    "{files} of {of} torn files could not be repaired; they are kept as they are"
                )
            }
            Self::UnsoundRepair { path } => {
                write!(
                    f,
                    "what is whole in {} does not make a sound recording; please report this, and keep the file",
                    path.display()
                )
            }
            Self::Unsound { files, of } => write!(f, "{files} of {of} files are not sound"),
            Self::CutOff { devices, of } => {
                write!(f, "the peer took not all of {devices} of {of} devices")
            }
            Self::NotWhole { lost } => write!(f, "{lost} bytes of the recording are lost"),
            Self::Framing { command, framing } => {
                write!(
                    f,
                    "`{command}` has no way with framing {framing}; use `serve` and `send`"
                )
            }
            Self::Unsendable {
                path,
                framing,
                refusal,
            } => {
                write!(
                    f,
                    "{} cannot be sent in {framing}: {refusal}",
                    path.display()
                )
            }
            Self::Unrecorded { least: 0, most } => write!(
                f,
                "recording incomplete: up to {most} received blocks are not recorded"
            ),
            Self::Unrecorded { least, most } => write!(
                f,
                "recording incomplete: at least {least} and up to {most} received blocks are not recorded"
            ),
            Self::Conflict { one, other } => write!(f, "{one} cannot be had with {other}"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Closed { have, want } => {
                write!(f, "socket closed {have} bytes into a {want}-byte message")
            }
            Self::Connection(error) => write!(f, "connection failed: {error}"),
            Self::OutOfBounds {
                option,
                given,
                bound,
            } => write!(f, "{option} {given}: {bound}"),
            Self::Partly { failure, done } => write!(f, "{failure}; {done}"),
            Self::Output(error) => write!(f, "cannot write standard output: {error}"),
            Self::BrokenPipe => f.write_str("nobody reads the output"),
            Self::OutputClosed => f.write_str(
                "standard output was closed by its reader, and nothing is recorded: stopped (give --record DIR, or --output none)",
            ),
            Self::OutputFailed(error) => write!(
                f,
                "cannot write standard output, and nothing is recorded: {error}"
            ),
            Self::OutputStuck => f.write_str(
                "standard output did not take the last messages in time, and nothing is recorded: they are lost",
            ),
            Self::Io(error) => error.fmt(f),
            Self::Board => f.write_str("the emulated board did not do its part"),
            Self::Unbalanced => f.write_str("the totals do not balance"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<blocksd_recording::Error> for Failure {
    fn from(error: blocksd_recording::Error) -> Self {
        use blocksd_recording::Error;
        match error {
            Error::Read { path, source } => Self::File {
                path,
                error: source,
            },
            Error::Write { path, source } => Self::Write {
                path,
                error: source,
            },
            Error::Folder { path, source } => Self::Folder {
                path,
                error: source,
            },
            Error::UnsoundRepair { path, .. } => Self::UnsoundRepair { path },
            Error::Locked { path } => Self::Locked { path },
            error => Self::Io(io::Error::other(error)),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<SendError<io::Error>> for Failure {
    fn from(error: SendError<io::Error>) -> Self {
        match error {
            SendError::Refused(refusal) => Self::Refused(refusal),
            SendError::Io(error) => Self::Connection(error),
            _ => Self::Connection(io::ErrorKind::WriteZero.into()),
        }
    }
}

impl From<ReceiveError<io::Error>> for Failure {
    fn from(error: ReceiveError<io::Error>) -> Self {
        match error {
            ReceiveError::Fault(Fault::Truncated { have, want, .. }) => Self::Closed { have, want },
            ReceiveError::Fault(fault) => Self::Fault(fault),
            ReceiveError::Io(error) => Self::Connection(error),
            _ => Self::Io(io::ErrorKind::OutOfMemory.into()),
        }
    }
}
