//! `blocksd check-config`: checks a config file without opening a port or writing a file. Start with [`command`].

pub mod http;
pub mod tls;

use std::io::{self, Write};
use std::path::Path;

use crate::config::{self, Config, ConfigError, Mistake, Partial, Reason, Refused, ValueOrigin};
use crate::error::{Code, CommandError};
use crate::serve::forward;
use blocksd_engine::ListenerSpec;
use blocksd_engine::batch::OversizePolicy;
use blocksd_engine::connection::policy::Policy;
use blocksd_engine::listen::address::{Address, AddressError};
use blocksd_engine::listen::claims::Claims;
use blocksd_engine::listen::handshake::Handshake;
use blocksd_engine::listen::listener;
use blocksd_engine::listen::path::made_for;
use blocksd_engine::stdio;
use blocksd_recording::Lock;

/// Checks a file, with options of the command line that override it. Prints what `serve` would do, or every value.
///
/// # Errors
/// The errors with which `serve` would refuse the file, except those that only opening a port or writing can show.
pub fn command(file: &Path, options: Partial, print: bool) -> Result<(), CommandError> {
    let config = load(Some(file), options)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let lines = check(&config)?;
    let text = if print { config::print(&config) } else { lines };
    let mut out = stdio::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(CommandError::stdout)
}

/// Loads a configuration. If it has mistakes, also reports those that [`plan`] finds in the valid part, and those of files of clusters.
///
/// # Errors
/// [`CommandError::Config`] with every mistake.
pub fn load(file: Option<&Path>, options: Partial) -> Result<Config, CommandError> {
    config::load_or_rest(file, options).map_err(|Refused { mut error, rest }| {
        if let Some(rest) = rest {
            let planned = match plan(&rest) {
                Err(CommandError::Config(more)) => more.mistakes,
                _ => Vec::new(),
            };
            // If an address is invalid, the default was checked in its place. Drop the mistakes about the default.
            let is_address =
                |key: Option<&str>| matches!(key, Some("listen" | "listener" | "address"));
            let lacks_address = error
                .mistakes
                .iter()
                .any(|it| is_address(it.key.as_deref()));
            let is_of_default = |it: &Mistake| {
                it.origin == Some(ValueOrigin::Default) || is_address(it.key.as_deref())
            };
            let planned = planned.into_iter();
            let planned = planned.filter(|it| !(lacks_address && is_of_default(it)));
            let mut clusters = Findings::default();
            clusters.check_forwards(&rest);
            error.mistakes.extend(planned.chain(clusters.mistakes));
            error.mistakes.sort_by_key(|mistake| mistake.origin);
        }
        error.into()
    })
}

/// Describes what `serve` would do with a configuration: a line for each address and for the recording, and `ok`.
///
/// # Errors
/// The errors with which `serve` would refuse it, except those that only opening a port or writing can show: that an
/// address is in use or does not exist, or that a disk is full. A daemon that is recording to the folder now is
/// printed, and is not an error.
fn check(config: &Config) -> Result<String, CommandError> {
    let mut lines = Vec::new();
    let plan = preflight(config)?;
    if let Ok(Some(server)) = tls::of_http(config) {
        warn_of_tls(config.http.as_deref().unwrap_or_default(), &*server);
    }
    for spec in plan {
        if let Some(server) = &spec.handshake {
            warn_of_tls(&spec.address, &**server);
        }
        let ListenerSpec {
            address, policies, ..
        } = spec;
        let policy = described(policies.default_policy());
        // This process does not get the sockets of the service.
        let note = match address.parse() {
            Ok(Address::Systemd(_)) => " (not checked: the sockets that systemd passes)",
            _ => "",
        };
        let listener = config.listeners.iter().find(|it| it.address == *address);
        let session = listener.map_or("", |listener| config.session_note(listener));
        let tls = listener.map_or("", |listener| config.tls_note(listener));
        let set = listener.map_or(String::new(), |listener| config.set_notes(listener));
        lines.push(format!(
            "listen on {address} {policy}{session}{tls}{set}{note}"
        ));
    }
    if let Some(address) = &config.metrics {
        lines.push(format!("metrics on {address}"));
    }
    if let Some(address) = &config.http {
        lines.push(format!("page on {}://{address}/", config.http_scheme()));
    }
    if let Some(folder) = &config.record {
        let in_use = if Lock::is_taken(folder) {
            " (a daemon is recording to it now)"
        } else {
            ""
        };
        lines.push(format!("record to {}{in_use}", folder.display()));
    }
    for cluster in &config.forwards {
        lines.push(format!("forward to {cluster}"));
    }
    lines.push("ok\n".to_owned());
    Ok(lines.join("\n"))
}

/// Warns of what is wrong with files of TLS that can be used.
fn warn_of_tls(address: &str, server: &dyn Handshake) {
    for problem in server.problems() {
        tracing::warn!("TLS of {address}: {problem}");
    }
}

/// As [`plan`]. Also checks the folder of the recording and all addresses, for the start of `serve` and for `check-config`
/// alike, so that both report the same errors.
///
/// # Errors
/// As [`plan`], and those of the folder and the addresses.
pub fn preflight(config: &Config) -> Result<Vec<ListenerSpec>, CommandError> {
    let plan = plan(config)?;
    // In the order of `serve`: the recording creates its folder before listeners are opened.
    let made = match &config.record {
        Some(folder) => {
            Lock::check(folder)?;
            made_for(folder)
        }
        None => Vec::new(),
    };
    let mut findings = Findings::default();
    if let Some(address) = &config.metrics {
        let checked = listener::check_network(address).map_err(|error| CommandError::Listen {
            address: address.clone(),
            error,
        });
        findings.check(config.origin("metrics"), "metrics", checked);
    }
    if let Some(address) = &config.http {
        let checked = http::check(config, address);
        findings.check(config.origin("http"), "http", checked);
        let access = http::access(config).map(drop);
        findings.check(config.origin("http-token"), "http-token", access);
        let checked = tls::of_http(config).map(drop);
        findings.check(config.origin("http-tls-cert"), "http-tls-cert", checked);
    }
    findings.check_forwards(config);
    for listener in &config.listeners {
        let address = listener.address.clone();
        let checked = listener::check(&address, &made);
        let checked = checked.map_err(|error| CommandError::Listen { address, error });
        findings.check(listener.origin, "listen", checked);
    }
    findings.finish(config)?;
    Ok(plan)
}

/// Returns the listeners with their policies, in the order in which to open them. Checks everything that can be checked
/// before anything is opened, for `serve`, its reload and `check-config` alike. Resolves names.
///
/// # Errors
/// [`CommandError::Config`] with every mistake; otherwise the first error of the environment.
pub fn plan(config: &Config) -> Result<Vec<ListenerSpec>, CommandError> {
    let mut findings = Findings::default();
    let mut plan = Vec::new();
    let mut replies = Vec::new();
    for listener in &config.listeners {
        let policies = config.policies(listener);
        for policy in policies.iter() {
            // The check may read a file, so equal kinds are checked once.
            let kind = (
                policy.framing,
                policy.close.oversize,
                listener.address == "-",
            );
            if !replies.contains(&kind) {
                replies.push(kind);
                let checked = check_reply(&listener.address, policy);
                findings.check(config.origin("reply"), "reply", checked);
            }
        }
        let mut spec = ListenerSpec::new(&*listener.address, policies);
        let proxies = listener.proxy_from.as_ref();
        spec.proxy_from = proxies.map(|(proxies, _)| proxies.clone());
        // What contradicts itself was refused before.
        if let Ok(Some(files)) = listener.tls.files() {
            match tls::load(&listener.address, files) {
                Ok(handshake) => spec.handshake = Some(handshake),
                Err(failure) => {
                    let origin = listener.tls.origin().unwrap_or(listener.origin);
                    findings.check(origin, "tls", Err(failure));
                }
            }
        }
        plan.push(spec);
    }
    let mut claims = Claims::default();
    if let Some(address) = &config.metrics {
        let claimed = claims.network(address).map_err(CommandError::from);
        findings.check(config.origin("metrics"), "metrics", claimed);
    }
    if let Some(address) = &config.http {
        let claimed = claims.network(address).map_err(CommandError::from);
        findings.check(config.origin("http"), "http", claimed);
    }
    if let Some(folder) = &config.record {
        let text = format!("--record {}", folder.display());
        let claimed = claims
            .folder(folder, Lock::FILE_NAME, &text)
            .map_err(CommandError::from);
        findings.check(config.origin("record"), "record", claimed);
    }
    for listener in &config.listeners {
        let claimed = claim(&mut claims, &listener.address);
        findings.check(listener.origin, "listen", claimed);
    }
    findings.finish(config)?;
    // `systemd` gets the passed sockets that no other listener asks for by name, so it is opened last.
    plan.sort_by_key(|spec| spec.address == "systemd");
    Ok(plan)
}

fn claim(claims: &mut Claims, text: &str) -> Result<(), CommandError> {
    let address: Address = text.parse().map_err(|error: AddressError| {
        let error = io::Error::new(io::ErrorKind::InvalidInput, error);
        let address = text.to_owned();
        CommandError::Listen { address, error }
    })?;
    claims.claim(&address, text).map_err(CommandError::from)
}

/// Adds the line of the config file to an error about an invalid address.
#[must_use]
pub fn with_line(config: &Config, failure: CommandError) -> CommandError {
    let CommandError::Listen { address, .. } = &failure else {
        return failure;
    };
    let listener = config.listeners.iter().find(|it| it.address == *address);
    let Some(origin) = listener.map(|it| it.origin) else {
        return failure;
    };
    if failure.code() != Code::Wrong || !matches!(origin, ValueOrigin::Line(_)) {
        return failure;
    }
    CommandError::from(ConfigError {
        file: config.file.clone(),
        mistakes: vec![mistake(origin, "listen", failure.to_string())],
    })
}

/// Checks whether the configured reply can be sent to devices.
fn check_reply(address: &str, policy: &Policy) -> Result<(), CommandError> {
    let Some(reply) = &policy.reply else {
        return Ok(());
    };
    reply.check(policy.framing, policy.close.oversize)?;
    if address == "-" {
        // Standard input has no way back.
        return Err(CommandError::Conflict {
            one: "--reply",
            other: "--listen -",
        });
    }
    Ok(())
}

/// The mistakes and errors found so far.
#[derive(Debug, Default)]
struct Findings {
    mistakes: Vec<Mistake>,
    /// The first error of the environment, which a retry may solve. A mistake is reported instead if there is one.
    refused: Option<CommandError>,
}

impl Findings {
    fn check(&mut self, origin: ValueOrigin, key: &str, checked: Result<(), CommandError>) {
        let Err(failure) = checked else {
            return;
        };
        if failure.code() != Code::Wrong {
            self.refused.get_or_insert(failure);
            return;
        }
        let reason = match (&failure, origin) {
            // A file has keys, and not options of the command line.
            (CommandError::Conflict { one, other }, ValueOrigin::Line(_)) => {
                let key = |option: &str| option.trim_start_matches("--").to_owned();
                format!("{} cannot be combined with {}", key(one), key(other))
            }
            _ => failure.to_string(),
        };
        let is_known = |it: &Mistake| {
            it.origin == Some(origin)
                && matches!(&it.reason, Reason::Refused(known) if *known == reason)
        };
        if !self.mistakes.iter().any(is_known) {
            self.mistakes.push(mistake(origin, key, reason));
        }
    }

    /// Checks the addresses and the files of all clusters.
    fn check_forwards(&mut self, config: &Config) {
        for (origin, failure) in config.forwards.iter().flat_map(forward::check) {
            self.check(origin, "forward", Err(failure));
        }
    }

    fn finish(mut self, config: &Config) -> Result<(), CommandError> {
        if self.mistakes.is_empty() {
            return self.refused.map_or(Ok(()), Err);
        }
        self.mistakes.sort_by_key(|mistake| mistake.origin);
        Err(CommandError::from(ConfigError {
            file: config.file.clone(),
            mistakes: self.mistakes,
        }))
    }
}

/// A mistake with its key. On the command line, the reason itself names the option.
fn mistake(origin: ValueOrigin, key: &str, reason: String) -> Mistake {
    let in_file = matches!(origin, ValueOrigin::Line(_));
    Mistake {
        origin: Some(origin),
        key: in_file.then(|| key.to_owned()),
        reason: Reason::Refused(reason),
    }
}

fn described(policy: &Policy) -> String {
    let oversize = match policy.close.oversize {
        OversizePolicy::Skip => "skip",
        OversizePolicy::Close => "close",
        OversizePolicy::Stream => "pieces",
    };
    let after_end = if policy.close.at_end {
        "close"
    } else {
        "continue"
    };
    format!(
        "framing={} decode={} max-block={} oversize={oversize} after-end={after_end}",
        policy.framing, policy.encoding.name, policy.limits.block_max,
    )
}
