//! The arguments of `devices`.

use std::path::PathBuf;

use clap::Args;
use hyper::Uri;

use super::daemon::url;
use super::tls::TlsOptions;

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
    /// Ask the daemon at this address, which is that of its --http, such as http://127.0.0.1:9107 or https://box.
    #[arg(long, value_name = "URL", value_parser = url)]
    pub url: Option<Uri>,
    /// File with the token of the daemon's --http-token.
    #[arg(long, value_name = "FILE", requires = "url", conflicts_with = "paths")]
    pub token: Option<PathBuf>,
    /// TLS of an `https` address.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Print one JSON object per line, for programs.
    #[arg(long)]
    pub json: bool,
}
