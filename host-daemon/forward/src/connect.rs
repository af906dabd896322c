//! How to connect to a cluster, and why that fails: [`NatsOptions`] and [`ConnectError`].

mod files;
mod state;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

pub(crate) use self::state::ConnectionState;
use crate::advice::text;
use crate::failure::refusal;

/// Longest time until a server has accepted a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time until it has sent what it is, too.
pub(crate) const GREETING_TIMEOUT: Duration = Duration::from_secs(6);
/// How often a server is asked whether it is there. One that does not answer three times is left.
const PING: Duration = Duration::from_secs(5);
/// Longest pause between two attempts to connect.
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// How to connect to a cluster.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    /// Addresses of servers, such as `nats://10.0.0.1:4222` or `tls://nats.example.org`.
    pub servers: Vec<String>,
    /// Name that the servers show.
    pub name: String,
    /// How to prove who this is.
    pub credentials: Credentials,
    /// A file with the certificates of the authorities that are trusted, in PEM, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// Files with the certificate of this client and its key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How to prove who this is.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nothing, or the certificate.
    #[default]
    None,
    /// User and password.
    User(String, String),
    /// A token.
    Token(String),
    /// The seed of an nkey.
    Nkey(String),
    /// The content of a file with a JWT and a seed.
    Jwt(String),
}

/// Only the kind, since logs must not show secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::User(..) => "User",
            Self::Token(_) => "Token",
            Self::Nkey(_) => "Nkey",
            Self::Jwt(_) => "Jwt",
        })
    }
}

/// What to do if a server refuses the login.
pub(crate) const CHECK_LOGIN: &str = "check `user` and `password`, `token`, `nkey`, `credentials` or `cert`, and the users of the server; \
                                      a login can have expired, such as the JWT of `credentials`";

/// Why there is no connection to a cluster. Each text names the servers if there are several.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An address, the credentials or a file cannot be used. Only a change of the configuration helps.
    #[error("{0}")]
    Options(String),
    /// A server refuses the login.
    #[error("the server refuses the login: {0}; {CHECK_LOGIN}")]
    Login(String),
    /// The certificates of the server or of this client cannot be used.
    #[error("TLS fails: {0}")]
    Tls(String),
    /// Something answers that is not a server of NATS.
    #[error(
        "this is not the client port of a NATS server: {0}; check the port, which is 4222 by default; a server with \
         `handshake_first: true` is not supported"
    )]
    NotNats(String),
    /// The connection is closed before anything answers.
    #[error(
        "{0}; check that a server runs there, after a proxy if there is one, and that this is its client port, which is 4222 by default; a \
         server with `handshake_first: true` is not supported"
    )]
    Closed(String),
    /// The connection is open, and nothing answers.
    #[error(
        "{0}; check that it runs, that no firewall drops packets, and that this is the client port of a NATS server, \
         which is 4222 by default"
    )]
    Silent(String),
    /// The server is not there.
    #[error("the server cannot be reached: {0}; check that it runs, the address, and the firewall")]
    Unreachable(String),
}

/// Connects to the first server that accepts it. The client connects again after each interruption, to any of them.
///
/// # Errors
/// [`ConnectError`], after each server was tried once.
pub(crate) async fn connect(
    options: &NatsOptions,
) -> Result<(Client, Arc<ConnectionState>), ConnectError> {
    let mut calls = FuturesUnordered::new();
    for server in &options.servers {
        let state = Arc::<ConnectionState>::default();
        let connect = connect_options(options, &state)?;
        calls.push(async move {
            // The time limit of the client does not include the first line of a server.
            let connected = timeout(GREETING_TIMEOUT, connect.connect(server)).await;
            (server, state, connected)
        });
    }
    let mut failures = Vec::new();
    while let Some((server, state, connected)) = calls.next().await {
        match connected {
            Ok(Ok(client)) => {
                state.connected();
                add_servers(&client, &options.servers).await;
                return Ok((client, state));
            }
            Ok(Err(error)) => failures.push((server.as_str(), classified(&error))),
            Err(_) => failures.push((server.as_str(), silent())),
        }
    }
    failures.sort_by_key(|(server, _)| options.servers.iter().position(|it| it == server));
    Err(joined(&failures))
}

/// Lets a client that is connected to one of the servers use the others, too.
async fn add_servers(client: &Client, servers: &[String]) {
    let [_, _, ..] = servers else {
        return;
    };
    let pool = client.server_pool().await.unwrap_or_default();
    let mut all: Vec<_> = pool.into_iter().map(|it| it.addr).collect();
    // Their addresses were parsed when the connection was tried, or are parsed now.
    for server in servers.iter().filter_map(|it| it.parse().ok()) {
        if !all.contains(&server) {
            all.push(server);
        }
    }
    if let Err(error) = client.set_server_pool(all).await {
        tracing::debug!("nats: the further servers are not used: {error}");
    }
}

/// How a client connects. Without `retry_on_initial_connect`, the first failure is known.
fn connect_options(
    options: &NatsOptions,
    state: &Arc<ConnectionState>,
) -> Result<ConnectOptions, ConnectError> {
    let (noted, paused) = (Arc::clone(state), Arc::clone(state));
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .max_reconnects(None)
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING)
        .reconnect_delay_callback(move |attempts| {
            // The caller makes the pauses between the first attempts.
            match paused.has_connected() {
                true => Duration::from_millis(50 << attempts.min(10)).min(RECONNECT_MAX),
                false => Duration::ZERO,
            }
        })
        .event_callback(move |event| {
            noted.note(&event);
            async {}
        });
    connect = match &options.credentials {
        Credentials::None => connect,
        Credentials::User(user, password) => {
            connect.user_and_password(user.clone(), password.clone())
        }
        Credentials::Token(token) => connect.token(token.clone()),
        Credentials::Nkey(seed) => connect.nkey(seed.clone()),
        Credentials::Jwt(file) => with_jwt(connect, file)?,
    };
    // Of the servers that others advertise, too.
    let is_tls = options.servers.iter().all(|it| it.starts_with("tls://"));
    connect = connect.require_tls(is_tls || options.ca.is_some());
    if let Some(ca) = &options.ca {
        connect = connect.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &options.identity {
        connect = connect.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(connect)
}

fn with_jwt(connect: ConnectOptions, file: &str) -> Result<ConnectOptions, ConnectError> {
    // The parser needs a newline after the last line.
    let with = connect.credentials(&format!("{file}\n"));
    with.map_err(|error| ConnectError::Options(format!("credentials: {error}")))
}

/// Why a server was not connected to.
fn classified(error: &async_nats::ConnectError) -> ConnectError {
    if let Some(reason) = refusal(error) {
        return ConnectError::Tls(reason);
    }
    let reason = error.source().map_or_else(|| error.to_string(), text);
    let reason = reason.trim_start_matches("nats: ").to_owned();
    let lower = reason.to_lowercase();
    match error.kind() {
        ConnectErrorKind::ServerParse => ConnectError::Options(text(error)),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Login(reason)
        }
        ConnectErrorKind::Tls => ConnectError::Tls(reason),
        ConnectErrorKind::TimedOut => silent(),
        _ if lower.contains("tls handshake") => ConnectError::Tls(format!(
            "{reason}; check that the server has TLS, and trusts the certificate of this client"
        )),
        _ if lower.contains("authentication") || lower.contains("authorization") => {
            ConnectError::Login(reason)
        }
        _ if lower.contains("expected info, got nothing") => ConnectError::Closed(
            "the connection is closed before a server has said anything".to_owned(),
        ),
        _ if is_of_another_port(&lower) => ConnectError::NotNats(reason),
        _ => ConnectError::Unreachable(reason),
    }
}

fn silent() -> ConnectError {
    ConnectError::Silent(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
}

/// Whether a text says that another protocol answers.
fn is_of_another_port(lower: &str) -> bool {
    let texts = [
        "expected info",
        "invalid server operation",
        "attempted to connect to",
        "unable to parse",
    ];
    texts.iter().any(|text| lower.contains(text))
}

/// Names, separated by commas and, before the last one, by "and".
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// One error of those of all servers: of the most telling kind, with the reasons of all, each once.
fn joined(failures: &[(&str, ConnectError)]) -> ConnectError {
    let [(_, only)] = failures else {
        let reasons = failures
            .iter()
            .enumerate()
            .filter_map(|(index, (_, error))| {
                let reason = error.reason();
                let is_of = |(_, it): &&(_, ConnectError)| it.reason() == reason;
                // At the last of the servers that have it.
                if failures[index + 1..].iter().any(|it| is_of(&it)) {
                    return None;
                }
                let servers: Vec<_> = failures.iter().filter(is_of).map(|it| it.0).collect();
                Some(format!("{}: {reason}", listed(&servers)))
            });
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let kinds = failures.iter().map(|(_, error)| error.parts().0);
        let kind = kinds.min().unwrap_or(Rank::Unreachable);
        return kind.error(reasons);
    };
    only.clone()
}

/// How telling an error is: the first is the most telling one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Options,
    Login,
    Tls,
    NotNats,
    Closed,
    Silent,
    Unreachable,
}

impl Rank {
    const fn error(self, reason: String) -> ConnectError {
        match self {
            Self::Options => ConnectError::Options(reason),
            Self::Login => ConnectError::Login(reason),
            Self::Tls => ConnectError::Tls(reason),
            Self::NotNats => ConnectError::NotNats(reason),
            Self::Closed => ConnectError::Closed(reason),
            Self::Silent => ConnectError::Silent(reason),
            Self::Unreachable => ConnectError::Unreachable(reason),
        }
    }
}

impl ConnectError {
    /// The reason alone.
    pub(crate) fn reason(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (Rank, &str) {
        match self {
            Self::Options(reason) => (Rank::Options, reason),
            Self::Login(reason) => (Rank::Login, reason),
            Self::Tls(reason) => (Rank::Tls, reason),
            Self::NotNats(reason) => (Rank::NotNats, reason),
            Self::Closed(reason) => (Rank::Closed, reason),
            Self::Silent(reason) => (Rank::Silent, reason),
            Self::Unreachable(reason) => (Rank::Unreachable, reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use async_nats::rustls::{self, CertificateError};

    use super::*;

    fn io_error(error: impl Into<Box<dyn Error + Send + Sync>>) -> async_nats::ConnectError {
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        async_nats::ConnectError::with_source(ConnectErrorKind::Io, error)
    }

    #[test]
    fn each_failure_says_what_is_wrong() {
        let rustls = |error| classified(&io_error(rustls::Error::InvalidCertificate(error)));
        let unknown = rustls(CertificateError::UnknownIssuer);
        assert!(
            matches!(&unknown, ConnectError::Tls(it) if it.contains("`ca`")),
            "{unknown}"
        );
        let name = rustls(CertificateError::NotValidForName);
        assert!(
            matches!(&name, ConnectError::Tls(it) if it.contains("address")),
            "{name}"
        );
        let eof = classified(&io_error("tls handshake eof"));
        assert!(matches!(eof, ConnectError::Tls(_)), "{eof}");
        let closed = classified(&io_error("expected INFO, got nothing"));
        assert!(matches!(closed, ConnectError::Closed(_)), "{closed}");
        for text in [
            "invalid server operation: 'SSH'",
            "unable to parse unknown input",
        ] {
            let other = classified(&io_error(text));
            assert!(matches!(other, ConnectError::NotNats(_)), "{other}");
        }
        let expired = classified(&io_error("user authentication expired"));
        assert!(matches!(expired, ConnectError::Login(_)), "{expired}");
        let away = classified(&io_error("connection refused"));
        assert!(matches!(away, ConnectError::Unreachable(_)), "{away}");
    }

    #[test]
    fn the_most_telling_failure_of_several_servers_is_shown_with_all_reasons() {
        let error = joined(&[
            ("nats://n1", ConnectError::Unreachable("refused".to_owned())),
            ("nats://n2", ConnectError::Login("violation".to_owned())),
        ]);
        let text = "nats://n1: refused, nats://n2: violation".to_owned();
        assert_eq!(error, ConnectError::Login(text));
    }

    #[test]
    fn a_reason_of_several_servers_is_said_once() {
        let refused = |server| (server, ConnectError::Login("violation".to_owned()));
        let away = |server| (server, ConnectError::Unreachable("refused".to_owned()));
        let login = |text: &str| ConnectError::Login(text.to_owned());
        let all = joined(&["nats://n1", "nats://n2", "nats://n3"].map(refused));
        let wanted = "nats://n1, nats://n2 and nats://n3: violation";
        assert_eq!(all, login(wanted));
        let some = joined(&[
            refused("nats://n1"),
            away("nats://n2"),
            refused("nats://n3"),
        ]);
        let wanted = "nats://n2: refused, nats://n1 and nats://n3: violation";
        assert_eq!(some, login(wanted));
    }
}
