//! The TLS of a listener as it was configured: [`ListenerTls`].

use std::path::PathBuf;

use blocksd_engine::tls::{ClientAuth, MinVersion, TlsFiles};

use crate::config::error::ValueOrigin;
use crate::config::texts::KeyedTexts;
use crate::config::value::word;

/// Before each key, behind an address on the command line.
pub(super) const PREFIX: &str = "tls-";
/// The key of the table in the config file.
pub(super) const TABLE: &str = "tls";
/// The keys of the table.
pub(super) const KEYS: [&str; 7] = ["cert", "key", "ca", "crl", "allow", "clients", "min"];

/// The TLS options of a listener, any of which may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenerTls(KeyedTexts);

impl ListenerTls {
    /// Whether the listener has no TLS.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the first option was written.
    #[must_use]
    pub fn origin(&self) -> Option<ValueOrigin> {
        self.0.origin()
    }

    /// The options in the order of the table: key, text and origin.
    pub(super) fn written(&self) -> impl Iterator<Item = (&'static str, &str, ValueOrigin)> {
        self.0.written(&KEYS)
    }

    /// Sets an option by its key in the table.
    pub(super) fn set(&mut self, key: &str, text: &str, origin: ValueOrigin) -> Result<(), String> {
        self.0
            .set((&KEYS, "TLS"), (key, text), origin, |key, text| match key {
                "clients" => word::<ClientAuth>(text).map(drop),
                "min" => word::<MinVersion>(text).map(drop),
                _ if text.is_empty() => Err("must not be empty".to_owned()),
                _ => Ok(()),
            })
    }

    /// The files and rules; `None` if the listener has no TLS.
    ///
    /// # Errors
    /// If an option is missing, or contradicts another one.
    pub fn files(&self) -> Result<Option<TlsFiles>, String> {
        if self.is_empty() {
            return Ok(None);
        }
        let path = |key: &str| self.0.text(key).map(PathBuf::from);
        // As it is written beside an address, or in a table.
        let prefix = match self.origin() {
            Some(ValueOrigin::CommandLine) => PREFIX,
            _ => "",
        };
        let needed = |key: &str| {
            let other = if key == "cert" { "key" } else { "cert" };
            let missing = || format!("TLS needs `{prefix}{key}` beside `{prefix}{other}`");
            path(key).ok_or_else(missing)
        };
        // They were checked when they were set.
        let clients = self
            .0
            .text("clients")
            .map_or(Ok(ClientAuth::Require), word)?;
        let min = self.0.text("min").map_or(Ok(MinVersion::Tls12), word)?;
        let files = TlsFiles {
            cert: needed("cert")?,
            key: needed("key")?,
            ca: path("ca"),
            crl: path("crl"),
            allow: path("allow"),
            clients,
            min,
            names: true,
            protocols: Vec::new(),
        };
        match (clients, &files.ca) {
            (ClientAuth::Require | ClientAuth::Offer, None) => Err(format!(
                "certificates of devices need `{prefix}ca`, the authority that is trusted; or set `{prefix}clients` to none"
            )),
            (ClientAuth::None, Some(_)) => Err(format!(
                "`{prefix}ca` is of no use with `{prefix}clients` none; remove one of them"
            )),
            _ => Ok(Some(files)),
        }
    }
}
