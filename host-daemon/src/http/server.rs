//! The HTTP server of metrics, health and the API: [`HttpServer`]. It is bounded: few connections, and timeouts for each
//! request and for the whole connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use blocksd_engine::listen::handshake::Handshake;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    HeaderValue, REFERRER_POLICY, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::http::accept::MetricsFormat;
use crate::http::access::AccessRefusal;
use crate::http::api::{Api, ApiAnswer, Followed};
use crate::http::body::AnswerBody;
use crate::http::connections::{HttpConnections, Requested};
use crate::http::health::Health;
use crate::http::page::{self, PageFile};
use crate::http::prometheus_text;

/// Maximum time until the request line and all headers have arrived.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum duration of a connection, until the last byte of the response.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time from a response to the next request, until all its headers have arrived, on the server of the API.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum duration of a connection to the server of the API, until its last response begins.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long to wait after a failed accept.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Maximum length of a request's buffer, in bytes.
const REQUEST_LEN: usize = 8 << 10;
/// Pages of metrics that are encoded at the same time.
const ENCODERS: usize = 2;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";
const CSV: &str = "text/csv; charset=utf-8";
/// Longest name of a file, in characters.
const FILE_NAME_MAX: usize = 64;

/// A server that listens on an address.
#[derive(Debug)]
pub struct HttpServer {
    socket: TcpListener,
    handshake: Option<Arc<dyn Handshake>>,
}

/// What a server shows.
#[derive(Debug)]
pub struct Site {
    /// The metrics.
    pub registry: Registry,
    /// The health.
    pub health: Arc<Health>,
    /// The API, if the server has it.
    pub api: Option<Api>,
}

#[derive(Debug)]
struct Pages {
    registry: Arc<Registry>,
    health: Arc<Health>,
    api: Option<Api>,
    encoders: Semaphore,
}

impl HttpServer {
    /// Listens on the first of these addresses that is free.
    ///
    /// # Errors
    /// The error of the system if no address can be used.
    pub async fn bind(addresses: &[SocketAddr]) -> io::Result<Self> {
        let socket = TcpListener::bind(addresses).await?;
        let handshake = None;
        Ok(Self { socket, handshake })
    }

    /// Sets how connections are secured. Without this, they are plain.
    #[must_use]
    pub fn secured_by(mut self, handshake: Option<Arc<dyn Handshake>>) -> Self {
        self.handshake = handshake;
        self
    }

    /// The address, with the port that the system chose.
    ///
    /// # Errors
    /// The error of the system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves requests until the runtime ends.
    pub async fn run(self, site: Site) {
        let Site {
            registry,
            health,
            api,
        } = site;
        let pages = Arc::new(Pages {
            registry: Arc::new(registry),
            health,
            api,
            encoders: Semaphore::new(ENCODERS),
        });
        let mut connections = HttpConnections::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = connections.reap() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let pages = Arc::clone(&pages);
                    let handshake = self.handshake.clone();
                    connections.add(peer, |requested| async move {
                        match handshake {
                            None => serve(stream, &pages, &requested).await,
                            Some(handshake) => {
                                serve_secured(stream, handshake, &pages, &requested).await;
                            }
                        }
                    });
                }
                Err(error) => {
                    debug!("http: cannot accept: {error}");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

/// Performs the handshake, then serves.
async fn serve_secured(
    stream: TcpStream,
    handshake: Arc<dyn Handshake>,
    pages: &Pages,
    requested: &Requested,
) {
    let local = stream.local_addr().ok();
    let secured = handshake.handshake(Box::new(stream));
    match tokio::time::timeout(TIMEOUT, secured).await {
        Ok(Ok(secured)) => serve_from(secured.transport, local, pages, requested).await,
        Ok(Err(error)) => debug!("https: {error}"),
        Err(_) => debug!("https: a handshake timed out"),
    }
}

async fn serve(stream: TcpStream, pages: &Pages, requested: &Requested) {
    let local = stream.local_addr().ok();
    serve_from(stream, local, pages, requested).await;
}

async fn serve_from(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    local: Option<SocketAddr>,
    pages: &Pages,
    requested: &Requested,
) {
    let following = Following::default();
    let service = service_fn(|request| {
        requested.store(true, Ordering::Relaxed);
        let following = &following;
        async move { Ok::<_, Infallible>(answer(&request, pages, local, following).await) }
    });
    let (keep_alive, head_timeout) = match pages.api {
        Some(_) => (true, IDLE_TIMEOUT),
        None => (false, HEAD_TIMEOUT),
    };
    let mut served = pin!(
        http1::Builder::new()
            .keep_alive(keep_alive)
            // Its library panics if the clock is before 1970.
            .auto_date_header(false)
            // A client may shut down its sending side after its request.
            .half_close(true)
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(REQUEST_LEN)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut ended = tokio::time::timeout(TIMEOUT, served.as_mut()).await;
    if keep_alive && ended.is_err() {
        let rest = KEEP_ALIVE.saturating_sub(TIMEOUT);
        ended = tokio::time::timeout(rest, served.as_mut()).await;
        while ended.is_err() && following.is_sending() {
            ended = tokio::time::timeout(TIMEOUT, served.as_mut()).await;
        }
        if ended.is_err() {
            served.as_mut().graceful_shutdown();
            ended = tokio::time::timeout(TIMEOUT, served).await;
        }
    }
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("http: {error}"),
        Err(_) => debug!("http: a connection timed out"),
    }
}

/// The lines that the last response of a connection has, if they come over time.
#[derive(Debug, Default)]
struct Following(Mutex<Weak<()>>);

impl Following {
    fn set(&self, sending: Weak<()>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sending;
    }

    fn is_sending(&self) -> bool {
        let sending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sending.strong_count() != 0
    }
}

/// The response to a request, with the headers that all responses have.
async fn answer(
    request: &Request<Incoming>,
    pages: &Pages,
    local: Option<SocketAddr>,
    following: &Following,
) -> Response<AnswerBody> {
    let refusal = match &pages.api {
        Some(api) => {
            let (method, uri) = (request.method(), request.uri());
            let (version, headers) = (request.version(), request.headers());
            let checked = api.access.check(method, uri, version, headers, local);
            checked.err()
        }
        None if matches!(*request.method(), Method::GET | Method::HEAD) => None,
        None => Some(AccessRefusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            text: "only GET and HEAD are allowed\n",
        }),
    };
    let mut response = match refusal {
        None => respond(request, pages, following).await,
        Some(AccessRefusal { status, text }) => {
            let mut refused = response(status, PLAIN, text);
            match status {
                StatusCode::METHOD_NOT_ALLOWED => header(&mut refused, ALLOW, "GET, HEAD"),
                StatusCode::UNAUTHORIZED => header(&mut refused, WWW_AUTHENTICATE, "Bearer"),
                _ => {}
            }
            refused
        }
    };
    if pages.api.is_some() {
        header(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
        header(&mut response, CACHE_CONTROL, "no-store");
        header(&mut response, CONTENT_SECURITY_POLICY, page::POLICY);
        header(&mut response, REFERRER_POLICY, "no-referrer");
    }
    response
}

async fn respond(
    request: &Request<Incoming>,
    pages: &Pages,
    following: &Following,
) -> Response<AnswerBody> {
    let path = request.uri().path();
    match (path, &pages.api) {
        ("/metrics", _) => {
            let format = MetricsFormat::asked_for(request.headers());
            match metrics(pages, format).await {
                Some(text) => {
                    let mut metrics = response(StatusCode::OK, format.content_type(), text);
                    header(&mut metrics, VARY, "Accept");
                    metrics
                }
                None => response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, ""),
            }
        }
        ("/healthz", _) => verdict(pages.health.not_healthy()),
        ("/readyz", _) => ready(&pages.health),
        (_, Some(api)) => {
            if let Some(PageFile { kind, content }) = page::file(path) {
                return response(StatusCode::OK, kind, content);
            }
            let answered = match path.strip_prefix("/api/v1/") {
                Some(path) => api.answer(path, request.uri().query()).await,
                None => None,
            };
            let unknown = "see /, /metrics, /healthz, /readyz, and /api/v1/ with devices, device, \
                 daemon, tail, faults, events, plot or csv\n";
            match answered {
                None => response(StatusCode::NOT_FOUND, PLAIN, unknown),
                Some(answer) => api_response(answer, following),
            }
        }
        (_, None) => {
            let known = "see /metrics, /healthz and /readyz\n";
            response(StatusCode::NOT_FOUND, PLAIN, known)
        }
    }
}

/// The response with an answer of the API.
fn api_response(answer: ApiAnswer, following: &Following) -> Response<AnswerBody> {
    match answer {
        ApiAnswer::Json(json) => response(StatusCode::OK, JSON, json),
        ApiAnswer::LongJson(json, permit) => {
            response(StatusCode::OK, JSON, AnswerBody::parts(json, permit))
        }
        ApiAnswer::Csv(table, device, permit) => {
            let mut csv = response(StatusCode::OK, CSV, AnswerBody::parts(table, permit));
            let is_plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
            let plain = device.chars().map(|it| if is_plain(it) { it } else { '_' });
            let name: String = plain.take(FILE_NAME_MAX).collect();
            let value = format!("attachment; filename=\"{name}.csv\"");
            if let Ok(value) = HeaderValue::try_from(value) {
                csv.headers_mut().insert(CONTENT_DISPOSITION, value);
            }
            csv
        }
        ApiAnswer::Lines(Followed { lines, sending }) => {
            following.set(sending);
            response(StatusCode::OK, JSON_LINES, AnswerBody::Lines(lines))
        }
        ApiAnswer::Refused(status, text) => response(status, PLAIN, text),
    }
}

async fn metrics(pages: &Pages, format: MetricsFormat) -> Option<String> {
    let registry = Arc::clone(&pages.registry);
    let encode = move || {
        let mut text = String::new();
        text::encode(&mut text, &registry).ok()?;
        Some(match format {
            MetricsFormat::OpenMetrics => text,
            MetricsFormat::Prometheus => prometheus_text::from_open_metrics(&text),
        })
    };
    encoded(pages, encode).await
}

/// Encodes a page on another thread: there may be thousands of open descriptors, and of devices.
async fn encoded(
    pages: &Pages,
    encode: impl FnOnce() -> Option<String> + Send + 'static,
) -> Option<String> {
    // The semaphore is never closed.
    let _permit = pages.encoders.acquire().await.ok()?;
    tokio::task::spawn_blocking(encode).await.ok()?
}

/// Whether the daemon is ready, and what a person should know.
fn ready(health: &Health) -> Response<AnswerBody> {
    let (status, first) = match health.not_ready() {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    let warnings = health.warnings().into_iter();
    let warnings = warnings.map(|it| format!("warning: {it}\n"));
    let text = format!("{first}\n{}", warnings.collect::<String>());
    response(status, PLAIN, text)
}

/// The response `ok`, or the reason for which it is not.
fn verdict(reason: Option<String>) -> Response<AnswerBody> {
    match reason {
        None => response(StatusCode::OK, PLAIN, "ok\n"),
        Some(reason) => response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, reason + "\n"),
    }
}

fn response(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<AnswerBody>,
) -> Response<AnswerBody> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    header(&mut response, CONTENT_TYPE, kind);
    response
}

fn header(response: &mut Response<AnswerBody>, name: HeaderName, value: &'static str) {
    let value = HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
}

#[cfg(test)]
mod tests {
    use blocksd_engine::device::DeviceRegistry;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http::access::Access;
    use crate::view::View;

    #[tokio::test(start_paused = true)]
    async fn a_connection_goes_on_while_lines_are_sent_and_ends_otherwise() {
        let server = HttpServer::bind(&[([127, 0, 0, 1], 0).into()])
            .await
            .expect("a port");
        let address = server.address().expect("an address");
        let view = View::new(DeviceRegistry::new(10), None, None);
        tokio::spawn(server.run(Site {
            registry: Registry::default(),
            health: Arc::new(Health::new(CancellationToken::new(), || None)),
            api: Some(Api::new(view, Access::new([]))),
        }));
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET /api/v1/tail?follow=true HTTP/1.1\r\nHost: {address}\r\n\r\n");
        client
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let started = Instant::now();
        let mut buffer = [0; 4096];
        while started.elapsed() < 4 * KEEP_ALIVE {
            let len = client.read(&mut buffer).await.expect("an answer");
            assert_ne!(len, 0, "closed after {:?}", started.elapsed());
        }
        // A connection that is kept for the next request ends.
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let started = Instant::now();
        loop {
            let sent = client.write_all(request.as_bytes()).await;
            let len = client.read(&mut buffer).await.unwrap_or(0);
            if sent.is_err() || len == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let passed = started.elapsed();
        assert!(
            passed <= KEEP_ALIVE + TIMEOUT && TIMEOUT < passed,
            "{passed:?}"
        );
    }
}
