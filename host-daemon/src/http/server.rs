//! The HTTP server of metrics and health: [`HttpServer`]. It is bounded: one request per connection, few connections,
//! and timeouts for the request and the whole connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::http::accept::MetricsFormat;
use crate::http::connections::{HttpConnections, Requested};
use crate::http::health::Health;
use crate::http::prometheus_text;

/// Maximum time until the request line and all headers have arrived.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum duration of a connection, until the last byte of the response.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after a failed accept.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Maximum length of a request's buffer, in bytes.
const REQUEST_LEN: usize = 8 << 10;
/// Pages of metrics that are encoded at the same time.
const ENCODERS: usize = 2;

const PLAIN: &str = "text/plain; charset=utf-8";

/// A server that listens on an address.
#[derive(Debug)]
pub struct HttpServer {
    socket: TcpListener,
}

/// What the server shows.
#[derive(Debug)]
struct Pages {
    registry: Arc<Registry>,
    health: Arc<Health>,
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
    pub async fn run(self, registry: Registry, health: Arc<Health>) {
        let pages = Arc::new(Pages {
            registry: Arc::new(registry),
            health,
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
                        let served = serve(stream, &pages, &requested);
                        if tokio::time::timeout(TIMEOUT, served).await.is_err() {
                            debug!("metrics: a connection timed out");
                        }
                    });
                }
                Err(error) => {
                    debug!("metrics: cannot accept: {error}");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, pages: &Pages, requested: &Requested) {
    let service = service_fn(|request| {
        requested.store(true, Ordering::Relaxed);
        respond(request, pages)
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(REQUEST_LEN)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        debug!("metrics: {error}");
    }
}

async fn respond(
    request: Request<Incoming>,
    pages: &Pages,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "only GET and HEAD are allowed\n".into();
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text);
        header(&mut refused, ALLOW, "GET, HEAD");
        return Ok(refused);
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            let format = MetricsFormat::asked_for(request.headers());
            match encode(pages, format).await {
                Some(text) => {
                    let mut metrics = page(StatusCode::OK, format.content_type(), text);
                    header(&mut metrics, VARY, "Accept");
                    metrics
                }
                None => page(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, String::new()),
            }
        }
        "/healthz" => verdict(pages.health.not_healthy()),
        "/readyz" => verdict(pages.health.not_ready()),
        _ => page(
            StatusCode::NOT_FOUND,
            PLAIN,
            "see /metrics, /healthz and /readyz\n".into(),
        ),
    })
}

/// Encodes the metrics, on another thread: it counts the open descriptors, which may be thousands.
async fn encode(pages: &Pages, format: MetricsFormat) -> Option<String> {
    // The semaphore is never closed.
    let _permit = pages.encoders.acquire().await.ok()?;
    let registry = Arc::clone(&pages.registry);
    let encoded = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        text::encode(&mut text, &registry).map(|()| match format {
            MetricsFormat::OpenMetrics => text,
            MetricsFormat::Prometheus => prometheus_text::from_open_metrics(&text),
        })
    });
    encoded.await.ok()?.ok()
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
