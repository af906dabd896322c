//! Failures of the client as texts and errors of this crate. Start with [`text`] and [`stream_failure`].

use std::error::Error;
use std::io;
use std::time::Duration;

use async_nats::jetstream::context::{
    GetStreamErrorKind, RequestError as JetStreamRequestError,
    RequestErrorKind as JetStreamRequestErrorKind,
};
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::rustls::{self, CertificateError};
use async_nats::{RequestError, RequestErrorKind};

use crate::advice::text;
use crate::check::NO_JETSTREAM;
use crate::stream::{StreamError, TIMEOUTS};

/// How a request has failed: without an answer in time, without anybody who could answer, or otherwise.
pub(crate) fn stream_failure(error: &(dyn Error + 'static)) -> StreamError {
    match unanswered(error) {
        Some(Unanswered::TimedOut) => timeout(TIMEOUTS[0]),
        Some(Unanswered::NoResponders) => StreamError::Other(NO_JETSTREAM.to_owned()),
        None if is_deleted(error) => StreamError::NoStream,
        None => other_failure(error),
    }
}

/// How a request has failed that was answered: a server is full, or otherwise.
pub(crate) fn other_failure(error: &(dyn Error + 'static)) -> StreamError {
    match is_full(error) {
        true => StreamError::Full(text(error)),
        false => StreamError::Other(text(error)),
    }
}

/// Whether a server says that it has no space left, or none for the account, in an error or its causes.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let full = [
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ];
    let mut answers = causes(error).filter_map(|it| it.downcast_ref::<jetstream::Error>());
    answers.any(|it| full.contains(&it.error_code()))
}

/// An error and its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&it| it.source())
}

/// There was no answer within a time.
pub(crate) const fn timeout(time: Duration) -> StreamError {
    StreamError::Timeout(time.as_millis() as u64)
}

pub(crate) fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.code() == 404)
}

/// Whether a server says that there is no such stream, in an error or its causes.
pub(crate) fn is_deleted(error: &(dyn Error + 'static)) -> bool {
    let mut answers = causes(error).filter_map(|error| {
        let kind = error.downcast_ref::<LastRawMessageError>();
        match kind.map(LastRawMessageError::kind) {
            Some(LastRawMessageErrorKind::JetStream(answer)) => Some(answer),
            _ => error.downcast_ref::<jetstream::Error>().cloned(),
        }
    });
    answers.any(|it| it.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// It took too long.
    TimedOut,
    /// Nobody takes such requests.
    NoResponders,
}

/// Finds out why a request has no answer, in the causes of its error.
pub(crate) fn unanswered(error: &(dyn Error + 'static)) -> Option<Unanswered> {
    for error in causes(error) {
        if let Some(error) = error.downcast_ref::<JetStreamRequestError>() {
            match error.kind() {
                JetStreamRequestErrorKind::TimedOut => return Some(Unanswered::TimedOut),
                JetStreamRequestErrorKind::NoResponders => return Some(Unanswered::NoResponders),
                _ => {}
            }
        }
        if let Some(error) = error.downcast_ref::<RequestError>() {
            match error.kind() {
                RequestErrorKind::TimedOut => return Some(Unanswered::TimedOut),
                RequestErrorKind::NoResponders => return Some(Unanswered::NoResponders),
                _ => {}
            }
        }
    }
    None
}

/// What is wrong with the certificates, and what to do, if an error is about them.
pub(crate) fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut refusals = causes(error).filter_map(|error| {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let inner = inner.and_then(|it| it.downcast_ref::<rustls::Error>());
        error.downcast_ref::<rustls::Error>().or(inner)
    });
    refusals.next().map(certificates)
}

fn certificates(error: &rustls::Error) -> String {
    let advice = match error {
        rustls::Error::InvalidCertificate(error) => match error {
            // An authority can have the name of the right one.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "no trusted authority has issued the certificate of the server: set `ca` to the file of its authority"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate of the server has other names: use one of them in the address"
            }
            // Their texts have the time in them, and are new each time.
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                return "the certificate of the server has expired: renew it, or set the clock of this machine".to_owned();
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                return "the certificate of the server is not valid yet: set the clock of this machine".to_owned();
            }
            CertificateError::Other(_) if error.to_string().contains("CaUsedAsEndEntity") => {
                "the certificate of the server is that of an authority: let the authority issue one for the server"
            }
            _ => "the certificate of the server cannot be used",
        },
        rustls::Error::AlertReceived(_) => {
            "the server refuses the connection: give `cert` and `key` of an authority that it trusts"
        }
        rustls::Error::InvalidMessage(_) => {
            "the server does not answer with TLS: enable it there, or use nats:// without `ca`"
        }
        _ => return error.to_string(),
    };
    format!("{advice} ({error})")
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::context::{PublishError, PublishErrorKind};

    use super::*;

    #[test]
    fn a_request_without_an_answer_is_a_timeout_however_deep_its_error_is() {
        let timed_out = JetStreamRequestError::new(JetStreamRequestErrorKind::TimedOut);
        let error = LastRawMessageError::with_source(LastRawMessageErrorKind::Other, timed_out);
        assert!(matches!(stream_failure(&error), StreamError::Timeout(_)));
        let nobody = JetStreamRequestError::new(JetStreamRequestErrorKind::NoResponders);
        let error = LastRawMessageError::with_source(LastRawMessageErrorKind::Other, nobody);
        assert_eq!(stream_failure(&error).to_string(), NO_JETSTREAM);
        let other = io::Error::other("broken");
        assert_eq!(stream_failure(&other).to_string(), "broken");
    }

    #[test]
    fn only_the_answer_that_there_is_no_such_stream_says_so() {
        let answer = |code: u64| -> jetstream::Error {
            let json =
                format!("{{\"code\":404,\"err_code\":{code},\"description\":\"not found\"}}");
            serde_json::from_str(&json).unwrap()
        };
        let info = |code| JetStreamRequestError::from(answer(code));
        let message =
            |code| LastRawMessageError::new(LastRawMessageErrorKind::JetStream(answer(code)));
        assert!(is_deleted(&info(10_059)) && is_deleted(&message(10_059)));
        assert!(matches!(
            stream_failure(&info(10_059)),
            StreamError::NoStream
        ));
        // No leader, and no such message.
        for code in [10_008, 10_037] {
            assert!(!is_deleted(&info(code)) && !is_deleted(&message(code)));
        }
        let timed_out = JetStreamRequestError::new(JetStreamRequestErrorKind::TimedOut);
        assert!(!is_deleted(&timed_out));
    }

    #[test]
    fn a_server_without_space_refuses_messages() {
        for (code, text, advice) in [
            (10_023, "insufficient resources", "`max_file_store`"),
            (
                10_047,
                "insufficient storage resources available",
                "`max_file_store`",
            ),
            (10_002, "resource limits exceeded for account", "raise it"),
        ] {
            let json = format!("{{\"code\":503,\"err_code\":{code},\"description\":\"{text}\"}}");
            let answer: jetstream::Error = serde_json::from_str(&json).unwrap();
            let error = PublishError::with_source(PublishErrorKind::Other, answer);
            let error = other_failure(&error);
            assert_eq!(error.reason(), "refused", "{error}");
            assert!(error.to_string().contains(advice), "{error}");
        }
        let other = io::Error::other("broken");
        assert_eq!(other_failure(&other).reason(), "other");
    }
}
