//! Builds a [`Config`] from the command line, the config file and the defaults, and validates it. Start with [`load`].

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::config::effective::is_line;
use crate::config::error::{ConfigError, Mistake, Reason, ValueOrigin, named};
use crate::config::file;
use crate::config::forward::ForwardConfig;
use crate::config::listener_tls::TABLE;
use crate::config::partial::{Config, DeviceConfig, ListenerConfig, OPTIONS, Partial};
use crate::config::spec::HelpGroup;
use crate::config::value::{Oversize, SessionMode, UNFINISHED_MESSAGES};
use framing_core::AnyFraming;

use blocksd_engine::admission::identity::{DeviceBy, Match};
use blocksd_recording::Retention;

/// Combines the options of the command line with the config file, if there is one, and with the defaults.
///
/// # Errors
/// Every mistake in the file, and every conflict between options.
pub fn load(path: Option<&Path>, command_line: Partial) -> Result<Config, ConfigError> {
    load_or_rest(path, command_line).map_err(|refused| refused.error)
}

/// Like [`load`], but returns the valid part of the configuration together with the mistakes.
///
/// # Errors
/// Like [`load`].
pub fn load_or_rest(path: Option<&Path>, command_line: Partial) -> Result<Config, Refused> {
    let (file, mistakes) = match path {
        Some(path) => file::read(path).map_err(|error| Refused { error, rest: None })?,
        None => Default::default(),
    };
    combine(path, command_line, file, mistakes)
}

/// A configuration with mistakes.
#[derive(Debug)]
pub struct Refused {
    /// The mistakes.
    pub error: ConfigError,
    /// The configuration without the invalid values, in which further mistakes can be found.
    pub rest: Option<Box<Config>>,
}

pub(super) fn combine(
    path: Option<&Path>,
    command_line: Partial,
    file: Partial,
    mut mistakes: Vec<Mistake>,
) -> Result<Config, Refused> {
    let overridden = command_line.common(&file);
    let given = command_line.combine(file).combine(Partial::defaults());
    let known: Vec<_> = mistakes.iter().filter_map(|it| it.key.clone()).collect();
    let mut found = validate(&given);
    // An invalid value was left out. That it is missing is not a second mistake.
    found.retain(|(_, keys)| !keys.iter().any(|key| known.iter().any(|it| it == key)));
    mistakes.extend(found.into_iter().map(|(mistake, _)| mistake));
    mistakes.sort_by_key(|mistake| mistake.origin);
    let path = path.map(Path::to_owned);
    let config = Config::new(path.clone(), overridden, given);
    let refused = |mistakes, rest| Refused {
        error: ConfigError {
            file: path,
            mistakes,
        },
        rest,
    };
    if !mistakes.is_empty() {
        return Err(refused(mistakes, config.ok().map(Box::new)));
    }
    config.map_err(|key| {
        let reason = "needs a value".to_owned();
        refused(vec![mistake(ValueOrigin::Default, key, reason)], None)
    })
}

/// A mistake, and the keys on which it depends.
type Found = (Mistake, Vec<&'static str>);

/// Finds conflicts between options.
fn validate(given: &Partial) -> Vec<Found> {
    let mut found = needs_record(given);
    found.extend(unfinished(given));
    found.extend(rotate(given));
    found.extend(devices(given));
    found.extend(sessions(given));
    found.extend(needs_http(given));
    found.extend(tls(given));
    found.extend(forwards(given));
    found
}

fn needs_record(given: &Partial) -> Vec<Found> {
    if given.record.is_some() {
        return Vec::new();
    }
    let of_record = OPTIONS.iter().filter(|spec| spec.needs_record);
    let shown = of_record.filter_map(|spec| Some((spec.given(given)?, spec.group)));
    let shown = shown.filter(|(shown, _)| shown.origin != ValueOrigin::Default);
    shown
        .map(|(it, group)| {
            let needed = match it.origin {
                ValueOrigin::Line(_) => "record = \"DIR\"",
                _ => "--record <DIR>",
            };
            let reason = match group {
                HelpGroup::Sessions => {
                    format!("a session acknowledges what is recorded, and needs {needed}")
                }
                _ => format!("configures the recording, and needs {needed}"),
            };
            (mistake(it.origin, it.key, reason), vec!["record"])
        })
        .collect()
}

/// Finds listeners whose TLS is incomplete or contradicts itself.
fn tls(given: &Partial) -> Vec<Found> {
    let mut found = Vec::new();
    for listener in &given.listeners {
        let Some(origin) = listener.tls.origin() else {
            continue;
        };
        let address = &listener.address;
        let reason = match listener.tls.files() {
            _ if is_line(address) => "a serial line and standard input have no TLS".to_owned(),
            Err(reason) => reason,
            Ok(_) => continue,
        };
        let reason = format!("`{address}`: {reason}");
        let key = match origin {
            ValueOrigin::Line(_) => TABLE,
            _ => "listen",
        };
        found.push((mistake(origin, key, reason), vec![key]));
    }
    found
}

/// Finds clusters that are given twice, and a set of subjects without bound.
fn forwards(given: &Partial) -> Vec<Found> {
    let mut found = Vec::new();
    let mut known: Vec<&ForwardConfig> = Vec::new();
    let by_peer = given.device_by.as_ref();
    let by_peer = by_peer.filter(|it| it.value == DeviceBy::Peer);
    let mut acknowledging = given.forwards.iter().filter(|it| it.acknowledges());
    let second = acknowledging.nth(1);
    for forward in &given.forwards {
        let mut refuse = |reason: String, keys: &[&'static str]| {
            found.push((
                mistake(forward.origin(), "forward", reason),
                [&["forward"], keys].concat(),
            ));
        };
        if let Some(server) = known.iter().find_map(|it| forward.shared(it)) {
            let whole = match forward.origin() {
                ValueOrigin::Line(_) => "`to`",
                _ => "--forward, after commas",
            };
            let reason = format!(
                "`{server}` is named twice with the stream `{}`; name all servers of a cluster in one {whole}",
                forward.stream()
            );
            refuse(reason, &["to", "stream", "site"]);
        }
        known.push(forward);
        if second.is_some_and(|second| std::ptr::eq(second, forward)) {
            refuse(
                "only one cluster can have `ack=forwarded`".to_owned(),
                &["ack"],
            );
        }
        if let Some(by_peer) = by_peer {
            let reason = format!(
                "each device has a subject, and {} peer makes a new one for each connection, without bound",
                named("device-by", by_peer.origin)
            );
            refuse(reason, &["device-by"]);
        }
    }
    found
}

/// Finds options of an HTTP server that is not configured.
fn needs_http(given: &Partial) -> Vec<Found> {
    let mut found = Vec::new();
    let mut need = |shown: Option<(ValueOrigin, &str)>, keys: &[&'static str], is_met: bool| {
        let Some((origin, key)) = shown.filter(|_| !is_met) else {
            return;
        };
        let named: Vec<_> = keys.iter().map(|key| named(key, origin)).collect();
        let reason = format!("needs {}", named.join(" or "));
        found.push((mistake(origin, key, reason), keys.to_vec()));
    };
    let has_http = given.http.is_some();
    let token = given.http_token.as_ref();
    need(token.map(|it| (it.origin, it.key)), &["http"], has_http);
    let host = given.http_host.as_ref();
    need(host.map(|it| (it.origin, it.key)), &["http"], has_http);
    let (cert, key) = (given.http_tls_cert.as_ref(), given.http_tls_key.as_ref());
    let ca = given.http_tls_ca.as_ref();
    for option in [cert, key, ca] {
        need(option.map(|it| (it.origin, it.key)), &["http"], has_http);
    }
    need(
        cert.map(|it| (it.origin, it.key)),
        &["http-tls-key"],
        key.is_some(),
    );
    for option in [key, ca] {
        need(
            option.map(|it| (it.origin, it.key)),
            &["http-tls-cert"],
            cert.is_some(),
        );
    }
    let per_device = given.metrics_per_device.as_ref();
    need(
        per_device.map(|it| (it.origin, it.key)),
        &["metrics", "http"],
        has_http || given.metrics.is_some(),
    );
    found
}

fn unfinished(given: &Partial) -> Option<Found> {
    let own = given.listeners.iter().map(|listener| &listener.own);
    let own = own.chain(given.devices.iter().map(|device| &device.own));
    let all = own.chain([given]).filter_map(|own| own.max_block.as_ref());
    let longest = u64::from(all.map(|max| max.value).max()?);
    let least = UNFINISHED_MESSAGES * longest;
    let max = given.max_unfinished.as_ref()?;
    let reason = format!(
        "must be at least {least}, {UNFINISHED_MESSAGES} times the largest {} ({longest}), not {}",
        named("max-block", max.origin),
        max.text
    );
    let found = mistake(max.origin, max.key, reason);
    (max.value < least).then(|| (found, vec!["max-block", "max-unfinished"]))
}

/// Finds listeners and devices that shall have sessions, and cannot.
fn sessions(given: &Partial) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let devices = given.devices.iter().map(|device| &device.own);
    let devices: Vec<_> = devices.filter(|own| own.session.is_some()).collect();
    for listener in &given.listeners {
        let owns = devices.iter().map(|own| (**own).clone());
        let owns = owns.chain([Partial::default()]);
        for own in owns.map(|own| own.combine(listener.own.clone())) {
            let session = own.session.as_ref().or(given.session.as_ref());
            let Some(session) = session.filter(|it| it.value != SessionMode::Off) else {
                continue;
            };
            let framing = own.framing.as_ref().or(given.framing.as_ref());
            let oversize = own.oversize.as_ref().or(given.oversize.as_ref());
            let address = &listener.address;
            let why = match (framing, oversize, &given.reply) {
                (Some(framing), _, _) if !matches!(framing.value, AnyFraming::Blocks(_)) => {
                    format!(
                        "`{address}` has the framing {}, and sessions need blocks",
                        framing.text
                    )
                }
                (_, Some(oversize), _) if oversize.value != Oversize::Skip => format!(
                    "`{address}` has {} {}, and sessions need skip",
                    named("oversize", session.origin),
                    oversize.text
                ),
                (_, _, Some(_)) => format!(
                    "the daemon answers a session with acknowledgements, so it cannot be used with {}",
                    named("reply", session.origin)
                ),
                _ if is_line(address) => {
                    format!("`{address}` is a serial line or standard input, which has no sessions")
                }
                _ if given.record.is_none() && own.session.is_some() => format!(
                    "a message is acknowledged when it is recorded, so sessions need {}",
                    named("record", session.origin)
                ),
                _ => continue,
            };
            let it = mistake(
                session.origin,
                session.key,
                format!("`{}`: {why}", session.text),
            );
            if !found.iter().any(|(known, _)| known.origin == it.origin) {
                found.push((it, vec!["framing", "oversize", "reply", "record"]));
            }
        }
    }
    found
}

fn rotate(given: &Partial) -> Option<Found> {
    let (size, max) = (
        given.record_rotate_size.as_ref()?,
        given.record_max_bytes.as_ref()?,
    );
    let most = Retention::file_max_of(max.value);
    let reason = format!(
        "must be at most {most}, a quarter of {} ({}), not {}",
        named("record-max-bytes", size.origin),
        max.text,
        size.text
    );
    let found = mistake(size.origin, size.key, reason);
    (most < size.value).then(|| (found, Vec::new()))
}

/// Finds devices with the same name, and devices that match the same connections.
fn devices(given: &Partial) -> Vec<Found> {
    let mut found = Vec::new();
    let mut labels: HashMap<&str, &str> = HashMap::new();
    let mut matches: HashMap<Match, &str> = HashMap::new();
    for device in &given.devices {
        let label = device.label();
        if let Some(first) = labels.get(label) {
            let (key, origin) = match &device.name {
                Some((_, at)) => ("name", *at),
                None => (&*device.id, device.origin),
            };
            let reason = format!("`{label}` is also the name of [device.\"{first}\"]");
            found.push((mistake(origin, key, reason), Vec::new()));
        }
        labels.entry(label).or_insert(&device.id);
        for (number, this) in device.matches().enumerate() {
            let (key, origin) = match device.matches.get(number) {
                Some((_, at)) => ("match", *at),
                None => (&*device.id, device.origin),
            };
            let mut refuse = |reason| found.push((mistake(origin, key, reason), Vec::new()));
            if let Some(first) = matches.get(&this) {
                refuse(format!("`{this}` is also a match of [device.\"{first}\"]"));
            }
            if let Match::Listener(address) = &this
                && !has_listener(given, address)
            {
                refuse(format!("`{this}`: there is no listener `{address}`"));
            }
            matches.entry(this).or_insert(&device.id);
        }
    }
    found.extend(ambiguous_names(given));
    found
}

/// Names that are also the identity of connections that no table matches. These would be taken for the device.
fn ambiguous_names(given: &Partial) -> Vec<Found> {
    let names = given.devices.iter().filter_map(|device| {
        let name = device.label();
        let address = name.parse::<SocketAddr>().map(|address| address.ip());
        let address = address.or_else(|_| name.parse::<IpAddr>()).ok();
        let mut listeners = given.listeners.iter().map(|it| &*it.address);
        let is_listener = listeners.any(|it| it.split('?').next() == Some(name));
        (address.is_some() || is_listener).then_some((device, name, address))
    });
    let mut names = names.peekable();
    if names.peek().is_none() {
        return Vec::new();
    }
    let matches: HashSet<Match> = given
        .devices
        .iter()
        .flat_map(DeviceConfig::matches)
        .collect();
    let networks = matches.iter().filter_map(|it| match it {
        Match::Network(network) => Some(*network),
        _ => None,
    });
    let networks: Vec<_> = networks.collect();
    let is_matched = |name: &str, address: Option<IpAddr>| {
        let address = address.map(|address| address.to_canonical());
        let of_name = [Match::Id(name.into()), Match::Listener(name.into())];
        let all = of_name.into_iter().chain(address.map(Match::Address));
        all.into_iter().any(|it| matches.contains(&it))
            || address.is_some_and(|ip| networks.iter().any(|network| network.contains(&ip)))
    };
    let ambiguous = names.filter(|(_, name, address)| !is_matched(name, *address));
    let found = ambiguous.map(|(device, name, _)| {
        let (key, origin) = match &device.name {
            Some((_, at)) => ("name", *at),
            None => (&*device.id, device.origin),
        };
        let reason = format!(
            "other connections are named `{name}` too, because they come from there; add `{name}` to `match`, or choose another name"
        );
        (mistake(origin, key, reason), Vec::new())
    });
    found.collect()
}

/// Whether a listener has this address. Any address passes if the command line replaces the listeners of the file.
fn has_listener(given: &Partial, address: &str) -> bool {
    let is_it = |listener: &ListenerConfig| {
        listener.address == address || listener.origin == ValueOrigin::CommandLine
    };
    given.listeners.iter().any(is_it)
}

fn mistake(origin: ValueOrigin, key: &str, reason: String) -> Mistake {
    Mistake {
        origin: Some(origin),
        key: Some(key.to_owned()),
        reason: Reason::Refused(reason),
    }
}
