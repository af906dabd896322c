//! Errors of TLS in the words of an operator: [`Explainer`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, Error};

use crate::error::TlsError;

/// Explains errors of the connections with one set of options.
#[derive(Debug)]
pub(super) struct Explainer {
    /// The file with the CAs that are trusted, or the system.
    pub(super) trusted: String,
    /// The file of the client certificate, if there is one.
    pub(super) certificate: Option<PathBuf>,
}

impl Explainer {
    /// Explains an error of a handshake.
    pub(super) fn of_handshake(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        let explained = match rustls_error(&error) {
            Some(Error::InvalidMessage(_)) => TlsError::NotTls {
                source: Arc::new(error),
            },
            Some(found) => self.explain(found),
            None if kind == io::ErrorKind::UnexpectedEof => TlsError::Closed {
                source: Arc::new(error),
            },
            None => TlsError::Failed {
                source: Arc::new(error),
                kind,
            },
        };
        explained.into()
    }

    /// Explains an error of a connection after its handshake. In TLS 1.3, a server refuses a client certificate then.
    pub(super) fn of_connection(&self, error: io::Error) -> io::Error {
        match rustls_error(&error) {
            Some(found) => self.explain(found).into(),
            // The library reports an end without close_notify so.
            None if error.kind() == io::ErrorKind::UnexpectedEof => TlsError::Truncated {
                source: Arc::new(error),
            }
            .into(),
            None => error,
        }
    }

    /// Explains an error of the library.
    pub(super) fn explain(&self, error: &Error) -> TlsError {
        let source = Arc::new(error.clone());
        match error {
            Error::InvalidCertificate(certificate) => self.of_certificate(certificate, error),
            Error::AlertReceived(alert) => {
                let (meaning, is_final) = self.of_alert(*alert);
                TlsError::Alert {
                    alert: name(*alert),
                    meaning,
                    is_final,
                    source,
                }
            }
            _ => TlsError::Protocol { source },
        }
    }

    /// Explains why the certificate of the server was refused.
    fn of_certificate(&self, certificate: &CertificateError, error: &Error) -> TlsError {
        let source = Arc::new(error.clone());
        let not_valid = |validity| TlsError::NotValidNow {
            validity,
            source: Arc::new(error.clone()),
        };
        let unusable = |reason: String| TlsError::Unusable {
            reason,
            source: Arc::new(error.clone()),
        };
        match certificate {
            // A CA of the same name with another key is another CA.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                let trusted = self.trusted.clone();
                TlsError::Untrusted { trusted, source }
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => TlsError::WrongName {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().map(|it| bare_name(it)).collect(),
                source,
            },
            CertificateError::ExpiredContext { not_after, .. } => {
                not_valid(format!("expired at {}", utc(seconds(not_after.as_secs()))))
            }
            CertificateError::Expired => not_valid("has expired".to_owned()),
            CertificateError::NotValidYetContext { not_before, .. } => not_valid(format!(
                "is not valid before {}",
                utc(seconds(not_before.as_secs()))
            )),
            CertificateError::NotValidYet => not_valid("is not valid yet".to_owned()),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                unusable("it is not for servers (extended key usage serverAuth)".to_owned())
            }
            CertificateError::Other(other)
                if format!("{other:?}").contains("CaUsedAsEndEntity") =>
            {
                unusable("it is that of a CA; a server needs its own, signed by a CA".to_owned())
            }
            other => unusable(other.to_string()),
        }
    }

    /// What an alert of the server means, and whether another attempt gets it again.
    fn of_alert(&self, alert: AlertDescription) -> (String, bool) {
        let own = match &self.certificate {
            Some(path) => format!("the client certificate in {}", path.display()),
            None => "the client certificate".to_owned(),
        };
        let meaning = match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                match &self.certificate {
                    Some(_) => format!("it requires a certificate, and did not take {own}"),
                    None => {
                        "it requires a client certificate; give --tls-cert FILE and --tls-key FILE"
                            .to_owned()
                    }
                }
            }
            AlertDescription::UnknownCA => {
                format!("it does not trust the CA of {own}; use a certificate of its CA")
            }
            AlertDescription::CertificateExpired => {
                format!("{own} has expired, or is not valid yet; renew it")
            }
            AlertDescription::CertificateRevoked => format!("{own} is revoked; use another one"),
            AlertDescription::AccessDenied => {
                format!("{own} is not permitted there; permit its name at the server")
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError => {
                format!(
                    "it does not accept {own}; use one that its CA signed for clients, with a name that it permits"
                )
            }
            AlertDescription::UnrecognisedName => {
                "it has no certificate for this name; give --tls-name NAME".to_owned()
            }
            AlertDescription::ProtocolVersion => {
                "it permits neither TLS 1.3 nor TLS 1.2".to_owned()
            }
            AlertDescription::HandshakeFailure if self.certificate.is_none() => {
                "it requires a client certificate (--tls-cert FILE, --tls-key FILE), or permits no cipher of this program"
                    .to_owned()
            }
            AlertDescription::HandshakeFailure => {
                format!("it does not accept {own}, or permits no cipher of this program")
            }
            AlertDescription::InternalError | AlertDescription::UserCanceled => {
                return ("see its log".to_owned(), false);
            }
            _ => "see its log".to_owned(),
        };
        (meaning, true)
    }
}

/// A time in seconds since 1970 as a text.
pub(super) fn utc(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// The error of the library in an I/O error.
fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// A name as the library formats it, such as `DnsName("box")`, without its kind.
fn bare_name(name: &str) -> String {
    let inside = name.split_once('(').map_or(name, |(_, inside)| inside);
    inside.trim_matches(['"', ')']).to_owned()
}

/// The name of an alert as the standard has it.
fn name(alert: AlertDescription) -> String {
    let mut text = String::new();
    let debug = match alert {
        AlertDescription::UnknownCA => "UnknownCa".to_owned(),
        AlertDescription::UnrecognisedName => "UnrecognizedName".to_owned(),
        alert => format!("{alert:?}"),
    };
    for letter in debug.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_has_the_name_of_the_standard() {
        for (alert, want) in [
            (AlertDescription::UnknownCA, "unknown_ca"),
            (
                AlertDescription::CertificateRequired,
                "certificate_required",
            ),
            (AlertDescription::UnrecognisedName, "unrecognized_name"),
        ] {
            assert_eq!(name(alert), want);
        }
    }

    #[test]
    fn a_name_has_no_kind() {
        assert_eq!(bare_name("DnsName(\"box\")"), "box");
        assert_eq!(bare_name("IpAddress(::1)"), "::1");
        assert_eq!(bare_name("box"), "box");
    }
}
