//! Compares the message and the exit code of every kind of [`CommandError`] with `tests/golden/errors.txt`.
//!
//! To accept a change: `BLOCKSD_TEST_ACCEPT=1 cargo test -p blocksd-tests --test it -- error_messages::`

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use blocksd::config::ConfigError;
use blocksd::error::{
    CaError, CommandError, KeptIn, SessionEnd, SessionError, SpoolFault, TlsCause, TlsError,
    TlsSetupError,
};
use blocksd::sinks::console::NotShown;
use blocksd_engine::event::Dropped;
use blocksd_recording::{Error as RecordingError, LogError};
use blocksd_tests::golden::assert_golden;
use framing_core::session::HeardError;
use framing_core::session::wire::ClosingCode;
use framing_core::{AnyFraming, Fault, Lines, Refusal};

use super::forward_errors::{forward_errors, read_errors};

const HEADER: &str = "\
# The message and the exit code of every kind of error of a command. Written by `error_messages::`.
# mistakes.txt has the errors of wrong command lines and config files.
";

#[test]
fn every_kind_of_error_matches_the_accepted_message() {
    let errors = errors();
    let kinds: BTreeSet<_> = errors.iter().map(kind).collect();
    let source = include_str!("../../../host-daemon/src/error.rs");
    assert_eq!(
        kinds,
        variants(source, "CommandError"),
        "add a sample of each kind of CommandError"
    );
    let source = include_str!("../../../host-daemon/src/error/session.rs");
    let samples: BTreeSet<_> = session_errors().iter().map(kind).collect();
    assert_eq!(
        samples,
        variants(source, "SessionError"),
        "add a sample of each kind of error of a session"
    );
    let source = include_str!("../../../host-daemon/src/error/ca.rs");
    let samples: BTreeSet<_> = ca_errors().iter().map(kind).collect();
    assert_eq!(
        samples,
        variants(source, "CaError"),
        "add a sample of each kind of error of a certificate authority"
    );
    let source = include_str!("../../../host-daemon/src/error/forward.rs");
    let samples: BTreeSet<_> = forward_errors().iter().map(kind).collect();
    assert_eq!(samples, variants(source, "ForwardError"));
    let source = include_str!("../../../host-daemon/src/error/stream.rs");
    let samples: BTreeSet<_> = read_errors().iter().map(kind).collect();
    assert_eq!(samples, variants(source, "ReadStreamError"));
    let source = include_str!("../../../host-daemon/recording/src/error.rs");
    let samples: BTreeSet<_> = recording_errors().iter().map(kind).collect();
    assert_eq!(
        samples,
        variants(source, "Error"),
        "add a sample of each kind of error of a recording"
    );
    let source = include_str!("../../../host-daemon/src/error/tls.rs");
    for (samples, name) in [
        (tls_errors().iter().map(kind).collect(), "TlsError"),
        (setup_errors().iter().map(kind).collect(), "TlsSetupError"),
    ] {
        let samples: BTreeSet<_> = samples;
        assert_eq!(samples, variants(source, name), "add a sample of each");
    }
    let mut text = HEADER.to_owned();
    for error in errors {
        writeln!(text, "\n{}: {}\n{error}", kind(&error), error.code() as u8).unwrap();
    }
    assert_golden("errors.txt", text);
}

/// At least one error of each kind.
fn errors() -> Vec<CommandError> {
    let address = || "127.0.0.1:1060".to_owned();
    let path = || PathBuf::from("file");
    let framing = AnyFraming::Lines(Lines);
    let fault = Fault::TooLong {
        declared: Some(6000),
        limit: 4096,
        lost: false,
    };
    let mut errors: Vec<_> = recording_errors()
        .into_iter()
        .map(CommandError::from)
        .collect();
    errors.extend(forward_errors().into_iter().map(|error| {
        let to = "nats://n1:4222".to_owned();
        CommandError::Forward { to, error }
    }));
    errors.extend(read_errors().into_iter().map(CommandError::from));
    errors.extend([
        CommandError::Listen {
            address: address(),
            error: os(libc::EADDRINUSE),
        },
        CommandError::Tls {
            address: address(),
            error: Box::new(io::Error::other("the cause")),
        },
        CommandError::Connect {
            address: address(),
            error: os(libc::ECONNREFUSED),
        },
        CommandError::Request {
            url: "http://127.0.0.1:9107".to_owned(),
            reason: "refused with 401 Unauthorized: the token of --http-token is needed; add --token FILE".to_owned(),
        },
        CommandError::File {
            path: path(),
            error: os(libc::ENOENT),
        },
        CommandError::Write {
            path: path(),
            error: os(libc::ENOSPC),
        },
        CommandError::NotBuilt {
            format: "Parquet",
            feature: "parquet",
        },
        CommandError::OptionNotBuilt {
            option: "forward",
            feature: "nats",
        },
        CommandError::CommandNotBuilt {
            command: "top",
            feature: "top",
        },
        CommandError::NoTerminal {
            command: "top",
            instead: "`devices --url URL` or `tap`",
        },
        CommandError::Exists { path: path() },
        CommandError::NotExported {
            messages: 2,
            values: 3,
        },
        CommandError::Start(os(libc::EAGAIN)),
        CommandError::Duplicate {
            first: address(),
            again: address(),
        },
        CommandError::Duplicate {
            first: address(),
            again: "0.0.0.0:1060".to_owned(),
        },
        ConfigError::of_command_line("reason".to_owned()).into(),
        CommandError::NothingWhole { path: path() },
        CommandError::BeingWritten { path: path() },
        CommandError::Selection("device `d` is not in the recording".to_owned()),
        CommandError::Unrepaired { files: 1, of: 3 },
        CommandError::Unsound { files: 1, of: 3 },
        CommandError::UnsoundSessions { sessions: 1, of: 3 },
        CommandError::CutOff {
            connections: 1,
            of: 3,
        },
        CommandError::Unsent { messages: 2 },
        CommandError::TooManyConnections {
            open: 32,
            descriptors: 64,
        },
        CommandError::Reconnect {
            address: "127.0.0.1:1060".to_owned(),
            error: io::ErrorKind::ConnectionRefused.into(),
        },
        CommandError::Interrupted,
        CommandError::NotWhole {
            lost: 350,
            unread: 0,
        },
        CommandError::NotWhole { lost: 0, unread: 2 },
        CommandError::NotWhole {
            lost: 350,
            unread: 1,
        },
        CommandError::Framing {
            command: "client",
            framing,
        },
        CommandError::Unsendable {
            path: path(),
            framing,
            refusal: Refusal::Delimiter { offset: 5 },
        },
        CommandError::NoCommand("nonsense".to_owned()),
        CommandError::Conflict {
            one: "--one",
            other: "--other",
        },
        CommandError::FileTooLong {
            path: PathBuf::from("answer"),
            len: 5_000_000_000,
            max: 65_535,
        },
        CommandError::Refused(Refusal::Empty),
        CommandError::Refused(Refusal::TooLong { len: 300, max: 255 }),
        CommandError::Refused(Refusal::WrongLength { len: 7, want: 8 }),
        CommandError::RefusedLine {
            number: 3,
            refusal: Refusal::Empty,
        },
        CommandError::Fault(fault),
        CommandError::Closed { have: 15, want: 30 },
        CommandError::Connection(os(libc::ECONNRESET)),
        CommandError::Partly {
            failure: Box::new(CommandError::Connection(os(libc::EPIPE))),
            done: "2 messages were sent".to_owned(),
        },
        CommandError::Output(os(libc::ENOSPC)),
        CommandError::BrokenPipe,
        CommandError::only_output(unshown(), Some(os(libc::EPIPE))),
        CommandError::only_output(unshown(), Some(os(libc::ENOSPC))),
        CommandError::only_output(unshown(), None),
        CommandError::Unrecorded { least: 0, most: 3 },
        CommandError::Unrecorded { least: 2, most: 3 },
        CommandError::Io(os(libc::EIO)),
        CommandError::Board,
        CommandError::Recorder {
            reason: "signal: 9 (SIGKILL)".to_owned(),
        },
        CommandError::Unbalanced,
    ]);
    errors.extend(session_errors().into_iter().map(CommandError::from));
    errors.extend(ca_errors().into_iter().map(CommandError::from));
    let connection = |error: TlsError| CommandError::Connection(error.into());
    errors.extend(tls_errors().into_iter().map(connection));
    errors.extend(setup_errors().into_iter().map(CommandError::from));
    errors
}

/// One error of each kind of [`CaError`].
fn ca_errors() -> Vec<CaError> {
    let path = || PathBuf::from("ca");
    let id = || "boiler-17".to_owned();
    let time = || "2026-11-28T21:10:24Z".to_owned();
    vec![
        CaError::NoAuthority { path: path() },
        CaError::NotEmpty {
            path: path(),
            found: "file".to_owned(),
        },
        CaError::Exists {
            path: path(),
            advice: "move it elsewhere",
        },
        CaError::Unusable {
            path: path(),
            reason: "not a certificate".to_owned(),
        },
        CaError::Unknown {
            path: path(),
            id: id(),
        },
        CaError::Ambiguous { id: id() },
        CaError::Revoked {
            id: id(),
            revoked: time(),
            kind: "device",
        },
        CaError::Expired {
            path: path(),
            not_after: time(),
        },
        CaError::Locked { path: path() },
        CaError::Sign(os(libc::ENOSYS)),
    ]
}

/// At least one error of each kind of [`SessionError`] and of the errors in it.
fn session_errors() -> Vec<SessionError> {
    let unacknowledged = |cause| SessionError::Unacknowledged {
        messages: 3,
        untaken: 0,
        acknowledged: 0,
        spool: None,
        cause,
    };
    let refused = |code| SessionError::Refused {
        code,
        messages: 0,
        acknowledged: 0,
    };
    let spool = |fault| SessionError::Spool {
        path: PathBuf::from("spool"),
        fault,
    };
    let too_long = || SessionError::TooLong { len: 300, max: 200 };
    let mut errors = vec![
        SessionError::Unacknowledged {
            messages: 5,
            untaken: 2,
            acknowledged: 1,
            spool: Some(Box::new(KeptIn {
                path: PathBuf::from("spool"),
                address: "127.0.0.1:1060".to_owned(),
                tls: " --tls-ca ca.pem".to_owned(),
            })),
            cause: SessionEnd::Silent { timeout_s: 30 },
        },
        SessionError::Unacknowledged {
            messages: 0,
            untaken: 0,
            acknowledged: 7,
            spool: None,
            cause: SessionEnd::Closed,
        },
        unacknowledged(SessionEnd::Connect {
            address: "127.0.0.1:1060".to_owned(),
            error: os(libc::ECONNREFUSED),
        }),
        unacknowledged(SessionEnd::Failed(os(libc::ECONNRESET))),
        unacknowledged(SessionEnd::Closed),
        unacknowledged(SessionEnd::Unwelcome),
        unacknowledged(SessionEnd::Unanswered { timeout_s: 10 }),
        unacknowledged(SessionEnd::Protocol(HeardError::Unsent)),
        too_long(),
        SessionError::Required,
        SessionError::NotRecorded {
            messages: 2,
            longest: 300,
            max: 200,
        },
        SessionError::Line {
            number: 7,
            error: Box::new(too_long()),
        },
        spool(SpoolFault::NotSpool),
        spool(SpoolFault::Version { version: 2 }),
        spool(SpoolFault::Damaged { offset: 1024 }),
        spool(SpoolFault::Device {
            recorded: "one".to_owned(),
            given: "two".to_owned(),
        }),
        spool(SpoolFault::Locked),
        spool(SpoolFault::Io(os(libc::ENOSPC))),
    ];
    let codes = [
        ClosingCode::Full,
        ClosingCode::Superseded,
        ClosingCode::Again,
        ClosingCode::Shutdown,
        ClosingCode::Protocol,
    ];
    let codes = codes.into_iter().map(|code| code as u8).chain([99]);
    errors.extend(codes.map(|code| unacknowledged(SessionEnd::Closing { code })));
    let codes = [
        ClosingCode::Version,
        ClosingCode::BadHello,
        ClosingCode::Forbidden,
        ClosingCode::Unsupported,
        ClosingCode::NoSession,
    ];
    errors.extend(codes.map(refused));
    errors
}

/// One error of each kind of [`TlsError`].
fn tls_errors() -> Vec<TlsError> {
    let source = || -> TlsCause { Arc::new(io::Error::other("the cause")) };
    vec![
        TlsError::Untrusted {
            trusted: "ca.pem".to_owned(),
            source: source(),
        },
        TlsError::WrongName {
            expected: "box".to_owned(),
            presented: vec!["daemon.example".to_owned(), "192.0.2.7".to_owned()],
            source: source(),
        },
        TlsError::NotValidNow {
            validity: "expired at 2021-01-01T00:00:00Z".to_owned(),
            source: source(),
        },
        TlsError::Unusable {
            reason: "it is that of a CA".to_owned(),
            source: source(),
        },
        TlsError::NotTls { source: source() },
        TlsError::Alert {
            alert: "certificate_required".to_owned(),
            meaning: "it requires a client certificate".to_owned(),
            is_final: true,
            source: source(),
        },
        TlsError::Protocol { source: source() },
        TlsError::Late,
        TlsError::Closed { source: source() },
        TlsError::Failed {
            source: source(),
            kind: io::ErrorKind::ConnectionReset,
        },
        TlsError::Truncated { source: source() },
    ]
}

/// One error of each kind of [`TlsSetupError`].
fn setup_errors() -> Vec<TlsSetupError> {
    let path = || PathBuf::from("client.pem");
    vec![
        TlsSetupError::NotOn {
            option: "--tls-cert",
        },
        TlsSetupError::NotHttps { option: "--tls-ca" },
        TlsSetupError::NoCertificate {
            path: path(),
            has: Some("a private key"),
        },
        TlsSetupError::NoKey {
            path: path(),
            has: None,
        },
        TlsSetupError::EncryptedKey { path: path() },
        TlsSetupError::OtherKey {
            key: PathBuf::from("client.key"),
            cert: path(),
        },
        TlsSetupError::Malformed {
            path: path(),
            reason: "certificate 1: bad encoding".to_owned(),
        },
        TlsSetupError::NoSystemCas { reason: None },
        TlsSetupError::BadName {
            name: "not a name".to_owned(),
        },
        TlsSetupError::Library(Arc::new(io::Error::other("the cause"))),
        TlsSetupError::NotBuilt,
    ]
}

fn unshown() -> String {
    let dropped = Dropped {
        messages: 3,
        others: 1,
    };
    NotShown::Counted(dropped).to_string()
}

/// One error of each kind of [`RecordingError`].
fn recording_errors() -> Vec<RecordingError> {
    let path = || PathBuf::from("file");
    vec![
        RecordingError::Read {
            path: path(),
            source: os(libc::ENOENT),
        },
        RecordingError::Write {
            path: path(),
            source: os(libc::ENOSPC),
        },
        RecordingError::Folder {
            path: path(),
            source: os(libc::EROFS),
        },
        RecordingError::UnsoundRepair {
            path: path(),
            findings: 2,
            first: "the first finding".to_owned(),
        },
        RecordingError::Locked { path: path() },
        RecordingError::Log(LogError::GaveUp),
    ]
}

fn os(error: i32) -> io::Error {
    io::Error::from_raw_os_error(error)
}

/// The name of the variant of an error.
fn kind(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    let name = text.chars().take_while(|it| it.is_alphanumeric());
    name.collect()
}

/// The names of the variants of an enum in this source.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let body = source.split(&format!("pub enum {name} {{\n")).nth(1);
    let body = body.and_then(|rest| rest.split("\n}\n").next()).unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let lines = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    lines
        .map(|line| {
            line.chars()
                .take_while(|it| it.is_alphanumeric())
                .collect::<String>()
        })
        .collect()
}
