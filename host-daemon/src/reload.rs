//! SIGHUP: reads the configuration again, and applies what can be changed while the daemon runs. Start with [`Reloader`].

use std::ffi::OsString;
use std::sync::Arc;

use clap::Parser as _;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::cli::{self, Cli, Command};
use crate::commands::check_config::{self, Plan};
use crate::config::{self, Config, Diff, Spec};
use crate::engine::connection::Policy;
use crate::engine::permit::Connections;
use crate::service::log;
use crate::service::systemd;
use blocksd_recording::write::retention::Retention;

/// The running configuration and how to apply a new one.
#[derive(Debug)]
pub struct Reloader {
    /// The command line. It names the file and overrides it.
    command_line: Vec<OsString>,
    /// What the daemon does now.
    running: Config,
    live: Live,
}

/// What can be changed while the daemon runs.
#[derive(Debug)]
pub struct Live {
    /// How connections that are accepted from now on are treated, by the address that is listened on.
    pub policies: Vec<(String, watch::Sender<Arc<Policy>>)>,
    /// The open connections, and how many there may be.
    pub connections: Arc<Connections>,
    /// How much the recording may take, where there is one.
    pub retention: Option<Arc<Retention>>,
}

/// Changed options, and what became of each. One line of the log for each.
#[derive(Debug, Default)]
struct Outcome {
    applied: Vec<String>,
    need_restart: Vec<String>,
    overridden: Vec<String>,
}

impl Reloader {
    /// Of a daemon that was started with this command line, which came to this configuration.
    #[must_use]
    pub fn new(command_line: Vec<OsString>, config: &Config, live: Live) -> Self {
        Self {
            command_line,
            running: config.clone(),
            live,
        }
    }

    /// Reloads at each notification, until the runtime ends. A configuration that is refused changes nothing.
    pub async fn run(mut self, hangup: Arc<Notify>) {
        loop {
            hangup.notified().await;
            let Some(file) = self.running.file.clone() else {
                info!("SIGHUP: there is nothing to reload without --config FILE");
                continue;
            };
            systemd::reloading();
            let command_line = self.command_line.clone();
            let path = file.display().to_string();
            // Reads files, and resolves names.
            let read = tokio::task::spawn_blocking(move || {
                // A pipe that gave the configuration at the start may never give it again.
                match std::fs::metadata(&file) {
                    Ok(kind) if !kind.is_file() => {
                        Err(format!("{}: not a regular file", file.display()))
                    }
                    _ => read(command_line),
                }
            })
            .await;
            let read = read.unwrap_or_else(|panic| Err(panic.to_string()));
            match read.and_then(|(config, plan)| self.reload(config, plan)) {
                Ok(outcome) => {
                    log_outcome(&path, &outcome);
                    systemd::reloaded("configuration reloaded");
                }
                Err(refused) => {
                    log_refused(&refused);
                    systemd::reloaded("configuration refused; the old one stays");
                }
            }
        }
    }

    /// Applies all that can be changed, or nothing.
    fn reload(&mut self, mut new: Config, plan: Plan) -> Result<Outcome, String> {
        let diff = config::diff(&self.running, &new);
        let log = apply(&self.live, &new, plan, &diff)?;
        let outcome = outcome(&new, &diff, log);
        for warning in new.warnings() {
            warn!("SIGHUP: {warning}");
        }
        // What is not applied is as before, and will differ at the next reload as well.
        let as_before = diff
            .restart
            .iter()
            .copied()
            .chain(diff.log.filter(|_| log == Some(log::Change::Overruled)));
        for spec in as_before {
            spec.keep(&mut new, &self.running);
        }
        new.listeners = [diff.kept, diff.removed].concat();
        self.running = new;
        Ok(outcome)
    }
}

/// Changes a running daemon: all of it, or, with an error, nothing. What can fail is done first.
///
/// This is the only place that has an effect.
fn apply(
    live: &Live,
    new: &Config,
    plan: Plan,
    diff: &Diff,
) -> Result<Option<log::Change>, String> {
    let log = diff.log.map(|_| log::change(&new.log)).transpose()?;
    // Before the policies: a longer message that is taken has its memory.
    let bounds = new.bounds(plan.iter().map(|(_, policy)| policy));
    live.connections.set_bounds(&bounds);
    let mut left: Vec<_> = live.policies.iter().collect();
    for (address, policy) in plan {
        // Of an address that is given twice, such as one with port 0, the first to the first.
        if let Some(at) = left.iter().position(|(other, _)| *other == address) {
            left.remove(at).1.send_replace(Arc::new(policy));
        }
    }
    if let (Some(_), Some(retention)) = (diff.retention, &live.retention) {
        retention.set(new.record_max_bytes);
    }
    Ok(log)
}

/// Reads the command line and the file again.
fn read(command_line: Vec<OsString>) -> Result<(Config, Plan), String> {
    let cli = Cli::try_parse_from(command_line).map_err(|error| cli::one_line(&error))?;
    let Command::Serve(serve) = cli.command else {
        return Err("the command line has changed".to_owned());
    };
    let config = config::load(serve.config.as_deref(), serve.options.0);
    let config = config.map_err(|error| error.to_string())?;
    let plan = check_config::plan(&config).map_err(|failure| failure.to_string())?;
    Ok((config, plan))
}

const NEW_CONNECTIONS: &str = "new connections";

/// What became of each difference.
fn outcome(new: &Config, diff: &Diff, log: Option<log::Change>) -> Outcome {
    let mut outcome = Outcome::default();
    for key in &new.overridden {
        let line = format!("{key}: the command line overrides the file");
        outcome.overridden.push(line);
    }
    for address in &diff.changed {
        let line = format!("listener {address}: its options applied to {NEW_CONNECTIONS}");
        outcome.applied.push(line);
    }
    for label in &diff.devices {
        let line = format!("device {label}: applied to {NEW_CONNECTIONS}");
        outcome.applied.push(line);
    }
    for listener in &diff.added {
        let address = &listener.address;
        let line = format!("listener {address}: added, needs a restart");
        outcome.need_restart.push(line);
    }
    for listener in &diff.removed {
        outcome.need_restart.push(format!(
            "listener {}: removed, needs a restart; until then it stays open with its old options",
            listener.address
        ));
    }
    let mut applied = |spec: &Spec, to| {
        outcome
            .applied
            .push(format!("{}: applied to {to}", spec.key));
    };
    for spec in diff.policies.iter().chain(&diff.bounds) {
        applied(spec, NEW_CONNECTIONS);
    }
    if let Some(spec) = diff.retention {
        applied(spec, "the next write");
    }
    match (diff.log, log) {
        (Some(spec), Some(log::Change::Applied)) => applied(spec, "the lines from now on"),
        (Some(spec), Some(log::Change::Overruled)) => outcome.overridden.push(format!(
            "{}: {} is set and overrides `log`",
            spec.key,
            log::VARIABLE
        )),
        _ => {}
    }
    for spec in &diff.restart {
        let line = format!("{}: changed, needs a restart", spec.key);
        outcome.need_restart.push(line);
    }
    outcome
}

fn log_outcome(path: &str, outcome: &Outcome) {
    let Outcome {
        applied,
        need_restart,
        overridden,
    } = outcome;
    for line in applied {
        info!("SIGHUP: {line}");
    }
    for line in need_restart.iter().chain(overridden) {
        warn!("SIGHUP: {line}");
    }
    info!(
        "SIGHUP: {path} was read again: {} applied, {} need a restart, {} overridden",
        applied.len(),
        need_restart.len(),
        overridden.len()
    );
}

/// Logs a line for each mistake; the last one says what became of the configuration.
fn log_refused(refused: &str) {
    let mut lines: Vec<_> = refused.lines().collect();
    let last = lines.pop().unwrap_or_default();
    for line in lines {
        error!("SIGHUP: {line}");
    }
    error!("SIGHUP: configuration refused, the old one stays: {last}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OPTIONS, Origin, Partial, Written};

    fn config(options: &[(&str, &str)]) -> Config {
        let mut partial = Partial::default();
        for (key, text) in options {
            let spec = OPTIONS.iter().find(|spec| spec.key == *key).unwrap();
            let (key, origin) = (spec.key, Origin::CommandLine);
            spec.set(&mut partial, Written { text, origin, key })
                .unwrap();
        }
        config::load(None, partial).unwrap()
    }

    /// No log is written in this test, so its level cannot be changed.
    #[test]
    fn where_one_part_fails_nothing_is_applied() {
        if std::env::var_os(log::VARIABLE).is_some() {
            // The level would be overruled, which is not a failure.
            return;
        }
        let old = config(&[]);
        let policy = Arc::new(old.policy(&old.listeners[0]));
        let (sender, receiver) = watch::channel(policy);
        let live = Live {
            policies: vec![(old.listeners[0].address.clone(), sender)],
            connections: Connections::new(old.bounds(std::iter::empty())),
            retention: None,
        };
        let apply = |options: &[(&str, &str)]| {
            let new = config(options);
            let plan = new
                .listeners
                .iter()
                .map(|it| (it.address.clone(), new.policy(it)));
            let plan = plan.collect();
            apply(&live, &new, plan, &config::diff(&old, &new))
        };
        let failed = apply(&[("framing", "lines"), ("log", "debug")]);
        assert_eq!(failed, Err("nothing is logged".to_owned()));
        assert!(!receiver.has_changed().unwrap());
        assert_eq!(apply(&[("framing", "lines")]), Ok(None));
        assert_eq!(receiver.borrow().framing.to_string(), "lines");
    }
}
