//! Who may use the HTTP server of the API: [`Access`] checks the host that a request names, where it comes from, and its
//! token.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode, Uri, Version};
use sha2::{Digest, Sha256};

use crate::http::page;

/// Longest token, in bytes.
pub const TOKEN_MAX: usize = 1024;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The checks of a request.
///
/// A page of another site cannot use the API through the browser of a user: it can make the browser send requests, even to a
/// name of its own that leads to this host (DNS rebinding), but these have the name of that site as their host.
#[derive(Debug)]
pub struct Access {
    hosts: Vec<String>,
    token: Option<TokenDigest>,
}

/// The digest of a token. Comparing digests takes the same time whatever the token and its length.
#[derive(Debug)]
struct TokenDigest([u8; 32]);

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccessRefusal {
    pub(super) status: StatusCode,
    pub(super) text: &'static str,
}

/// A token that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is empty.
    #[error("the token is empty")]
    Empty,
    /// It has more bytes than [`TOKEN_MAX`].
    #[error("the token has more than {TOKEN_MAX} bytes")]
    TooLong,
    /// It has bytes that a header cannot have.
    #[error("the token must consist of visible ASCII characters, without spaces")]
    Characters,
}

impl Access {
    /// Access by these names of the host, besides `localhost` and the address that the client has connected to.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = String>) -> Self {
        let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase());
        Self {
            hosts: hosts.chain(["localhost".to_owned()]).collect(),
            token: None,
        }
    }

    /// Requires a token: the content of a file, of which white space around the token is no part.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn with_token(self, content: &[u8]) -> Result<Self, TokenError> {
        let token = content.trim_ascii();
        match token.len() {
            0 => return Err(TokenError::Empty),
            len if TOKEN_MAX < len => return Err(TokenError::TooLong),
            _ => {}
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Characters);
        }
        Ok(Self {
            token: Some(TokenDigest::of(token)),
            ..self
        })
    }

    /// Checks a request on a connection to this address of the host.
    pub(super) fn check(
        &self,
        method: &Method,
        uri: &Uri,
        version: Version,
        headers: &HeaderMap,
        local: Option<SocketAddr>,
    ) -> Result<(), AccessRefusal> {
        let refuse = |status, text| Err(AccessRefusal { status, text });
        match self.is_host_known(uri, version, headers, local) {
            Some(true) => {}
            Some(false) => {
                return refuse(
                    StatusCode::MISDIRECTED_REQUEST,
                    "unknown host; add it with --http-host\n",
                );
            }
            None => return refuse(StatusCode::BAD_REQUEST, "one header Host is needed\n"),
        }
        let has = |name: &HeaderName, value: &[u8]| {
            let mut all = headers.get_all(name).iter();
            all.any(|it| it.as_bytes().eq_ignore_ascii_case(value))
        };
        // A link may lead to the page, which has no data of its own.
        let is_link = uri.path() == "/" && has(&SEC_FETCH_DEST, b"document");
        if has(&SEC_FETCH_SITE, b"cross-site") && !is_link {
            return refuse(
                StatusCode::FORBIDDEN,
                "requests of other sites are refused\n",
            );
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are allowed\n",
            );
        }
        // The files of the page have no data.
        let is_open =
            matches!(uri.path(), "/healthz" | "/readyz") || page::file(uri.path()).is_some();
        if !is_open && !self.has_token(headers) {
            return refuse(
                StatusCode::UNAUTHORIZED,
                "the token of --http-token is needed\n",
            );
        }
        Ok(())
    }

    /// Whether the host that a request names is this one; `None` if it names none, or several.
    fn is_host_known(
        &self,
        uri: &Uri,
        version: Version,
        headers: &HeaderMap,
        local: Option<SocketAddr>,
    ) -> Option<bool> {
        let mut all = headers.get_all(HOST).iter();
        let header = match (all.next(), all.next()) {
            (Some(host), None) => Some(host),
            (None, _) if version == Version::HTTP_10 => None,
            _ => return None,
        };
        // A header is checked even if the request line has a host, so that neither can be forged.
        let of_header = header.map(|host| {
            let host = host.to_str().ok().and_then(|host| host.parse().ok());
            host.is_some_and(|host| self.is_known(&host, local))
        });
        let of_uri = uri.authority().map(|host| self.is_known(host, local));
        Some(match (of_header, of_uri) {
            (Some(of_header), of_uri) => of_header && of_uri.unwrap_or(true),
            (None, of_uri) => of_uri.unwrap_or(false),
        })
    }

    fn is_known(&self, host: &Authority, local: Option<SocketAddr>) -> bool {
        // User names have no place in a host.
        if host.as_str().contains('@') {
            return false;
        }
        let name = host.host().trim_end_matches('.').to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        match address.parse::<IpAddr>() {
            Ok(address) => {
                local.is_some_and(|local| local.ip().to_canonical() == address.to_canonical())
                    || self.hosts.contains(&name)
            }
            Err(_) => self.hosts.contains(&name),
        }
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let Some(expected) = &self.token else {
            return true;
        };
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (all.next(), all.next()) else {
            return false;
        };
        let Some((scheme, token)) = value.as_bytes().split_at_checked(7) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && expected.is_of(token)
    }
}

/// Reads the file of a token, with the white space around it.
///
/// # Errors
/// The error of the system.
pub fn read_token(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    // Some more than the longest token, so that one that is too long is found.
    let most = 2 * TOKEN_MAX as u64;
    File::open(path)?.take(most).read_to_end(&mut content)?;
    Ok(content)
}

/// Checks that only this host can reach these addresses, or that requests need a token.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`].
pub fn check_exposure(addresses: &[SocketAddr], has_token: bool) -> io::Result<()> {
    let is_exposed = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
    match !has_token && addresses.iter().any(is_exposed) {
        false => Ok(()),
        true => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "other hosts can reach it, so requests must have a token; add --http-token FILE, or use 127.0.0.1",
        )),
    }
}

impl TokenDigest {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    fn is_of(&self, token: &[u8]) -> bool {
        let Self(other) = Self::of(token);
        let differing = self.0.iter().zip(other);
        let differing = differing.fold(0, |all, (one, other)| all | (one ^ other));
        std::hint::black_box(differing) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:9107";

    /// The status of a request with these headers; 200 if it is not refused.
    fn status(access: &Access, method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, value.parse().unwrap());
        }
        let (method, uri) = (method.parse().unwrap(), uri.parse().unwrap());
        let local = Some(LOCAL.parse().unwrap());
        let checked = access.check(&method, &uri, Version::HTTP_11, &map, local);
        checked.map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn a_request_must_name_this_host() {
        let access = Access::new(["Box.example".to_owned()]);
        let host = |host: &str| status(&access, "GET", "/api/v1/devices", &[("host", host)]);
        for known in [
            "localhost",
            "localhost:9107",
            "LOCALHOST",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::ffff:127.0.0.1]:9107",
            "box.example:80",
        ] {
            assert_eq!(host(known), 200, "{known}");
        }
        for unknown in [
            "evil.example",
            "localhost.evil.example",
            "evil.example:127.0.0.1",
            "127.0.0.2",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "[::1]",
            "localhost@evil.example",
            "evil.example@localhost",
            "2130706433",
            "",
            "a b",
        ] {
            assert_eq!(host(unknown), 421, "{unknown}");
        }
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status(&access, "GET", "/", &twice), 400);
        assert_eq!(status(&access, "GET", "/", &[]), 400);
        // The host of the request line counts, too.
        let local = [("host", "localhost")];
        assert_eq!(status(&access, "GET", "http://localhost/", &local), 200);
        assert_eq!(status(&access, "GET", "http://evil.example/", &local), 421);
        let evil = [("host", "evil.example")];
        assert_eq!(status(&access, "GET", "http://localhost/", &evil), 421);
    }

    #[test]
    fn other_sites_and_methods_are_refused() {
        let access = Access::new([]);
        let site = |site| {
            let headers = [("host", "localhost"), ("sec-fetch-site", site)];
            status(&access, "GET", "/", &headers)
        };
        assert_eq!((site("cross-site"), site("Cross-Site")), (403, 403));
        assert_eq!((site("same-origin"), site("none")), (200, 200));
        for (method, want) in [("HEAD", 200), ("POST", 405), ("OPTIONS", 405), ("X", 405)] {
            let headers = [("host", "localhost")];
            assert_eq!(status(&access, method, "/", &headers), want, "{method}");
        }
    }

    #[test]
    fn a_link_of_another_site_leads_to_the_page_and_to_nothing_else() {
        let access = Access::new([]);
        let from = |path, dest| {
            let headers = [
                ("host", "localhost"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-dest", dest),
            ];
            status(&access, "GET", path, &headers)
        };
        assert_eq!(from("/", "document"), 200);
        for (path, dest) in [
            ("/", "iframe"),
            ("/", "empty"),
            ("/api/v1/devices", "document"),
            ("/metrics", "document"),
        ] {
            assert_eq!(from(path, dest), 403, "{path} {dest}");
        }
    }

    #[test]
    fn everything_but_health_and_the_files_of_the_page_needs_the_token() {
        let access = Access::new([]).with_token(b" s3cret/Token==\n").unwrap();
        let with = |uri, value: &str| {
            let headers = [("host", "localhost"), ("authorization", value)];
            status(&access, "GET", uri, &headers)
        };
        for uri in [
            "/metrics",
            "/api/v1/devices",
            "/api/v1/tail?follow=true",
            "/page/",
            "/page/../api/v1/devices",
            "//",
            "/healthz/",
            "/healthz/x",
        ] {
            assert_eq!(with(uri, "Bearer s3cret/Token=="), 200, "{uri}");
            for wrong in [
                "",
                "Bearer",
                "Bearer ",
                "Bearer s3cret/Token=",
                "Bearer s3cret/Token===",
                "Bearer  s3cret/Token==",
                "Bearer S3cret/Token==",
                "Basic s3cret/Token==",
                "s3cret/Token==",
            ] {
                assert_eq!(with(uri, wrong), 401, "{uri} {wrong}");
            }
            assert_eq!(status(&access, "GET", uri, &[("host", "localhost")]), 401);
        }
        assert_eq!(with("/metrics", "bearer s3cret/Token=="), 200);
        for uri in ["/healthz", "/readyz", "/healthz?x", "/", "/?x"] {
            assert_eq!(with(uri, ""), 200, "{uri}");
        }
        let twice = [
            ("host", "localhost"),
            ("authorization", "Bearer s3cret/Token=="),
            ("authorization", "Bearer x"),
        ];
        assert_eq!(status(&access, "GET", "/metrics", &twice), 401);
    }

    #[test]
    fn a_token_has_visible_characters() {
        let token = |content: &[u8]| Access::new([]).with_token(content).err();
        assert_eq!(token(b"\n \n"), Some(TokenError::Empty));
        assert_eq!(token(b"a b"), Some(TokenError::Characters));
        assert_eq!(token("µ".as_bytes()), Some(TokenError::Characters));
        assert_eq!(token(&[b'x'; TOKEN_MAX]), None);
        assert_eq!(token(&[b'x'; TOKEN_MAX + 1]), Some(TokenError::TooLong));
    }
}
