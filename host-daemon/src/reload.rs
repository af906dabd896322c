//! SIGHUP: reads the configuration again, and applies what can be changed while the daemon runs. Start with
//! [`Reloader`].

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use blocksd_engine::listen::address::Address;
use blocksd_engine::{EngineHandle, Error, ListenerSpec, Settings};
use blocksd_recording::Retention;
use clap::Parser as _;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info, warn};

use crate::cli::{self, Cli, Command};
use crate::commands::check_config;
use crate::config::{self, Config, Diff, OPTIONS, Reload, Spec};
use crate::recorded::lifecycle::Lifecycle;
use crate::recorded::time::Time;
use crate::serve::report_listening;
use crate::serve::tls::TlsServers;
use crate::service::log::{self, NewLevel};
use crate::service::systemd;

/// The running configuration, and the parts of the daemon to which a new one is applied.
#[derive(Debug)]
pub struct Reloader {
    /// The command line. It names the file and overrides it.
    command_line: Vec<OsString>,
    /// The configuration in effect.
    running: Config,
    live: Live,
}

/// The parts of a running daemon that can be changed.
#[derive(Debug)]
pub struct Live {
    /// The engine: its listeners, their policies, the devices, and the bounds of all connections.
    pub engine: EngineHandle,
    /// The limits on the space of the recording, if there is one.
    pub retention: Option<Arc<Retention>>,
    /// The recording's queue of events of the daemon, if there is a recording.
    pub lifecycle: Option<UnboundedSender<Lifecycle<'static>>>,
    /// The servers with TLS.
    pub(crate) tls: Arc<TlsServers>,
}

/// Changed options and the effect of each, as lines for the log.
#[derive(Debug, Default)]
struct Outcome {
    applied: Vec<String>,
    need_restart: Vec<String>,
    overridden: Vec<String>,
}

impl Reloader {
    /// Creates the reloader of a daemon that was started with this command line and has this configuration.
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
            // The service manager waits for both notifications, whether or not there is something to reload.
            systemd::reloading();
            let Some(file) = self.running.file.clone() else {
                if self.live.tls.is_empty() {
                    info!("SIGHUP: there is nothing to reload without --config FILE");
                    systemd::reloaded("nothing to reload without --config");
                } else {
                    info!("SIGHUP: without --config FILE, only the files of TLS are read again");
                    self.renew_tls().await;
                    systemd::reloaded("files of TLS reloaded");
                }
                continue;
            };
            let command_line = self.command_line.clone();
            let path = file.display().to_string();
            // Reads files, and resolves names.
            let read = tokio::task::spawn_blocking(move || {
                // A pipe that the configuration was read from at the start may block now.
                match std::fs::metadata(&file) {
                    Ok(kind) if !kind.is_file() => {
                        Err(format!("{}: not a regular file", file.display()))
                    }
                    _ => read(command_line),
                }
            })
            .await;
            let read = read.unwrap_or_else(|panic| Err(panic.to_string()));
            let reloaded = match read {
                Ok(read) => self.reload(read).await,
                Err(refused) => Err(refused),
            };
            match reloaded {
                Ok(outcome) => {
                    self.renew_others().await;
                    log_outcome(&path, &outcome);
                    systemd::reloaded("configuration reloaded");
                }
                Err(refused) => {
                    log_refused(&refused);
                    self.renew_tls().await;
                    systemd::reloaded("configuration refused; the old one stays in effect");
                }
            }
        }
    }

    /// Reads the files of TLS again. They are their own, and a refused configuration does not keep them out.
    async fn renew_tls(&self) {
        let (servers, engine) = (Arc::clone(&self.live.tls), self.live.engine.clone());
        // A panic is reported by its thread.
        let _ = tokio::task::spawn_blocking(move || servers.renew(true, &engine)).await;
    }

    /// Reads the files of TLS again that a new configuration has not read.
    async fn renew_others(&self) {
        let (servers, engine) = (Arc::clone(&self.live.tls), self.live.engine.clone());
        // A panic is reported by its thread.
        let _ = tokio::task::spawn_blocking(move || servers.renew_others(&engine)).await;
    }

    /// Applies everything that can be changed, or nothing.
    async fn reload(
        &mut self,
        (mut new, plan, warnings): (Config, Vec<ListenerSpec>, Vec<String>),
    ) -> Result<Outcome, String> {
        let diff = config::diff(&self.running, &new);
        let level_is_overridden = apply(&self.live, &new, plan, &diff).await?;
        let outcome = outcome(&new, &diff, level_is_overridden);
        for warning in warnings {
            warn!("SIGHUP: {warning}");
        }
        // An option that was not applied keeps its old value, so the next reload reports it again.
        let level = diff.log.filter(|_| level_is_overridden);
        let restart = OPTIONS.iter().filter(|it| it.reload == Reload::Restart);
        for spec in restart.chain(diff.restart.iter().copied()).chain(level) {
            spec.keep(&mut new, &self.running);
        }
        self.running = new;
        if let Some(lifecycle) = &self.live.lifecycle {
            // A recording that has failed takes no more events.
            let _ = lifecycle.send(Lifecycle::Reloaded {
                time: Time(SystemTime::now()),
                config: config::digest(&self.running).into(),
            });
        }
        Ok(outcome)
    }
}

/// Applies a configuration to a running daemon: completely, or not at all if it returns an error. Returns whether
/// `RUST_LOG` overrides a new log level.
///
/// This is the only function of the module that changes the daemon.
async fn apply(
    live: &Live,
    new: &Config,
    mut plan: Vec<ListenerSpec>,
    diff: &Diff,
) -> Result<bool, String> {
    let servers = live.tls.adopt(&mut plan);
    let level = diff.log.map(|_| log::prepare(&new.log)).transpose()?;
    let settings = Settings {
        listeners: plan,
        bounds: new.bounds(),
        devices: new.device_table(),
    };
    let applied = live.engine.apply(settings).await;
    let applied = applied.map_err(|error| {
        let is_taken = matches!(&error, Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse);
        let refused = check_config::with_line(new, error.into()).to_string();
        if is_taken {
            format!("{refused}; if another listener of this daemon uses it, remove that one first, with a reload of its own")
        } else {
            refused
        }
    })?;
    // Nothing can fail from here on.
    live.tls.commit(servers, &live.engine);
    report_listening(&applied.added, new);
    if let Some(retention) = &live.retention {
        retention.set(new.record_max_bytes);
        retention.set_min_free(new.record_min_free);
    }
    live.engine.devices().set_max_gone(new.max_gone_devices);
    if let Some(sessions) = live.engine.sessions() {
        sessions.set_max(new.max_sessions);
        sessions.set_room(new.sessions_with_room());
    }
    let is_overridden = level.as_ref().is_some_and(NewLevel::is_overridden);
    if let Some(level) = level {
        level.apply();
    }
    Ok(is_overridden)
}

/// Reads the command line and the file again. Returns the configuration with its listeners and warnings.
fn read(command_line: Vec<OsString>) -> Result<(Config, Vec<ListenerSpec>, Vec<String>), String> {
    let cli = Cli::try_parse_from(command_line).map_err(|error| cli::one_line(&error))?;
    let Command::Serve(serve) = cli.command else {
        return Err("the command line has changed".to_owned());
    };
    let config = check_config::load(serve.config.as_deref(), serve.options.0);
    let config = config.map_err(|error| error.to_string())?;
    let plan = check_config::plan(&config).map_err(|failure| failure.to_string())?;
    let warnings = config.warnings();
    Ok((config, plan, warnings))
}

/// Maximum number of devices that are logged one by one.
const DEVICES_MAX: usize = 20;
const NEW_CONNECTIONS: &str = "new connections";

/// Describes the effect of each difference.
fn outcome(new: &Config, diff: &Diff, level_is_overridden: bool) -> Outcome {
    let mut outcome = Outcome::default();
    for key in &new.overridden {
        let line = format!("{key}: the command line overrides the file");
        outcome.overridden.push(line);
    }
    for listener in &diff.added {
        outcome
            .applied
            .push(format!("listener {}: added", listener.address));
    }
    for address in &diff.changed {
        let line = format!("listener {address}: its options applied to {NEW_CONNECTIONS}");
        outcome.applied.push(line);
    }
    for listener in &diff.removed {
        let connections = match listener.address.parse() {
            Ok(Address::Serial(_)) => "the line is closed",
            _ => "its connections stay open",
        };
        let line = format!("listener {}: removed; {connections}", listener.address);
        outcome.applied.push(line);
    }
    for (devices, effect) in [
        (&diff.devices, "applied to new connections"),
        (&diff.removed_devices, "removed; its connections stay open"),
    ] {
        match devices.len() {
            0..=DEVICES_MAX => {
                let lines = devices
                    .iter()
                    .map(|name| format!("device {name}: {effect}"));
                outcome.applied.extend(lines);
            }
            count => outcome.applied.push(format!("{count} devices: {effect}")),
        }
    }
    let mut applied = |spec: &Spec, to| {
        outcome
            .applied
            .push(format!("{}: applied to {to}", spec.key));
    };
    for spec in diff.policies.iter().chain(&diff.bounds) {
        applied(spec, NEW_CONNECTIONS);
    }
    for spec in &diff.retention {
        applied(spec, "the next write");
    }
    match diff.log {
        Some(spec) if level_is_overridden => outcome.overridden.push(format!(
            "{}: {} is set and overrides `log`",
            spec.key,
            log::VARIABLE
        )),
        Some(spec) => applied(spec, "new lines"),
        None => {}
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

/// Logs a line for each mistake. The last line reports that the old configuration stays in effect.
fn log_refused(refused: &str) {
    let mut lines: Vec<_> = refused.lines().collect();
    let last = lines.pop().unwrap_or_default();
    for line in lines {
        error!("SIGHUP: {line}");
    }
    error!("SIGHUP: configuration refused, the old one stays in effect: {last}");
}

#[cfg(test)]
mod tests {
    use blocksd_engine::Engine;

    use super::*;
    use crate::config::{Partial, ValueOrigin, Written};

    fn config(options: &[(&str, &str)]) -> Config {
        let mut partial = Partial::default();
        for (key, text) in options {
            let spec = OPTIONS.iter().find(|spec| spec.key == *key).unwrap();
            let (key, origin) = (spec.key, ValueOrigin::CommandLine);
            spec.set(&mut partial, Written { text, origin, key })
                .unwrap();
        }
        config::load(None, partial).unwrap()
    }

    /// The log is not started in this test, so its level cannot be changed.
    #[tokio::test]
    async fn if_one_part_fails_nothing_is_applied() {
        if std::env::var_os(log::VARIABLE).is_some() {
            // The level would be overridden, which is not a failure.
            return;
        }
        let listen = ("listen", "127.0.0.1:0");
        let old = config(&[listen]);
        let mut engine = Engine::builder().build();
        engine
            .listen(check_config::plan(&old).unwrap())
            .await
            .unwrap();
        let live = Live {
            engine: engine.handle().clone(),
            retention: None,
            lifecycle: None,
            tls: Arc::default(),
        };
        let apply = async |options: &[(&str, &str)]| {
            let new = config(options);
            let plan = check_config::plan(&new).unwrap();
            apply(&live, &new, plan, &config::diff(&old, &new)).await
        };
        let framing = || live.engine.listening()[0].framing.to_string();
        let failed = apply(&[listen, ("framing", "lines"), ("log", "debug")]).await;
        assert_eq!(failed, Err("the log is not started".to_owned()));
        assert_eq!(framing(), "blocks");
        let taken = live.engine.listening()[0].name.to_string();
        let failed = apply(&[listen, ("listen", &taken), ("framing", "lines")]).await;
        assert!(failed.is_err_and(|error| error.contains(&taken)));
        assert_eq!(framing(), "blocks");
        assert_eq!(apply(&[listen, ("framing", "lines")]).await, Ok(false));
        assert_eq!(framing(), "lines");
    }
}
