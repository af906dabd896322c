//! The arguments of `devices`.

use std::path::PathBuf;

use clap::Args;
use hyper::Uri;
use hyper::http::uri::Scheme;

/// Arguments of `devices`.
#[derive(Args, Debug)]
pub struct Devices {
    /// Directories of recordings, or recordings.
    #[arg(
        value_name = "DIR|FILE",
        required_unless_present = "url",
        conflicts_with = "url"
    )]
    pub paths: Vec<PathBuf>,
    /// Ask the daemon at this address, which is that of its --http, such as http://127.0.0.1:9107.
    #[arg(long, value_name = "URL", value_parser = url)]
    pub url: Option<Uri>,
    /// File with the token of the daemon's --http-token.
    #[arg(long, value_name = "FILE", requires = "url", conflicts_with = "paths")]
    pub token: Option<PathBuf>,
    /// Print one JSON object per line, for programs.
    #[arg(long)]
    pub json: bool,
}

/// The address of a daemon.
fn url(text: &str) -> Result<Uri, String> {
    let uri: Option<Uri> = text.parse().ok();
    let is_address = |uri: &Uri| {
        uri.scheme() == Some(&Scheme::HTTP)
            && uri.host().is_some_and(|host| !host.is_empty())
            && !text.contains('@')
            && matches!(uri.path_and_query().map(|it| it.as_str()), None | Some("/"))
    };
    let uri = uri.filter(is_address);
    uri.ok_or_else(|| "must be http://HOST:PORT, as of the daemon's --http".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_over_http() {
        for text in ["http://127.0.0.1:9107", "http://[::1]:9107/", "http://box"] {
            assert!(url(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "127.0.0.1:9107",
            "https://box",
            "http://",
            "http://me@box",
            "http://box/x",
            "http://box/?x",
            "ftp://box",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
