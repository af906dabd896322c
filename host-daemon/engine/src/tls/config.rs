//! Reads the files of a listener with TLS: [`TlsFiles::load`] makes a [`TlsConfig`] of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::tls::allow::{AllowError, AllowList};
use crate::tls::files::{ClientAuth, MinVersion, TlsFiles};
use crate::tls::provider;
use crate::tls::review::{self, ListAge};
use crate::tls::verifier::{DeviceVerifier, forget_refused};

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 20;
/// Configurations that were loaded so far.
static LOADED: AtomicU32 = AtomicU32::new(1);

/// Sessions that clients may resume, for each listener: about 1 MiB.
const SESSIONS: usize = 1024;

/// Why the files of a listener cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file is not valid PEM.
    #[error("{}: not valid PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file does not contain what it should.
    #[error("{} contains no {what}{hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it should contain.
        what: &'static str,
        /// What it contains instead, and what to do.
        hint: &'static str,
    },
    /// A certificate, key or list cannot be used.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A line of the list of allowed devices cannot be used.
    #[error("{}", path.display())]
    Allow {
        /// The file.
        path: PathBuf,
        /// The line.
        source: AllowError,
    },
    /// Clients need a certificate, and no authority is given.
    #[error(
        "certificates of clients need an authority that is trusted (`ca`), or `clients = \"none\"`"
    )]
    NoCa,
    /// Clients are not asked for a certificate, and a rule needs one.
    #[error("`{key}` needs certificates of clients, and `clients` is \"none\"")]
    NoClients {
        /// The rule.
        key: &'static str,
    },
}

/// When something ends, in seconds since 1970; the earliest of several. `None` if there is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotAfter {
    /// The certificate of the server.
    pub certificate: Option<i64>,
    /// An authority of client certificates.
    pub ca: Option<i64>,
    /// The next update of the list of revoked certificates.
    pub crl: Option<i64>,
}

/// What the files of a listener say.
pub struct TlsConfig {
    pub(super) server: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    clients: ClientAuth,
    not_after: NotAfter,
    /// When the certificate of the server begins, in seconds since 1970.
    begin: i64,
    lists: Vec<ListAge>,
    warnings: Vec<String>,
    number: u32,
}

/// What checks the certificates of clients.
#[derive(Default)]
struct OfClients {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// When the first authority ends, and the first list of revoked certificates is to be updated.
    ca_end: Option<i64>,
    crl_end: Option<i64>,
    lists: Vec<ListAge>,
    warnings: Vec<String>,
}

/// What new connections use.
#[derive(Debug)]
pub(super) struct CurrentConfig(RwLock<Arc<TlsConfig>>);

impl CurrentConfig {
    pub(super) fn new(config: TlsConfig) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    pub(super) fn get(&self) -> Arc<TlsConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, config: Arc<TlsConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] for the first file that cannot be used.
    pub fn load(&self) -> Result<TlsConfig, TlsError> {
        let chain = certificates(&self.cert)?;
        let key = key(&self.key)?;
        let of_clients = self.of_clients()?;
        let not_after = NotAfter {
            certificate: chain.first().map(|it| end_of(&self.cert, it)).transpose()?,
            ca: of_clients.ca_end,
            crl: of_clients.crl_end,
        };
        let begin = chain.first().map_or(0, review::begin_of);
        let of_server = chain.first().map(|it| review::of_server(&self.cert, it));
        let mut warnings = of_server.unwrap_or_default();
        warnings.extend(of_clients.warnings);
        let verifier = of_clients.verifier;
        let versions: &[_] = match self.min {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let of_cert = |error: rustls::Error| TlsError::Unusable {
            path: self.cert.clone(),
            reason: match error {
                rustls::Error::InconsistentKeys(_) => format!(
                    "the certificate does not belong to the key in {}",
                    self.key.display()
                ),
                error => error.to_string(),
            },
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(of_cert)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(of_cert)?;
        server.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        // A device that only sends never reads a ticket. When it closes, its kernel would reset the connection because of
        // the unread bytes, and what it sent last would be lost.
        server.send_tls13_tickets = 0;
        server.alpn_protocols.clone_from(&self.protocols);
        Ok(TlsConfig {
            server: Arc::new(server),
            verifier,
            clients: self.clients,
            not_after,
            begin,
            lists: of_clients.lists,
            warnings,
            number: LOADED.fetch_add(1, Ordering::Relaxed),
        })
    }

    fn of_clients(&self) -> Result<OfClients, TlsError> {
        if self.clients == ClientAuth::None {
            let rules = [(&self.ca, "ca"), (&self.crl, "crl"), (&self.allow, "allow")];
            return match rules.into_iter().find(|(path, _)| path.is_some()) {
                Some((_, key)) => Err(TlsError::NoClients { key }),
                None => Ok(OfClients::default()),
            };
        }
        let path = self.ca.as_ref().ok_or(TlsError::NoCa)?;
        let authorities = certificates(path)?;
        let mut of_clients = OfClients {
            warnings: review::of_authorities(path, &authorities),
            ..OfClients::default()
        };
        let mut roots = RootCertStore::empty();
        for certificate in &authorities {
            of_clients.ca_end = earlier(of_clients.ca_end, end_of(path, certificate)?);
            roots
                .add(certificate.clone())
                .map_err(|error| TlsError::Unusable {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
        let mut builder = builder;
        if let Some(path) = &self.crl {
            let mut all = Vec::new();
            for list in revoked(path)? {
                all.push((ListAge::of(&parsed_list(path, &list)?), list));
            }
            let older = review::take_older(path, &mut all);
            of_clients.warnings.extend(older);
            let (ages, lists): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            of_clients.lists = ages;
            of_clients.crl_end = of_clients.lists.iter().filter_map(ListAge::end).min();
            let unused = review::of_lists(path, &of_clients.lists, &authorities);
            of_clients.warnings.extend(unused);
            builder = builder
                .with_crls(lists)
                // An authority without a list has revoked nothing.
                .allow_unknown_revocation_status();
        }
        if self.clients == ClientAuth::Offer {
            builder = builder.allow_unauthenticated();
        }
        let inner = builder.build().map_err(|error| TlsError::Unusable {
            path: self.crl.as_ref().unwrap_or(path).clone(),
            reason: error.to_string(),
        })?;
        let allow = self.allow.as_ref().map(|path| allow(path)).transpose()?;
        let shut = allow.as_ref().zip(self.allow.as_ref());
        if let Some((_, path)) = shut.filter(|(allow, _)| allow.is_empty()) {
            of_clients.warnings.push(review::of_nobody(path));
        }
        let verifier = DeviceVerifier::new(inner, allow, self.names);
        of_clients.verifier = Some(Arc::new(verifier));
        Ok(of_clients)
    }
}

impl TlsConfig {
    /// Returns the configuration of rustls, for other servers than the engine.
    #[must_use]
    pub const fn server(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    /// Returns when the certificates and lists end.
    #[must_use]
    pub const fn not_after(&self) -> NotAfter {
        self.not_after
    }

    /// When the certificate of the server begins, in seconds since 1970.
    pub(super) const fn begin(&self) -> i64 {
        self.begin
    }

    /// What is wrong with the files although they can be used.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The lists of revoked certificates.
    pub(super) fn lists(&self) -> &[ListAge] {
        &self.lists
    }

    /// A number that no other configuration of this process has.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Checks the certificate of a client, as a new handshake would.
    pub(super) fn check(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<(), rustls::Error> {
        self.check_at(certificates, UnixTime::now())
    }

    /// Whether the client of an open connection may stay. A certificate that has expired since may.
    pub(super) fn is_allowed(&self, certificates: Option<&[CertificateDer<'_>]>) -> bool {
        let mut time = UnixTime::now();
        let ends = certificates.unwrap_or_default().iter();
        let ends = ends.filter_map(|it| end_of(Path::new(""), it).ok());
        if let Some(end) = ends.min().and_then(|end| u64::try_from(end).ok())
            && end < time.as_secs()
        {
            time = UnixTime::since_unix_epoch(Duration::from_secs(end));
        }
        let is_allowed = self.check_at(certificates, time).is_ok();
        forget_refused();
        is_allowed
    }

    fn check_at(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
        time: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        match certificates {
            Some([first, others @ ..]) => {
                verifier.verify_client_cert(first, others, time).map(drop)
            }
            _ if self.clients == ClientAuth::Require => Err(rustls::Error::NoCertificatesPresented),
            _ => Ok(()),
        }
    }
}

impl NotAfter {
    /// Returns each kind with its end.
    #[must_use]
    pub const fn by_kind(self) -> [(&'static str, Option<i64>); 3] {
        [
            ("certificate", self.certificate),
            ("ca", self.ca),
            ("crl", self.crl),
        ]
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("clients", &self.clients)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

fn earlier(one: Option<i64>, other: i64) -> Option<i64> {
    Some(one.map_or(other, |one| one.min(other)))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    // Without waiting: a FIFO would block a reload until somebody writes to it.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut options = std::fs::File::options();
    let file = options.read(true).custom_flags(flags).open(path);
    let file = file.map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(TlsError::Unusable {
            path: path.to_owned(),
            reason: "not a regular file".to_owned(),
        });
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if FILE_MAX < bytes.len() as u64 {
        return Err(TlsError::Unusable {
            path: path.to_owned(),
            reason: format!("longer than {FILE_MAX} bytes"),
        });
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        source,
    })?;
    if certificates.is_empty() {
        return Err(missing(path, "certificate", &bytes));
    }
    Ok(certificates)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(missing(path, "private key", &bytes)),
        Err(source) => Err(TlsError::Pem {
            path: path.to_owned(),
            source,
        }),
    }
}

fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bytes = read(path)?;
    // DER begins with a SEQUENCE.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes.into()]);
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        source,
    })?;
    if lists.is_empty() {
        return Err(missing(path, "list of revoked certificates", &bytes));
    }
    Ok(lists)
}

fn allow(path: &Path) -> Result<AllowList, TlsError> {
    let text = String::from_utf8(read(path)?).map_err(|_| TlsError::Unusable {
        path: path.to_owned(),
        reason: "not UTF-8 text".to_owned(),
    })?;
    text.parse().map_err(|source| TlsError::Allow {
        path: path.to_owned(),
        source,
    })
}

/// The error of a file that contains something else.
fn missing(path: &Path, what: &'static str, bytes: &[u8]) -> TlsError {
    let has = |text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    let hint = if has("ENCRYPTED") {
        ": the key is encrypted; decrypt it, as with `openssl pkey`"
    } else if what != "private key" && has("PRIVATE KEY-----") {
        ", but a private key"
    } else if what != "certificate" && has("BEGIN CERTIFICATE-----") {
        ", but a certificate"
    } else if bytes.first() == Some(&0x30) {
        ": it is DER, and must be PEM"
    } else {
        ""
    };
    TlsError::Missing {
        path: path.to_owned(),
        what,
        hint,
    }
}

/// When a certificate ends, in seconds since 1970.
fn end_of(path: &Path, certificate: &CertificateDer<'_>) -> Result<i64, TlsError> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed.validity().not_after.timestamp()),
        Err(error) => Err(TlsError::Unusable {
            path: path.to_owned(),
            reason: format!("malformed certificate: {error}"),
        }),
    }
}

fn parsed_list<'a>(
    path: &Path,
    list: &'a CertificateRevocationListDer<'_>,
) -> Result<CertificateRevocationList<'a>, TlsError> {
    match CertificateRevocationList::from_der(list) {
        Ok((_, parsed)) => Ok(parsed),
        Err(error) => Err(TlsError::Unusable {
            path: path.to_owned(),
            reason: format!("malformed list of revoked certificates: {error}"),
        }),
    }
}
