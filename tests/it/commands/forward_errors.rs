//! Samples of the errors of a cluster that a recording is forwarded to, or that is read, for `error_messages`.

use std::io;

use blocksd::error::{ForwardError, ReadStreamError};
use blocksd_forward::reader::ReadError;
use blocksd_forward::{CheckError, ConnectError};

/// At least one error of each kind.
pub(super) fn forward_errors() -> Vec<ForwardError> {
    let stream = [
        CheckError::NoStream("nats stream add blocksd".to_owned()),
        CheckError::NoAnswer("no answer within 5000 ms".to_owned()),
        CheckError::NoJetStream,
        CheckError::Denied(
            "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.blocksd\"".to_owned(),
        ),
        CheckError::Taken {
            stream: "blocksd".to_owned(),
            wanted: "blocksd.main.>".to_owned(),
            other: "fleet".to_owned(),
        },
        CheckError::NotReplicated,
        CheckError::NotCreated("insufficient storage resources available".to_owned()),
        CheckError::Subjects {
            stream: "blocksd".to_owned(),
            wanted: "blocksd.main.>".to_owned(),
            found: "orders.*".to_owned(),
        },
        CheckError::NotDurable {
            reasons: "it has less than three replicas".to_owned(),
            remedy: "change it with `nats stream edit blocksd --replicas 3`".to_owned(),
        },
        CheckError::Unusable {
            reasons: "it is sealed, it is a mirror".to_owned(),
            remedy: "make another one with `nats stream add blocksd`".to_owned(),
        },
        CheckError::TooShort {
            stream: "blocksd".to_owned(),
            max: 512,
            min: 32_768,
        },
        CheckError::ServerTooShort {
            max: 1024,
            min: 32_768,
        },
    ];
    let files = [
        ForwardError::File {
            key: "token",
            path: "nats.token".into(),
            error: io::Error::from_raw_os_error(libc::ENOENT),
        },
        ForwardError::NotAFile {
            key: "token",
            error: io::Error::from_raw_os_error(libc::ENOENT),
        },
        ForwardError::Instance(io::Error::from_raw_os_error(libc::EACCES)),
        ForwardError::Thread(io::Error::from_raw_os_error(libc::EAGAIN)),
    ];
    let cause = || "the cause".to_owned();
    let client = [
        ConnectError::Options("credentials: no seed".to_owned()),
        ConnectError::Login(cause()),
        ConnectError::Tls(cause()),
        ConnectError::NotNats(cause()),
        ConnectError::Closed(cause()),
        ConnectError::Silent(cause()),
        ConnectError::Unreachable(cause()),
    ];
    let stream = stream.into_iter().map(ForwardError::Stream);
    stream
        .chain(files)
        .chain(client.map(ForwardError::Client))
        .collect()
}

/// At least one error of each kind.
pub(super) fn read_errors() -> Vec<ReadStreamError> {
    let cause = || "the cause".to_owned();
    let cluster = [
        ReadError::Connect(cause()),
        ReadError::Unreachable(cause()),
        ReadError::Login(cause()),
        ReadError::NoAnswer(cause()),
        ReadError::NoJetStream,
        ReadError::Denied(
            "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.fleet\"".to_owned(),
        ),
        ReadError::NoStream("fleet".to_owned()),
        ReadError::Replaced("fleet".to_owned()),
        ReadError::Lost {
            stream: "fleet".to_owned(),
            sequence: 7,
        },
        ReadError::Refused(cause()),
    ];
    let cluster = cluster.map(|error| ReadStreamError::Cluster {
        servers: "nats://n1:4222".to_owned(),
        error,
    });
    let mut errors = vec![
        ReadStreamError::Address("the host is missing".to_owned()),
        ReadStreamError::NotBuilt,
        ReadStreamError::OnlyRecordings { command: "verify" },
        ReadStreamError::NotAlone,
        ReadStreamError::Login(ForwardError::File {
            key: "token",
            path: "nats.token".into(),
            error: io::Error::from_raw_os_error(libc::ENOENT),
        }),
        ReadStreamError::Unreadable { messages: 3 },
    ];
    errors.extend(cluster);
    errors.push(ReadStreamError::NotReady {
        servers: "nats://n1:4222".to_owned(),
        error: ReadError::NoAnswer(cause()),
    });
    errors
}
