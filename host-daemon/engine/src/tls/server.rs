//! A listener's side of TLS: a [`TlsServer`] performs handshakes, and takes new files while it runs.

use std::any::Any;
use std::error::Error as _;
use std::future::poll_fn;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::listen::handshake::{Handshake, HandshakeError, Handshaking, RenewError, Secured};
use crate::listen::transport::Transport;
use crate::reason::HandshakeRefusal;
use crate::tls::config::{CurrentConfig, TlsConfig, TlsError, now};
use crate::tls::files::TlsFiles;
use crate::tls::identity::identify;
use crate::tls::review::NewestLists;
use crate::tls::transport::{HandshakeFailure, TlsTransport};
use crate::tls::verifier::refusal;

/// The TLS of a listener. Connections that are open keep their keys when new files are taken.
#[derive(Debug)]
pub struct TlsServer {
    current: Arc<CurrentConfig>,
    source: Mutex<Source>,
}

#[derive(Debug)]
struct Source {
    files: TlsFiles,
    /// The state of each file when it was read last.
    stamps: Vec<Option<Stamp>>,
    newest_lists: NewestLists,
    /// Why the last attempt to take new files failed.
    failure: Option<String>,
}

/// What differs when a file was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] for the first file that cannot be used.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let stamps = stamps(&files);
        let config = files.load()?;
        let mut newest_lists = NewestLists::default();
        newest_lists.add(config.lists());
        Ok(Arc::new(Self {
            current: Arc::new(CurrentConfig::new(config)),
            source: Mutex::new(Source {
                files,
                stamps,
                newest_lists,
                failure: None,
            }),
        }))
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<CurrentConfig> {
        Arc::clone(&self.current)
    }

    /// Returns what new connections use.
    #[must_use]
    pub fn current(&self) -> Arc<TlsConfig> {
        self.current.get()
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handshake for TlsServer {
    fn handshake(self: Arc<Self>, transport: Box<dyn Transport>) -> Handshaking {
        Box::pin(self.secure(transport))
    }

    /// Resumption begins anew: a session that was made before cannot be resumed. Files that are refused are not tried again
    /// until one of them is written.
    fn renew(&self, always: bool) -> Result<bool, RenewError> {
        let mut source = self.source();
        let stamps = stamps(&source.files);
        if !always && stamps == source.stamps {
            return Ok(false);
        }
        source.stamps = stamps;
        match source.files.load() {
            Ok(config) => {
                source.failure = None;
                source.newest_lists.add(config.lists());
                self.current.set(Arc::new(config));
                Ok(true)
            }
            Err(error) => {
                source.failure = Some(with_cause(&error));
                Err(error.into())
            }
        }
    }

    fn replace(&self, new: &dyn Handshake) {
        let new: &dyn Any = new;
        let Some(new) = new.downcast_ref::<Self>() else {
            return;
        };
        let from = new.source();
        let mut source = self.source();
        source.files.clone_from(&from.files);
        source.stamps.clone_from(&from.stamps);
        source.failure = None;
        let config = new.current();
        source.newest_lists.add(config.lists());
        self.current.set(config);
    }

    fn is_used(&self) -> bool {
        // Each connection has a reference.
        1 < Arc::strong_count(&self.current)
    }

    fn problems(&self) -> Vec<String> {
        let source = self.source();
        let failure = source.failure.as_ref();
        let failure = failure.map(|failure| format!("new files were not taken: {failure}"));
        let (config, files) = (self.current(), &source.files);
        let end = config.not_after();
        let crl = files.crl.as_deref().unwrap_or_else(|| Path::new(""));
        let ca = files.ca.as_deref().unwrap_or_else(|| Path::new(""));
        let of_server = |what: &str| {
            format!(
                "the certificate of the server {what} ({})",
                files.cert.display()
            )
        };
        let is_past = |end: Option<i64>| end.is_some_and(|end| end < now());
        let expired = is_past(end.certificate).then(|| of_server("has expired"));
        let early = (now() < config.begin()).then(|| of_server("is not valid yet"));
        let of_ca = || {
            format!(
                "a certificate of an authority has expired ({})",
                ca.display()
            )
        };
        let of_ca = is_past(end.ca).then(of_ca);
        let overdue = config.lists().iter().filter(|it| is_past(it.end()));
        let overdue = overdue.map(|it| it.expired(crl));
        let dated = expired.into_iter().chain(early).chain(of_ca).chain(overdue);
        let older = source.newest_lists.warnings(crl, config.lists());
        let warnings = config.warnings().iter().cloned().chain(older);
        failure.into_iter().chain(dated).chain(warnings).collect()
    }

    fn ends(&self) -> Vec<(&'static str, i64)> {
        let all = self.current().not_after().by_kind().into_iter();
        all.filter_map(|(kind, end)| Some((kind, end?))).collect()
    }
}

impl TlsServer {
    async fn secure(
        self: Arc<Self>,
        transport: Box<dyn Transport>,
    ) -> Result<Secured, HandshakeError> {
        let config = self.current();
        let server = Arc::clone(&config.server);
        let mut tls =
            TlsTransport::new(transport, server, Arc::clone(&self.current)).map_err(refusal)?;
        while tls.is_handshaking() {
            let read = poll_fn(|context| tls.poll_handshake(context)).await;
            read.map_err(|failure| failed(&tls, failure))?;
        }
        let sent = poll_fn(|context| tls.poll_sent(context)).await;
        sent.map_err(|error| failed(&tls, HandshakeFailure::Io(error)))?;
        let current = self.current();
        // A resumed session has not shown its certificate, and the files may be new.
        if tls.is_resumed() || !Arc::ptr_eq(&current, &config) {
            current.check(tls.certificates()).map_err(refusal)?;
        }
        tls.checked_by(&current);
        let certificate = match tls.certificates() {
            Some([first, ..]) => Some(Arc::new(identify(first).map_err(bad_name)?)),
            _ => None,
        };
        Ok(Secured {
            transport: Box::new(tls),
            certificate,
        })
    }
}

/// The text of an error, with that of its cause.
fn with_cause(error: &TlsError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn bad_name(error: crate::tls::identity::NameError) -> HandshakeError {
    let reason = HandshakeRefusal::BadName;
    HandshakeError {
        text: format!("{reason}: {error}"),
        reason,
        source: Some(Box::new(error)),
    }
}

fn failed(tls: &TlsTransport, failure: HandshakeFailure) -> HandshakeError {
    match failure {
        HandshakeFailure::Tls(error) => match plain_text(tls.greeting()) {
            Some(text) => HandshakeError {
                reason: HandshakeRefusal::PlainText,
                text,
                source: Some(Box::new(error)),
            },
            None => refusal(error),
        },
        HandshakeFailure::Io(error) => HandshakeError {
            source: Some(Box::new(error)),
            ..HandshakeError::of(HandshakeRefusal::Closed)
        },
        HandshakeFailure::Ended => HandshakeError::of(HandshakeRefusal::Closed),
    }
}

/// Says what a peer sends that does not speak TLS.
fn plain_text(received: &[u8]) -> Option<String> {
    /// The content types of records that a client may begin with: handshake and alert.
    const RECORDS: [u8; 2] = [22, 21];
    let first = received.first()?;
    if RECORDS.contains(first) {
        return None;
    }
    let is = |text: &str| received.starts_with(text.as_bytes());
    let what = if is("GET ") || is("POST ") || is("PUT ") || is("HEAD ") {
        "HTTP without TLS"
    } else if is("SSH-") {
        "SSH"
    } else if is("PROXY ") || received.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
        "a header of the PROXY protocol, which needs `proxy-from`"
    } else {
        "plain bytes, and this listener expects TLS"
    };
    Some(format!("the peer sends {what}"))
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            inode: metadata.ino(),
        })
    };
    files.paths().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Fleet;

    /// What the look at the files each minute does.
    #[test]
    fn files_are_read_again_only_if_one_was_written() {
        let fleet = Fleet::new();
        let server = TlsServer::load(fleet.files()).unwrap();
        let first = server.current();
        assert!(!server.renew(false).unwrap(), "nothing was written");
        assert!(Arc::ptr_eq(&first, &server.current()));
        let good = std::fs::read_to_string(fleet.files().cert).unwrap();
        fleet.write("new.pem", &(good.clone() + "\n"));
        let written = || std::fs::rename(fleet.folder.path().join("new.pem"), fleet.files().cert);
        written().unwrap();
        assert!(server.renew(false).unwrap());
        assert!(!Arc::ptr_eq(&first, &server.current()));
        fleet.write("new.pem", "nonsense");
        written().unwrap();
        let second = server.current();
        assert!(server.renew(false).is_err());
        assert!(Arc::ptr_eq(&second, &server.current()));
        assert_eq!(server.problems().len(), 1);
        // They are not tried again until one is written.
        assert!(!server.renew(false).unwrap());
        assert_eq!(server.problems().len(), 1);
        fleet.write("new.pem", &good);
        written().unwrap();
        assert!(server.renew(false).unwrap());
        assert!(server.problems().is_empty());
    }
}
