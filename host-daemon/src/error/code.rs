//! The exit code of each error, for all commands. Start with [`Code`].

use std::io;

use blocksd_recording::Error as RecordingError;

use crate::error::{CaError, CommandError, SessionEnd, SessionError, SpoolFault, TlsError};

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The command did its work.
    Done = 0,
    /// The command failed while working.
    Failed = 1,
    /// The command line, the configuration, or a file that they name is wrong. A retry cannot help.
    Wrong = 2,
    /// The environment refused something at the start (`EX_TEMPFAIL` of `sysexits.h`). A retry may help.
    Refused = 75,
}

impl Code {
    /// All exit codes.
    pub const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Wrong, Self::Refused];

    /// The meaning in a few words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed while working",
            Self::Wrong => "wrong command line, configuration or file",
            Self::Refused => "refused by the environment at the start",
        }
    }
}

/// The subject of a system error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// An address to listen on or to connect to, at the start.
    Address,
    /// The folder that a daemon records to, at the start.
    Folder,
    /// A file that the command line or the configuration names.
    File,
    /// A thread, a signal handler, or another resource that the program needs at the start.
    Program,
}

impl CommandError {
    /// The exit code of this error.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::BrokenPipe => Code::Done,
            #[cfg(feature = "nats")]
            Self::Forward { error, .. } => match error.may_pass() {
                true => Code::Refused,
                false => Code::Wrong,
            },
            Self::Partly { failure, .. } => failure.code(),
            Self::Listen { error, .. } | Self::Connect { error, .. } => {
                code(Subject::Address, error)
            }
            Self::File { error, .. } | Self::Write { error, .. } => code(Subject::File, error),
            Self::Recording(error) => recording(error),
            Self::Session(error) => session(error),
            Self::Ca(error) => ca(error),
            Self::ReadStream(error) => error.code(),
            Self::Start(error) => code(Subject::Program, error),
            Self::Locked { .. } | Self::BeingWritten { .. } => Code::Refused,
            Self::Config(error) => error.unreadable().map_or(Code::Wrong, |error| {
                // The file is read at the start, so an I/O error that is not about its name may be temporary.
                match code(Subject::File, error) {
                    Code::Failed => Code::Refused,
                    code => code,
                }
            }),
            Self::Connection(error) | Self::Reconnect { error, .. } => refused_by_tls(error),
            Self::NoCommand(_)
            | Self::ClientTls(_)
            | Self::Framing { .. }
            | Self::Unsendable { .. }
            | Self::FileTooLong { .. }
            | Self::Duplicate { .. }
            | Self::Exists { .. }
            | Self::NotBuilt { .. }
            | Self::CommandNotBuilt { .. }
            | Self::OptionNotBuilt { .. }
            | Self::NoTerminal { .. }
            | Self::Selection(_)
            | Self::Tls { .. }
            | Self::Conflict { .. } => Code::Wrong,
            Self::NothingWhole { .. }
            | Self::Unrepaired { .. }
            | Self::Unsound { .. }
            | Self::UnsoundSessions { .. }
            | Self::UnsoundRepair { .. }
            | Self::CutOff { .. }
            | Self::Unsent { .. }
            | Self::TooManyConnections { .. }
            | Self::Interrupted
            | Self::NotWhole { .. }
            | Self::NotExported { .. }
            | Self::Refused(_)
            | Self::Request { .. }
            | Self::RefusedLine { .. }
            | Self::Fault(_)
            | Self::Closed { .. }
            | Self::Output(_)
            | Self::OutputClosed { .. }
            | Self::OutputFailed { .. }
            | Self::OutputStuck { .. }
            | Self::Unrecorded { .. }
            | Self::Io(_)
            | Self::Board
            | Self::Recorder { .. }
            | Self::Unbalanced => Code::Failed,
        }
    }
}

fn recording(error: &RecordingError) -> Code {
    match error {
        RecordingError::Folder { source, .. } => code(Subject::Folder, source),
        RecordingError::Read { source, .. } | RecordingError::Write { source, .. } => {
            code(Subject::File, source)
        }
        RecordingError::Locked { .. } => Code::Refused,
        _ => Code::Failed,
    }
}

fn ca(error: &CaError) -> Code {
    match error {
        CaError::Locked { .. } => Code::Refused,
        CaError::Sign(_) => Code::Failed,
        _ => Code::Wrong,
    }
}

fn session(error: &SessionError) -> Code {
    match error {
        SessionError::Unacknowledged {
            cause: SessionEnd::Connect { error, .. } | SessionEnd::Failed(error),
            ..
        } => refused_by_tls(error),
        SessionError::Unacknowledged { .. }
        | SessionError::TooLong { .. }
        | SessionError::NotRecorded { .. } => Code::Failed,
        SessionError::Line { error, .. } => session(error),
        SessionError::Refused { .. } | SessionError::Required => Code::Wrong,
        SessionError::Spool { fault, .. } => match fault {
            SpoolFault::Locked => Code::Refused,
            SpoolFault::Io(error) => code(Subject::File, error),
            _ => Code::Wrong,
        },
    }
}

/// A connection that fails is failed work, unless the options or files of TLS are the reason.
fn refused_by_tls(error: &io::Error) -> Code {
    match TlsError::among_causes(error).is_some_and(TlsError::is_final) {
        true => Code::Wrong,
        false => Code::Failed,
    }
}

/// Classifies a system error, as in the table of `docs/operations.md`.
fn code(subject: Subject, error: &io::Error) -> Code {
    use io::ErrorKind as Kind;
    match error.kind() {
        // The text is not an address or a file name, or the system does not permit or support the operation: `EINVAL`,
        // `ENAMETOOLONG`, `ENOTDIR`, `EISDIR`, `EACCES`, `EPERM`, `ENOSYS`.
        Kind::InvalidInput
        | Kind::InvalidData
        | Kind::InvalidFilename
        | Kind::NotADirectory
        | Kind::IsADirectory
        | Kind::PermissionDenied
        | Kind::Unsupported => Code::Wrong,
        // A file exists where the folder or the output should be.
        Kind::AlreadyExists => Code::Wrong,
        // A named file must exist. The folder of a socket, or the target of a link, may appear later, when a disk is
        // mounted.
        Kind::NotFound if subject == Subject::File => Code::Wrong,
        Kind::NotFound | Kind::ReadOnlyFilesystem | Kind::ResourceBusy => Code::Refused,
        _ if is_wrong(error.raw_os_error()) => Code::Wrong,
        // `EADDRINUSE`, `EADDRNOTAVAIL`, `ECONNREFUSED`, `ENETUNREACH`, `ENODEV`, `ENOSPC`, `EIO`, `EMFILE`, `ENOMEM`,
        // `EAGAIN`; a name that cannot be resolved.
        _ if subject != Subject::File => Code::Refused,
        _ => Code::Failed,
    }
}

/// Whether a retry cannot help with this error, for errors without a stable [`io::ErrorKind`].
fn is_wrong(error: Option<i32>) -> bool {
    matches!(
        error,
        Some(libc::ELOOP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ENOTSOCK)
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn os(error: i32) -> io::Error {
        io::Error::from_raw_os_error(error)
    }

    fn listen(error: io::Error) -> Code {
        let address = "[::1]:1060".to_owned();
        CommandError::Listen { address, error }.code()
    }

    fn folder(error: io::Error) -> Code {
        let path = PathBuf::from("/var/lib/blocksd");
        CommandError::from(RecordingError::Folder {
            path,
            source: error,
        })
        .code()
    }

    fn file(error: io::Error) -> Code {
        let path = PathBuf::from("/etc/greeting");
        CommandError::File { path, error }.code()
    }

    #[test]
    fn an_address_that_the_environment_refuses_may_be_retried() {
        for error in [
            libc::EADDRINUSE,
            libc::EADDRNOTAVAIL,
            libc::ENODEV,
            libc::ENETDOWN,
            libc::ENETUNREACH,
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::ENOENT,
            libc::EROFS,
            libc::ENOSPC,
            libc::EIO,
        ] {
            assert_eq!(listen(os(error)), Code::Refused, "{}", os(error));
        }
        // An unresolved name is reported without an error number.
        assert_eq!(listen(io::Error::other("lookup")), Code::Refused);
    }

    #[test]
    fn an_address_that_can_never_be_used_is_wrong() {
        for error in [
            libc::EINVAL,
            libc::EACCES,
            libc::EPERM,
            libc::EAFNOSUPPORT,
            libc::ENOTDIR,
            libc::ELOOP,
            libc::ENAMETOOLONG,
        ] {
            assert_eq!(listen(os(error)), Code::Wrong, "{}", os(error));
        }
    }

    #[test]
    fn an_unusable_folder_is_wrong_and_an_unready_disk_may_be_retried() {
        for error in [libc::EACCES, libc::EPERM, libc::ENOTDIR, libc::EEXIST] {
            assert_eq!(folder(os(error)), Code::Wrong, "{}", os(error));
        }
        for error in [
            libc::EROFS,
            libc::ENOSPC,
            libc::EDQUOT,
            libc::EIO,
            libc::ESTALE,
            libc::ENOENT,
        ] {
            assert_eq!(folder(os(error)), Code::Refused, "{}", os(error));
        }
        let path = PathBuf::from("/var/lib/blocksd");
        assert_eq!(CommandError::Locked { path }.code(), Code::Refused);
    }

    #[test]
    fn a_named_file_must_exist_and_a_later_failure_is_failed_work() {
        for error in [libc::ENOENT, libc::EACCES, libc::EISDIR, libc::ENOTDIR] {
            assert_eq!(file(os(error)), Code::Wrong, "{}", os(error));
        }
        assert_eq!(file(os(libc::EROFS)), Code::Refused);
        for error in [libc::EIO, libc::ENOSPC, libc::EFBIG] {
            assert_eq!(file(os(error)), Code::Failed, "{}", os(error));
        }
    }

    #[test]
    fn a_resource_that_is_missing_at_the_start_may_be_retried() {
        assert_eq!(CommandError::Start(os(libc::EAGAIN)).code(), Code::Refused);
        assert_eq!(CommandError::Io(os(libc::EIO)).code(), Code::Failed);
        assert_eq!(CommandError::BrokenPipe.code(), Code::Done);
        let unshown = |cause| CommandError::only_output("1 message".to_owned(), cause);
        for cause in [None, Some(os(libc::EPIPE)), Some(os(libc::ENOSPC))] {
            assert_eq!(unshown(cause).code(), Code::Failed);
        }
    }
}
