//! The address of a running daemon, as options of its clients: [`DaemonAddress`].

use std::path::PathBuf;

use clap::Args;
use hyper::Uri;
use hyper::http::uri::Scheme;

use super::tls::TlsOptions;

/// Options of a client of a daemon.
#[derive(Args, Debug)]
pub struct DaemonAddress {
    /// Address of the daemon, which is that of its --http.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9107", value_parser = url)]
    pub url: Uri,
    /// File with the token of the daemon's --http-token.
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// TLS of an `https` address.
    #[command(flatten)]
    pub tls: TlsOptions,
}

/// The address of a daemon.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    let uri: Option<Uri> = text.parse().ok();
    let is_address = |uri: &Uri| {
        [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme())
            && uri.host().is_some_and(|host| !host.is_empty())
            && !text.contains('@')
            && matches!(uri.path_and_query().map(|it| it.as_str()), None | Some("/"))
    };
    let uri = uri.filter(is_address);
    uri.ok_or_else(|| {
        "must be http://HOST:PORT or https://HOST:PORT, as of the daemon's --http".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_over_http_or_https() {
        for text in [
            "http://127.0.0.1:9107",
            "http://[::1]:9107/",
            "http://box",
            "https://box",
            "HTTPS://[::1]:9107/",
        ] {
            assert!(url(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "127.0.0.1:9107",
            "http://",
            "https://",
            "https://me@box",
            "http://me@box",
            "http://box/x",
            "http://box/?x",
            "ftp://box",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
