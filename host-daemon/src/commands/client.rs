//! Asks a running daemon over its HTTP API. Start with [`DaemonClient`]: [`get`](DaemonClient::get) reads an answer,
//! [`follow`](DaemonClient::follow) the lines of one that does not end.

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::lookup_host;
use tokio::task::JoinHandle;

use crate::api::from_json;
use crate::cli::TlsOptions;
use crate::error::{CommandError, TlsError};
use crate::escape::printable;
use crate::http::access::read_token;
use crate::tls::client::Connector;

/// Maximum time until the daemon has answered, if the command sets no other.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time without a byte of an answer that does not end. The daemon sends an empty line each 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Maximum length of an answer, in bytes.
const ANSWER_MAX: usize = 256 << 20;
/// Maximum length of a line of an answer that does not end, in bytes.
const LINE_MAX: usize = 16 << 20;
/// Maximum length of the answer that refuses a request, in bytes.
const REFUSAL_MAX: usize = 64 << 10;
/// Characters of an error of the daemon that are shown.
const REASON_MAX: usize = 200;
/// The port of a URL that has none, and that of one with TLS.
const PORTS: [u16; 2] = [80, 443];

/// A client of one daemon. It keeps its connection for the next request.
#[derive(Debug)]
pub(super) struct DaemonClient {
    url: Uri,
    connector: Connector,
    token: Option<HeaderValue>,
    timeout: Duration,
    kept: Option<RequestSender>,
}

type RequestSender = SendRequest<Empty<Bytes>>;
type ConnectionTask = JoinHandle<Result<(), hyper::Error>>;

/// The path and query of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestTarget(String);

/// The lines of an answer that does not end.
#[derive(Debug)]
pub(super) struct StreamedLines {
    body: Incoming,
    /// Keeps the connection.
    _sender: RequestSender,
    address: String,
    /// The beginning of a line.
    incomplete: Vec<u8>,
}

impl RequestTarget {
    /// A path, without a query.
    pub(super) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// Adds a member to the query.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Display) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.to_string().bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    self.0.push(byte.into());
                }
                // A write to memory does not fail.
                _ => write!(self.0, "%{byte:02X}").unwrap_or_default(),
            }
        }
        self
    }
}

impl DaemonClient {
    /// A client of the daemon at this address. It does not connect yet.
    ///
    /// # Errors
    /// [`CommandError::File`] if a file cannot be read; [`CommandError::ClientTls`].
    pub(super) fn new(
        url: &Uri,
        token: Option<&Path>,
        tls: &TlsOptions,
    ) -> Result<Self, CommandError> {
        let is_https = url.scheme() == Some(&Scheme::HTTPS);
        Ok(Self {
            url: url.clone(),
            connector: Connector::of_url(tls, is_https, url.host().unwrap_or_default())?,
            token: token.map(bearer).transpose()?,
            timeout: TIMEOUT,
            kept: None,
        })
    }

    /// Sets the maximum time until the daemon has answered.
    #[cfg(feature = "top")]
    #[must_use]
    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Asks for an answer.
    ///
    /// # Errors
    /// [`CommandError::Connect`], [`CommandError::Request`].
    pub(super) async fn get<T: DeserializeOwned>(
        &mut self,
        target: &RequestTarget,
    ) -> Result<T, CommandError> {
        let (status, body) = self.ask(target).await?;
        match status {
            StatusCode::OK => self.read(&body),
            _ => Err(self.failed(self.refusal(status, &body, target))),
        }
    }

    /// Asks for an answer about something that the daemon may not know: `None` if it does not.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[cfg(feature = "top")]
    pub(super) async fn find<T: DeserializeOwned>(
        &mut self,
        target: &RequestTarget,
    ) -> Result<Option<T>, CommandError> {
        let (status, body) = self.ask(target).await?;
        match status {
            StatusCode::OK => self.read(&body).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.failed(self.refusal(status, &body, target))),
        }
    }

    /// Asks for an answer that does not end.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) async fn follow(
        &mut self,
        target: &RequestTarget,
    ) -> Result<StreamedLines, CommandError> {
        let sent = tokio::time::timeout(self.timeout, self.send(target)).await;
        let (sender, response) = sent.unwrap_or_else(|_| Err(self.late()))?;
        let status = response.status();
        let body = response.into_body();
        if status == StatusCode::OK {
            return Ok(StreamedLines {
                body,
                _sender: sender,
                address: self.address(),
                incomplete: Vec::new(),
            });
        }
        let refused = Limited::new(body, REFUSAL_MAX).collect();
        let refused = tokio::time::timeout(self.timeout, refused).await;
        let refused = refused.ok().and_then(Result::ok);
        let refused = refused.map(|it| it.to_bytes()).unwrap_or_default();
        Err(self.failed(self.refusal(status, &refused, target)))
    }

    async fn ask(&mut self, target: &RequestTarget) -> Result<(StatusCode, Bytes), CommandError> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(target)).await;
        answered.unwrap_or_else(|_| Err(self.late()))
    }

    async fn exchange(
        &mut self,
        target: &RequestTarget,
    ) -> Result<(StatusCode, Bytes), CommandError> {
        let (sender, response) = self.send(target).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect();
        let body = body.await;
        let body = body.map_err(|error| {
            self.failed(format!(
                "the answer is incomplete: {}",
                reason(error.as_ref())
            ))
        })?;
        self.kept = Some(sender);
        Ok((status, body.to_bytes()))
    }

    async fn send(
        &mut self,
        target: &RequestTarget,
    ) -> Result<(RequestSender, Response<Incoming>), CommandError> {
        if let Some(mut kept) = self.kept.take()
            && kept.ready().await.is_ok()
            && let Ok(response) = kept.send_request(self.request(target)?).await
        {
            return Ok((kept, response));
        }
        // There was no connection, or the daemon has closed it meanwhile.
        let (mut sender, connection) = self.connect().await?;
        match sender.send_request(self.request(target)?).await {
            Ok(response) => Ok((sender, response)),
            Err(error) => {
                drop(sender);
                let ended = connection.await.ok().and_then(Result::err);
                Err(self.unanswered(&error, ended.as_ref()))
            }
        }
    }

    async fn connect(&self) -> Result<(RequestSender, ConnectionTask), CommandError> {
        let host = self.url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = PORTS[usize::from(self.connector.is_tls())];
        let connected = async {
            let found = lookup_host((host, self.url.port_u16().unwrap_or(port))).await?;
            let found: Vec<_> = found.collect();
            // The whole request has a limit on its time.
            self.connector.connect(&found, None).await
        };
        let stream = connected.await.map_err(|error| CommandError::Connect {
            address: self.authority().to_owned(),
            error,
        })?;
        let connected = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = connected.map_err(|error| self.unanswered(&error, None))?;
        // It ends when the sender and the answer are dropped.
        Ok((sender, tokio::spawn(connection)))
    }

    fn request(&self, target: &RequestTarget) -> Result<Request<Empty<Bytes>>, CommandError> {
        let mut request = Request::get(&target.0).header(HOST, self.authority());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Empty::new());
        request.map_err(|error| self.failed(error.to_string()))
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, CommandError> {
        from_json(body).map_err(|error| {
            self.failed(format!(
                "the answer is not that of a daemon of this version: {error}"
            ))
        })
    }

    fn authority(&self) -> &str {
        self.url.authority().map_or("", |it| it.as_str())
    }

    fn address(&self) -> String {
        let scheme = match self.connector.is_tls() {
            true => "https",
            false => "http",
        };
        format!("{scheme}://{}", self.authority())
    }

    /// Why the daemon refused a request. The text comes from the other end, so it is escaped and cut.
    fn refusal(&self, status: StatusCode, body: &[u8], target: &RequestTarget) -> String {
        let text = String::from_utf8_lossy(body);
        let text: String = text.trim().chars().take(REASON_MAX).collect();
        let hint = match status {
            StatusCode::UNAUTHORIZED if self.token.is_some() => {
                "; the token of --token FILE is another one"
            }
            StatusCode::UNAUTHORIZED => "; add --token FILE",
            StatusCode::NOT_FOUND if target.0.starts_with("/api/v1/devices") => {
                "; the address must be that of --http, not of --metrics"
            }
            StatusCode::NOT_FOUND => {
                "; the daemon is older than this program, or the address is that of --metrics"
            }
            _ => "",
        };
        format!("refused with {status}: {}{hint}", printable(text))
    }

    fn failed(&self, reason: String) -> CommandError {
        let url = self.address();
        CommandError::Request { url, reason }
    }

    /// The error of a request without an answer, and that of its connection. In TLS 1.3, the server refuses a client
    /// certificate only here.
    fn unanswered(&self, error: &hyper::Error, ended: Option<&hyper::Error>) -> CommandError {
        let of_connection = ended.and_then(|ended| TlsError::among_causes(ended));
        match TlsError::among_causes(error).or(of_connection) {
            Some(refused) if refused.is_final() => CommandError::Connect {
                address: self.authority().to_owned(),
                error: refused.clone().into(),
            },
            Some(cut) => self.failed(format!("not answered: {cut}")),
            None if error.is_parse() && !self.connector.is_tls() => self.failed(format!(
                "not answered: {error}; if the daemon has TLS there, use https://"
            )),
            None => self.failed(format!("not answered: {error}")),
        }
    }

    fn late(&self) -> CommandError {
        self.failed(format!("no answer within {} s", self.timeout.as_secs()))
    }
}

impl StreamedLines {
    /// The next complete lines, at least one. They may be empty.
    ///
    /// # Errors
    /// [`CommandError::Request`] when the daemon ends, or is silent for too long.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, CommandError> {
        loop {
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await;
            let frame = match frame {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Err(self.failed("the daemon has ended".to_owned())),
                // The library's error says no more than that, except with TLS.
                Ok(Some(Err(error))) => {
                    let cause = TlsError::among_causes(&error);
                    let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
                    return Err(self.failed(format!("the daemon has ended or was lost{cause}")));
                }
                Err(_) => {
                    let seconds = SILENCE_MAX.as_secs();
                    return Err(self.failed(format!("nothing from the daemon for {seconds} s")));
                }
            };
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            if LINE_MAX < self.incomplete.len() + bytes.len() {
                return Err(self.failed("a line of the answer is too long".to_owned()));
            }
            let from = self.incomplete.len();
            self.incomplete.extend_from_slice(&bytes);
            let added = self.incomplete.get(from..).unwrap_or_default();
            if let Some(end) = added.iter().rposition(|&byte| byte == b'\n') {
                let rest = self.incomplete.split_off(from + end + 1);
                return Ok(std::mem::replace(&mut self.incomplete, rest));
            }
        }
    }

    /// The error of an answer that cannot be used.
    pub(super) fn failed(&self, reason: String) -> CommandError {
        let url = self.address.clone();
        CommandError::Request { url, reason }
    }
}

/// An error of the library, or that of TLS among its causes.
fn reason(error: &(dyn Error + 'static)) -> String {
    TlsError::among_causes(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The header with the token of a file.
fn bearer(path: &Path) -> Result<HeaderValue, CommandError> {
    let failure = |error| CommandError::File {
        path: path.to_owned(),
        error,
    };
    let content = read_token(path).map_err(failure)?;
    let header = [b"Bearer ", content.trim_ascii()].concat();
    let header = HeaderValue::from_bytes(&header);
    header.map_err(|error| failure(io::Error::new(io::ErrorKind::InvalidData, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_no_special_characters() {
        let target = RequestTarget::new("/api/v1/tail");
        let target = target.with("device", "a&b=c µ\n\u{1b}").with("limit", 7);
        assert_eq!(
            target.0,
            "/api/v1/tail?device=a%26b%3Dc%20%C2%B5%0A%1B&limit=7"
        );
    }
}
