//! The HTTP server of metrics, health and the API: [`HttpServer`]. It is bounded: few connections, and timeouts for each
//! request and for the whole connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::api::devices::DevicesReport;
use crate::api::to_json;
use crate::http::accept::MetricsFormat;
use crate::http::access::{Access, AccessRefusal};
use crate::http::connections::{HttpConnections, Requested};
use crate::http::health::Health;
use crate::http::prometheus_text;
use blocksd_engine::device::DeviceRegistry;

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

/// A server that listens on an address.
#[derive(Debug)]
pub struct HttpServer {
    socket: TcpListener,
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

/// The API under `/api/v1/`, and who may use the server that has it.
#[derive(Debug)]
pub struct Api {
    /// The devices.
    pub devices: Arc<DeviceRegistry>,
    /// The checks of each request.
    pub access: Access,
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
        Ok(Self { socket })
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
                    connections.add(peer, |requested| async move {
                        serve(stream, &pages, &requested).await;
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

async fn serve(stream: TcpStream, pages: &Pages, requested: &Requested) {
    let local = stream.local_addr().ok();
    let service = service_fn(|request| {
        requested.store(true, Ordering::Relaxed);
        async move { Ok::<_, Infallible>(answer(&request, pages, local).await) }
    });
    let (keep_alive, head_timeout) = match pages.api {
        Some(_) => (true, IDLE_TIMEOUT),
        None => (false, HEAD_TIMEOUT),
    };
    let mut served = pin!(
        http1::Builder::new()
            .keep_alive(keep_alive)
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(REQUEST_LEN)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut ended = tokio::time::timeout(TIMEOUT, served.as_mut()).await;
    if keep_alive && ended.is_err() {
        let rest = KEEP_ALIVE.saturating_sub(TIMEOUT);
        ended = tokio::time::timeout(rest, served.as_mut()).await;
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

/// The response to a request, with the headers that all responses have.
async fn answer(
    request: &Request<Incoming>,
    pages: &Pages,
    local: Option<SocketAddr>,
) -> Response<Full<Bytes>> {
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
        None => respond(request, pages).await,
        Some(AccessRefusal { status, text }) => {
            let mut refused = page(status, PLAIN, text.into());
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
    }
    response
}

async fn respond(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    match (request.uri().path(), &pages.api) {
        ("/metrics", _) => {
            let format = MetricsFormat::asked_for(request.headers());
            match metrics(pages, format).await {
                Some(text) => {
                    let mut metrics = page(StatusCode::OK, format.content_type(), text);
                    header(&mut metrics, VARY, "Accept");
                    metrics
                }
                None => page(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, String::new()),
            }
        }
        ("/healthz", _) => verdict(pages.health.not_healthy()),
        ("/readyz", _) => verdict(pages.health.not_ready()),
        ("/api/v1/devices", Some(api)) => {
            let devices = Arc::clone(&api.devices);
            let encode = move || Some(to_json(&DevicesReport::of(&devices.list())));
            match encoded(pages, encode).await {
                Some(json) => page(StatusCode::OK, JSON, json),
                None => page(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, String::new()),
            }
        }
        (_, api) => {
            let known = match api {
                Some(_) => "see /api/v1/devices, /metrics, /healthz and /readyz\n",
                None => "see /metrics, /healthz and /readyz\n",
            };
            page(StatusCode::NOT_FOUND, PLAIN, known.into())
        }
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

/// The response `ok`, or the reason for which it is not.
fn verdict(reason: Option<String>) -> Response<Full<Bytes>> {
    match reason {
        None => page(StatusCode::OK, PLAIN, "ok\n".into()),
        Some(reason) => page(StatusCode::SERVICE_UNAVAILABLE, PLAIN, reason + "\n"),
    }
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    header(&mut response, CONTENT_TYPE, kind);
    response
}

fn header(response: &mut Response<Full<Bytes>>, name: HeaderName, value: &'static str) {
    let value = hyper::header::HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
}
