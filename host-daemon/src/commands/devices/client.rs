//! Asks a running daemon: start with [`devices`].

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::api::devices::DevicesReport;
use crate::api::from_json;
use crate::error::CommandError;
use crate::escape::printable;
use crate::http::access::read_token;

/// Maximum time until the daemon has answered.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum length of the answer, in bytes.
const ANSWER_MAX: usize = 256 << 20;
/// Characters of an error of the daemon that are shown.
const REASON_MAX: usize = 200;
/// The port of a URL that has none.
const PORT: u16 = 80;

/// Asks the daemon at this address for its devices.
pub(super) async fn devices(
    url: &Uri,
    token: Option<&Path>,
) -> Result<DevicesReport, CommandError> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let failed = |reason: String| CommandError::Request {
        url: format!("http://{authority}"),
        reason,
    };
    let asking = async {
        let host = url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, url.port_u16().unwrap_or(PORT))).await;
        let stream = stream.map_err(|error| CommandError::Connect {
            address: authority.to_owned(),
            error,
        })?;
        let mut request = Request::get("/api/v1/devices").header(HOST, authority);
        if let Some(path) = token {
            request = request.header(AUTHORIZATION, bearer(path)?);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| failed(error.to_string()))?;
        let (status, body) = ask(stream, request).await.map_err(failed)?;
        match status {
            StatusCode::OK => from_json(&body)
                .map_err(|error| failed(format!("the answer is not a list of devices: {error}"))),
            status => Err(failed(refusal(status, &body, token))),
        }
    };
    let answered = tokio::time::timeout(TIMEOUT, asking).await;
    answered.map_err(|_| failed(format!("no answer within {} s", TIMEOUT.as_secs())))?
}

async fn ask(
    stream: TcpStream,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Bytes), String> {
    let text = |error: hyper::Error| format!("not answered: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    // It ends with the answer, or with the timeout.
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(text)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX)
        .collect()
        .await;
    connection.abort();
    let body = body.map_err(|error| format!("the answer is incomplete: {error}"))?;
    Ok((status, body.to_bytes()))
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

/// Why a daemon refused a request. The text comes from the other end, so it is escaped and cut.
fn refusal(status: StatusCode, body: &[u8], token: Option<&Path>) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text.trim().chars().take(REASON_MAX).collect();
    let hint = match status {
        StatusCode::UNAUTHORIZED => match token {
            Some(path) => format!("; the token in {} is another one", path.display()),
            None => "; add --token FILE".to_owned(),
        },
        StatusCode::NOT_FOUND => {
            "; the address must be that of --http, not of --metrics".to_owned()
        }
        _ => String::new(),
    };
    format!(
        "refused with {status}: {}{}",
        printable(text),
        printable(hint)
    )
}
