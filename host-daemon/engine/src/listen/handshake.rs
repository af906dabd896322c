//! A step that secures a connection before its first message, such as TLS: a [`Handshake`].

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::certificate::PeerCertificate;
use crate::listen::transport::Transport;
use crate::reason::HandshakeRefusal;

/// Time for a handshake, from the accepted connection on. It cannot be switched off.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Secures connections of a listener. The engine runs it in the task of the connection, for at most
/// [`HANDSHAKE_TIMEOUT`], and for a bounded number of connections at once.
pub trait Handshake: Any + fmt::Debug + Send + Sync {
    /// Performs the handshake. When the future is dropped, the connection closes.
    fn handshake(self: Arc<Self>, transport: Box<dyn Transport>) -> Handshaking;

    /// Reads the files of its rules again: always, or only if one was written since. Returns whether new ones are in effect.
    /// Connections that are open go on; have them [checked](crate::permit::Connections::recheck). The default has no files.
    ///
    /// # Errors
    /// Why the new files cannot be used. The old rules stay in effect.
    fn renew(&self, _always: bool) -> Result<bool, RenewError> {
        Ok(false)
    }

    /// Takes the rules of another one of the same type. The default takes none.
    fn replace(&self, _new: &dyn Handshake) {}

    /// Returns whether open connections depend on its rules. The default is `false`.
    fn is_used(&self) -> bool {
        false
    }

    /// Returns what a person should know, such as rules that have expired. The default returns nothing.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns when parts of the rules end, in seconds since 1970, by the kind of the part. The default returns nothing.
    fn ends(&self) -> Vec<(&'static str, i64)> {
        Vec::new()
    }
}

/// Why the files of a handshake cannot be used.
pub type RenewError = Box<dyn std::error::Error + Send + Sync>;

/// The future of a handshake.
pub type Handshaking = Pin<Box<dyn Future<Output = Result<Secured, HandshakeError>> + Send>>;

/// A secured connection.
#[derive(Debug)]
pub struct Secured {
    /// The transport, which decrypts and encrypts.
    pub transport: Box<dyn Transport>,
    /// The certificate of the peer, if it has one. Its name identifies the device.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct HandshakeError {
    /// The kind, by which failures are counted.
    pub reason: HandshakeRefusal,
    /// What is wrong, for a person.
    pub text: String,
    /// The error of the library or the system, if there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl HandshakeError {
    /// Creates an error with the text of its reason.
    #[must_use]
    pub fn of(reason: HandshakeRefusal) -> Self {
        Self {
            text: reason.to_string(),
            reason,
            source: None,
        }
    }
}
