//! `blocksd check-config`: what a config file says, and whether it can be done; without doing it.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{self, Config, ConfigError, Mistake, Partial, Reason, Refused, ValueOrigin};
use crate::error::{Code, CommandError};
use blocksd_engine::ListenerSpec;
use blocksd_engine::batch::OversizePolicy;
use blocksd_engine::connection::policy::Policy;
use blocksd_engine::listen::address::{Address, AddressError};
use blocksd_engine::listen::claims::Claims;
use blocksd_engine::listen::listener;
use blocksd_engine::listen::path::made_for;
use blocksd_recording::Lock;

/// Checks a file, with options of the command line that override it; prints what `serve` would do, or every value.
///
/// # Errors
/// As `serve` would refuse the file, but for what only opening a port or writing shows.
pub fn command(file: &Path, options: Partial, print: bool) -> Result<(), CommandError> {
    let config = load(Some(file), options)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let lines = check(&config)?;
    let text = if print { config::print(&config) } else { lines };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(CommandError::stdout)
}

/// Loads a configuration. If it has mistakes, also finds those that [`plan`] would find in the rest of it.
///
/// # Errors
/// [`CommandError::Config`] with every mistake.
pub fn load(file: Option<&Path>, options: Partial) -> Result<Config, CommandError> {
    config::load_or_rest(file, options).map_err(|Refused { mut error, rest }| {
        let planned = rest.map(|rest| plan(&rest).map(drop));
        if let Some(Err(CommandError::Config(more))) = planned {
            // An address that is wrong has left the default in its place.
            let is_address =
                |key: Option<&str>| matches!(key, Some("listen" | "listener" | "address"));
            let lacks_address = error
                .mistakes
                .iter()
                .any(|it| is_address(it.key.as_deref()));
            let is_of_default = |it: &Mistake| {
                it.origin == Some(ValueOrigin::Default) || is_address(it.key.as_deref())
            };
            let more = more.mistakes.into_iter();
            let more = more.filter(|it| !(lacks_address && is_of_default(it)));
            error.mistakes.extend(more);
            error.mistakes.sort_by_key(|mistake| mistake.origin);
        }
        error.into()
    })
}

/// What `serve` would do with a configuration: a line for each listener, and `ok`.
///
/// # Errors
/// As `serve` would refuse it, but for what only opening a port or writing shows: that an address is taken or not
/// there, or that a disk is full. That a daemon records to the folder now is printed, and is not an error.
fn check(config: &Config) -> Result<String, CommandError> {
    let mut lines = Vec::new();
    let plan = plan(config)?;
    // In the order of `serve`: the recording makes its folder before listeners are opened.
    let made = match &config.record {
        Some(folder) => {
            Lock::check(folder)?;
            made_for(folder)
        }
        None => Vec::new(),
    };
    let mut findings = Findings::default();
    for listener in &config.listeners {
        let address = listener.address.clone();
        let checked = listener::check(&address, &made);
        let checked = checked.map_err(|error| CommandError::Listen { address, error });
        findings.check(listener.origin, "listen", checked);
    }
    findings.finish(config)?;
    for ListenerSpec { address, policies } in plan {
        let policy = described(policies.default_policy());
        lines.push(format!("listen on {address} {policy}"));
    }
    if let Some(address) = &config.metrics {
        lines.push(format!("metrics on {address}"));
    }
    if let Some(folder) = &config.record {
        let in_use = if Lock::is_taken(folder) {
            " (a daemon is recording to it now)"
        } else {
            ""
        };
        lines.push(format!("record to {}{in_use}", folder.display()));
    }
    lines.push("ok\n".to_owned());
    Ok(lines.join("\n"))
}

/// The addresses to listen on, in the order to open them, and how their connections are treated. What can be known
/// before anything is opened is checked here, for `serve`, its reload and `check-config` alike. Resolves names.
///
/// # Errors
/// [`CommandError::Config`] with every mistake; else the first thing that the environment refuses.
pub fn plan(config: &Config) -> Result<Vec<ListenerSpec>, CommandError> {
    let mut findings = Findings::default();
    let mut plan = Vec::new();
    let mut replies = Vec::new();
    for listener in &config.listeners {
        let policies = config.policies(listener);
        for policy in policies.iter() {
            // A file is read for it: once for all devices that are treated alike.
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
        plan.push(ListenerSpec::new(&*listener.address, policies));
    }
    let mut claims = Claims::default();
    if let Some(address) = &config.metrics {
        let claimed = claims.network(address).map_err(CommandError::from);
        findings.check(config.origin("metrics"), "metrics", claimed);
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
    // Sockets that are passed without being asked for by name are those that are left.
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

/// Names the line of the config file with the address that a daemon could not listen on, where that is a mistake.
#[must_use]
pub fn placed(config: &Config, failure: CommandError) -> CommandError {
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

/// Whether devices can be answered at all.
fn check_reply(address: &str, policy: &Policy) -> Result<(), CommandError> {
    let Some(reply) = &policy.reply else {
        return Ok(());
    };
    reply.check(policy.framing, policy.close.oversize)?;
    if address == "-" {
        // There is nobody to answer.
        return Err(CommandError::Conflict {
            one: "--reply",
            other: "--listen -",
        });
    }
    Ok(())
}

/// What was found to be wrong so far.
#[derive(Debug, Default)]
struct Findings {
    mistakes: Vec<Mistake>,
    /// What the environment refused first. Trying again may help, but not against a mistake.
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
        let reason = failure.to_string();
        let is_known = |it: &Mistake| {
            it.origin == Some(origin)
                && matches!(&it.reason, Reason::Refused(known) if *known == reason)
        };
        if !self.mistakes.iter().any(is_known) {
            self.mistakes.push(mistake(origin, key, reason));
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

/// A mistake with its key; on the command line, the reason itself names the option.
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
