//! Converts a [`Config`] into the types of the engine and the recording: policies, bounds, socket options, the table of
//! devices, and the options of the log.

use std::sync::Arc;

use framing_core::{AnyFraming, Limits};

use crate::config::listener_tls::PREFIX;
use crate::config::partial::{
    Config, DeviceConfig, GivenValue, ListenerConfig, PROXY_FROM, Partial,
};
use crate::config::value::{AfterEnd, Oversize, UNFINISHED_MESSAGES};
use blocksd_engine::admission::identity::DeviceTable;
use blocksd_engine::batch::{ClosePolicy, OversizePolicy};
use blocksd_engine::connection::policy::{
    Policies, Policy, ReplyKind, SessionMode, SessionPolicy, Timeouts,
};
use blocksd_engine::listen::address::Address;
use blocksd_engine::listen::listener::Sockets;
use blocksd_engine::permit::Bounds;
use blocksd_engine::tls::{ClientAuth, MinVersion, TlsFiles};
use blocksd_recording::LogOptions;
use blocksd_recording::Retention;

/// Default memory for unfinished messages, in bytes.
const UNFINISHED: u64 = 64 << 20;
/// Bytes that the state of a session takes in a file, at most.
const SESSION_LEN: u64 = 256;
/// Default size of a file of a recording, in bytes.
const ROTATE_SIZE: u64 = 1 << 30;

impl Config {
    /// The bounds on all connections together.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let policies = self
            .listeners
            .iter()
            .map(|listener| self.policies(listener));
        let longest = policies
            .flat_map(|policies| policies.iter().map(|it| it.limits.block_max).max())
            .max();
        let longest = u64::from(longest.unwrap_or(self.max_block));
        Bounds {
            connections: self.max_connections,
            per_device: self.max_connections_per_device,
            unfinished: self
                .max_unfinished
                .unwrap_or_else(|| UNFINISHED.max(UNFINISHED_MESSAGES * longest)),
            longest,
            handshakes: self.max_handshakes,
        }
    }

    /// The files of `--http` with TLS.
    #[must_use]
    pub fn http_tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.http_tls_cert.clone()?, self.http_tls_key.clone()?);
        Some(TlsFiles {
            cert,
            key,
            ca: self.http_tls_ca.clone(),
            crl: None,
            allow: None,
            clients: match self.http_tls_ca {
                Some(_) => ClientAuth::Require,
                None => ClientAuth::None,
            },
            min: MinVersion::default(),
            names: false,
            protocols: vec![b"http/1.1".to_vec()],
        })
    }

    /// The options of sockets.
    #[must_use]
    pub const fn sockets(&self) -> Sockets {
        Sockets {
            keepalive: self.keepalive.0,
            receive_buffer: self.receive_buffer,
        }
    }

    /// The options of the recording's files.
    #[must_use]
    pub fn log_options(&self) -> LogOptions {
        LogOptions {
            compression: self.record_compression,
            // The recording applies its own limit, a quarter of the size limit, since a reload may change that.
            rotate_bytes: self.record_rotate_size.unwrap_or(ROTATE_SIZE),
            rotate_after: self.record_rotate_after,
            sync_after: self.record_sync,
        }
    }

    /// The value of an option whose default depends on other options.
    pub(super) fn computed(&self, key: &str) -> Option<u64> {
        match key {
            "max-unfinished" => Some(self.bounds().unfinished),
            "record-rotate-size" => Some(self.rotate_size()),
            _ => None,
        }
    }

    /// The size at which the recording starts a new file.
    fn rotate_size(&self) -> u64 {
        let most = self
            .record_max_bytes
            .map_or(u64::MAX, Retention::file_max_of);
        self.log_options().rotate_bytes.min(most)
    }

    /// The number of sessions that the recording has room for: each file repeats the states of all, and they take at most an
    /// eighth of it.
    #[must_use]
    pub fn sessions_with_room(&self) -> usize {
        let max = self.record_max_bytes.map(Retention::file_max_of);
        let count = max.map(|max| max / 8 / SESSION_LEN);
        count.map_or(usize::MAX, |count| {
            usize::try_from(count).unwrap_or(usize::MAX)
        })
    }

    /// The table that maps connections to the configured devices.
    #[must_use]
    pub fn device_table(&self) -> DeviceTable {
        let entry = |device: &DeviceConfig| (device.label().into(), device.matches().collect());
        DeviceTable::new(self.devices.iter().map(entry).collect())
    }

    /// The policies of the connections of a listener. Options of a device override those of the listener.
    #[must_use]
    pub fn policies(&self, listener: &ListenerConfig) -> Policies {
        let default = Policies::from(self.policy(listener, listener.own.clone()));
        let has_options = |device: &&DeviceConfig| device.own != Partial::default();
        let devices = self.devices.iter().filter(has_options);
        devices.fold(default, |policies, device| {
            let own = device.own.clone().combine(listener.own.clone());
            policies.with(device.label(), Arc::new(self.policy(listener, own)))
        })
    }

    /// What to do at the end of a series on a listener without its own `after-end`.
    pub(super) fn after_end(&self, listener: &ListenerConfig) -> AfterEnd {
        if is_line(&listener.address) && self.reply.is_none() {
            AfterEnd::Continue
        } else {
            self.after_end
        }
    }

    /// What the line of a listener says about sessions: ` session=...`, or nothing for the default.
    pub(crate) fn session_note(&self, listener: &ListenerConfig) -> &'static str {
        let own = listener.own.session.as_ref().map(|given| given.value);
        match own.or(self.session) {
            Some(SessionMode::Required) => " session=required",
            Some(SessionMode::Off) => " session=off",
            Some(SessionMode::Auto) | None => "",
        }
    }

    /// What the line of a listener says about TLS: ` tls`, or nothing.
    #[must_use]
    pub(crate) const fn tls_note(&self, listener: &ListenerConfig) -> &'static str {
        if listener.tls.is_empty() { "" } else { " tls" }
    }

    /// Options of a listener that its line names only if it has them: ` max-skip=...`, what TLS needs besides a certificate, and
    /// ` proxy-from=...`.
    pub(crate) fn set_notes(&self, listener: &ListenerConfig) -> String {
        let skip = listener.own.max_skip.as_ref();
        let skip = skip.map(|it| format!(" max-skip={}", it.value));
        let tls = listener.tls.written();
        let tls = tls.filter(|(key, ..)| !["cert", "key"].contains(key));
        let tls = tls.map(|(key, text, _)| format!(" {PREFIX}{key}={text}"));
        let proxies = listener.proxy_from.iter();
        let proxies = proxies.map(|(proxies, _)| format!(" {PROXY_FROM}={proxies}"));
        skip.into_iter().chain(tls).chain(proxies).collect()
    }

    /// The scheme of the address of `--http`.
    pub(crate) const fn http_scheme(&self) -> &'static str {
        match self.http_tls_cert {
            Some(_) => "https",
            None => "http",
        }
    }

    fn policy(&self, listener: &ListenerConfig, own: Partial) -> Policy {
        let oversize = or(own.oversize, self.oversize);
        let framing = or(own.framing, self.framing);
        let can_have_sessions = self.record.is_some()
            && self.reply.is_none()
            && oversize == Oversize::Skip
            && matches!(framing, AnyFraming::Blocks(_))
            && !is_line(&listener.address);
        let mode = own.session.map(|given| given.value).or(self.session);
        let after_end = or(own.after_end, self.after_end(listener));
        Policy {
            framing,
            encoding: or(own.decode, self.decode.clone()).into(),
            limits: Limits {
                block_max: or(own.max_block, self.max_block),
                // A message that is taken in pieces is never skipped.
                skip_max: match oversize {
                    Oversize::Pieces => u32::MAX,
                    _ => or(own.max_skip, self.max_skip),
                },
            },
            close: ClosePolicy {
                at_end: after_end == AfterEnd::Close,
                oversize: match oversize {
                    Oversize::Skip => OversizePolicy::Skip,
                    Oversize::Close => OversizePolicy::Close,
                    Oversize::Pieces => OversizePolicy::Stream,
                },
            },
            timeouts: Timeouts {
                first_byte: or(own.first_byte_timeout, self.first_byte_timeout).0,
                idle: or(own.idle_timeout, self.idle_timeout).0,
                header: or(own.header_timeout, self.header_timeout).0,
                message: or(own.block_timeout, self.block_timeout).0,
                reply: self.reply_timeout.0,
            },
            reply: self.reply.as_deref().map(ReplyKind::parse),
            sessions: SessionPolicy {
                mode: match mode {
                    _ if !can_have_sessions => SessionMode::Off,
                    None => SessionMode::Auto,
                    Some(mode) => mode,
                },
                ack_interval: self.ack_interval,
                heartbeat: self.heartbeat.0.unwrap_or_default(),
            },
        }
    }
}

fn or<T>(own: Option<GivenValue<T>>, default: T) -> T {
    own.map_or(default, |given| given.value)
}

/// Whether an address is a line without connections: a serial port or standard input. When a series ends there, the
/// next one may already be on its way, and closing would lose its first bytes. Such a listener continues, unless its
/// own options say otherwise or a reply is configured.
pub(super) fn is_line(address: &str) -> bool {
    matches!(address.parse(), Ok(Address::Serial(_) | Address::Stdin))
}
