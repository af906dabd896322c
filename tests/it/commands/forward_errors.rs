//! Samples of the errors of a cluster that a recording is forwarded to, for `error_messages`.

use std::io;

use blocksd::error::ForwardError;
use blocksd_forward::{CheckError, ConnectError};

/// At least one error of each kind.
pub(super) fn forward_errors() -> Vec<ForwardError> {
    let stream = [
        CheckError::NoStream("nats stream add blocksd".to_owned()),
        CheckError::NotCreated("insufficient storage resources available".to_owned()),
        CheckError::Subjects {
            wanted: "blocksd.main.>".to_owned(),
            found: "orders.*".to_owned(),
        },
        CheckError::NotDurable("it has 1 of 3 replicas".to_owned()),
        CheckError::Unusable("it does not acknowledge messages (`no_ack`)"),
        CheckError::TooShort(512),
    ];
    let files = [
        ForwardError::File {
            path: "nats.token".into(),
            error: io::Error::from_raw_os_error(libc::ENOENT),
        },
        ForwardError::Instance(io::Error::from_raw_os_error(libc::EACCES)),
    ];
    let client = ConnectError::from("credentials: no seed".to_owned());
    let stream = stream.into_iter().map(ForwardError::Stream);
    stream
        .chain(files)
        .chain([ForwardError::Client(client)])
        .collect()
}
