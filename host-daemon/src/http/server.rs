//! The HTTP server of metrics and health: [`HttpServer`]. It is bounded: one request per connection, few connections,
//! and a timeout for each.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::http::accept::MetricsFormat;
use crate::http::health::Health;
use crate::http::prometheus_text;

/// Maximum number of connections; the next one waits to be accepted.
const CONNECTIONS: usize = 16;
/// Maximum duration of a connection, until the last byte of the response.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after a failed accept.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Maximum length of a request's buffer, in bytes.
const REQUEST_LEN: usize = 8 << 10;

const PLAIN: &str = "text/plain; charset=utf-8";

/// A server that listens on an address.
#[derive(Debug)]
pub struct HttpServer {
    socket: TcpListener,
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
        let registry = Arc::new(registry);
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        // The semaphore is never closed.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    let (health, registry) = (Arc::clone(&health), Arc::clone(&registry));
                    tokio::spawn(async move {
                        let served = serve(stream, health, registry);
                        if tokio::time::timeout(TIMEOUT, served).await.is_err() {
                            debug!("metrics: a connection timed out");
                        }
                        drop(permit);
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

async fn serve(stream: TcpStream, health: Arc<Health>, registry: Arc<Registry>) {
    let service = service_fn(|request| respond(request, &health, &registry));
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_LEN)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        debug!("metrics: {error}");
    }
}

async fn respond(
    request: Request<Incoming>,
    health: &Health,
    registry: &Arc<Registry>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "only GET and HEAD are allowed\n".into();
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text);
        header(&mut refused, ALLOW, "GET, HEAD");
        return Ok(refused);
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            let registry = Arc::clone(registry);
            let format = MetricsFormat::asked_for(request.headers());
            // On another thread, since it counts the open descriptors, which may be thousands.
            let encoded = tokio::task::spawn_blocking(move || {
                let mut page = String::new();
                text::encode(&mut page, &registry).map(|()| match format {
                    MetricsFormat::OpenMetrics => page,
                    MetricsFormat::Prometheus => prometheus_text::from_open_metrics(&page),
                })
            });
            match encoded.await {
                Ok(Ok(text)) => {
                    let mut metrics = page(StatusCode::OK, format.content_type(), text);
                    header(&mut metrics, VARY, "Accept");
                    metrics
                }
                _ => page(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, String::new()),
            }
        }
        "/healthz" => verdict(health.not_healthy()),
        "/readyz" => verdict(health.not_ready()),
        _ => page(
            StatusCode::NOT_FOUND,
            PLAIN,
            "see /metrics, /healthz and /readyz\n".into(),
        ),
    })
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
