//! The typed configuration of `serve`, from the command line, a config file and the defaults. Start with [`load`].
//!
//! `options.rs` is the table of all options. The command line and the file each fill a [`Partial`]. `load` combines
//! them with the defaults and validates the result once; the command line overrides the file. A key of the file is an
//! option's name without its dashes; `[[listener]]` and `[device."ID"]` are tables.

mod combine;
mod diff;
mod effective;
pub mod error;
mod file;
pub(crate) mod forward;
mod listener_tls;
mod options;
mod partial;
mod print;
mod spec;
mod texts;
mod units;
pub mod value;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use blocksd_engine::admission::identity::{DeviceBy, Match};
use blocksd_engine::connection::policy::{Policy, SessionMode};

pub use self::combine::{Refused, load, load_or_rest};
pub use self::diff::{Diff, diff};
pub use self::error::{ConfigError, Mistake, Reason, ValueOrigin};
#[cfg(feature = "nats")]
pub(crate) use self::forward::DEFAULT_STREAM;
pub use self::forward::{ForwardConfig, ForwardKeep, ForwardLogin};
pub use self::listener_tls::ListenerTls;
pub use self::partial::{Config, DeviceConfig, GivenValue, ListenerConfig, OPTIONS, Partial, Spec};
pub use self::print::{digest, print};
pub use self::spec::{HelpGroup, Kind, Reload, Scope, Written};
use crate::payload::Decoding;

impl Config {
    /// Where the value of an option comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> ValueOrigin {
        let spec = OPTIONS.iter().find(|spec| spec.key == key);
        let shown = spec.and_then(|spec| spec.given(&self.given));
        shown.map_or(ValueOrigin::Default, |shown| shown.origin)
    }

    /// Warnings to log: options given by an old name, and device tables that cannot match any connection.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let old = OPTIONS.iter().filter_map(|spec| {
            let shown = spec.given(&self.given).filter(|it| it.key != spec.key)?;
            let (old, new) = (shown.key, spec.key);
            Some(match (shown.origin, &self.file) {
                (ValueOrigin::Line(line), Some(file)) => format!(
                    "{}:{line}: {old}: old name of {new}; use the new name",
                    file.display()
                ),
                _ => format!("--{old}: old name of --{new}; use the new name"),
            })
        });
        let unmatched = self
            .devices
            .iter()
            .filter(|device| self.is_unmatched(device));
        let unmatched = unmatched.map(|device| {
            let id = &device.id;
            format!(
                "[device.\"{id}\"] matches no connection: with device-by = \"{}\" an identity is {}; add `match`",
                self.device_by_word(),
                match self.device_by {
                    DeviceBy::Ip => "an address or the name of a local listener",
                    DeviceBy::Peer => "an address with a port, or a local listener with a number",
                    DeviceBy::Listener => "the name of a listener",
                }
            )
        });
        old.chain(unmatched)
            .chain(self.decoding_warnings())
            .chain(self.acknowledges_nothing())
            .collect()
    }

    /// Warns of a cluster whose acknowledgements no session waits for.
    fn acknowledges_nothing(&self) -> Option<String> {
        let forward = self.forwards.iter().find(|it| it.acknowledges())?;
        let mut policies = self.listeners.iter().map(|it| self.policies(it));
        let has_sessions = policies.any(|it| {
            let mut modes = it.iter().map(|policy| policy.sessions.mode);
            modes.any(|mode| mode != SessionMode::Off)
        });
        let to = forward.servers().join(",");
        (!has_sessions).then(|| {
            format!(
                "forward to {to}: `ack=forwarded` has no effect, since no listener has sessions"
            )
        })
    }

    /// Warnings about decodings, each once.
    fn decoding_warnings(&self) -> BTreeSet<String> {
        let policies = self.listeners.iter().map(|it| self.policies(it));
        let warnings = policies.flat_map(|policies| {
            let of = |policy: &Policy| Decoding::of(&policy.encoding).warnings(&policy.framing);
            policies.iter().flat_map(|it| of(it)).collect::<Vec<_>>()
        });
        warnings.collect()
    }

    /// Whether a device table matches by identities only, and no connection can have one of them.
    fn is_unmatched(&self, device: &DeviceConfig) -> bool {
        let is_listener = |id: &str| {
            let mut listeners = self.listeners.iter();
            listeners.any(|it| it.address.split('?').next() == Some(id))
        };
        device.matches().all(|it| match it {
            Match::Id(id) => match self.device_by {
                DeviceBy::Ip => !is_listener(&id),
                DeviceBy::Peer => {
                    id.parse::<SocketAddr>().is_err() && !id.contains('#') && !is_listener(&id)
                }
                // A listener on port 0 is named by the port that the system chooses, so any socket address may match.
                DeviceBy::Listener => id.parse::<SocketAddr>().is_err() && !is_listener(&id),
            },
            _ => false,
        })
    }

    const fn device_by_word(&self) -> &'static str {
        match self.device_by {
            DeviceBy::Ip => "ip",
            DeviceBy::Peer => "peer",
            DeviceBy::Listener => "listener",
        }
    }
}

#[cfg(test)]
mod tests;
