//! SIGHUP: reads the configuration again, and applies what can be changed while the daemon runs. Start with [`Reloader`].

use std::ffi::OsString;
use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::cli::{Cli, Command, Listen, Options, Record, Serve};
use crate::commands::check_config::{self, Plan};
use crate::config::{self, Parsed, Wrong};
use crate::engine::connection::Policy;
use crate::engine::permit::Connections;
use crate::service::log;
use crate::service::systemd;
use blocksd_recording::Retention;

/// The running configuration and how to apply a new one.
#[derive(Debug)]
pub struct Reloader {
    /// The command line. It names the file and overrides it.
    command_line: Vec<OsString>,
    /// What the daemon was started with.
    serve: Arc<Serve>,
    live: Live,
    running: Vec<Setting>,
    /// The options that each listener has of its own, in the order of the policies.
    listeners: Vec<String>,
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

/// An option and its value, to be compared with what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    value: String,
}

/// Changed options, and what became of each. One line of the log for each.
#[derive(Debug, Default)]
struct Outcome {
    applied: Vec<String>,
    need_restart: Vec<String>,
    overruled: Vec<String>,
}

impl Reloader {
    /// Of a daemon that was started with this command line, which came to these options.
    #[must_use]
    pub fn new(command_line: Vec<OsString>, serve: Arc<Serve>, live: Live) -> Self {
        let running = settings(&serve);
        let listeners = serve.listen.iter().map(Listen::own).collect();
        Self {
            command_line,
            serve,
            live,
            running,
            listeners,
        }
    }

    /// Reloads at each notification, until the runtime ends. A configuration that is refused changes nothing.
    pub async fn run(mut self, hangup: Arc<Notify>) {
        loop {
            hangup.notified().await;
            let Some(path) = &self.serve.config else {
                info!("SIGHUP: there is nothing to reload without --config FILE");
                continue;
            };
            let (file, path) = (path.clone(), path.display().to_string());
            systemd::reloading();
            let command_line = self.command_line.clone();
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
            let refused = match read {
                Ok(Ok((serve, plan, overridden))) => {
                    let outcome = self.apply(&serve, plan, overridden);
                    log_outcome(&path, &outcome);
                    systemd::reloaded("configuration reloaded");
                    continue;
                }
                Ok(Err(refused)) => refused,
                Err(panic) => panic.to_string(),
            };
            error!("SIGHUP: configuration refused, the old one stays: {refused}");
            systemd::reloaded("configuration refused; the old one stays");
        }
    }

    fn apply(&mut self, serve: &Serve, plan: Plan, overridden: Vec<String>) -> Outcome {
        let mut outcome = Outcome {
            overruled: overridden
                .into_iter()
                .map(|name| format!("{name}: the command line overrides the file"))
                .collect(),
            ..Outcome::default()
        };
        // Before the policies: a longer message that is taken has its memory.
        let bounds = serve.bounds(plan.iter().map(|(_, policy)| policy));
        self.live.connections.set_bounds(&bounds);
        self.apply_listeners(serve, plan, &mut outcome);
        let mut running = std::mem::take(&mut self.running);
        for (old, new) in running.iter_mut().zip(settings(serve)) {
            if old.value == new.value {
                continue;
            }
            let name = new.name;
            match self.apply_one(name, serve) {
                Effect::Applied(to) => {
                    outcome.applied.push(format!("{name}: applied to {to}"));
                    *old = new;
                }
                Effect::NeedsRestart => outcome
                    .need_restart
                    .push(format!("{name}: changed, needs a restart")),
                Effect::Overruled(by) => outcome.overruled.push(format!("{name}: {by}")),
            }
        }
        self.running = running;
        outcome
    }

    /// Gives each open listener its new policy, by the address.
    fn apply_listeners(&mut self, serve: &Serve, plan: Plan, outcome: &mut Outcome) {
        let open = self.live.policies.iter().zip(&mut self.listeners);
        let mut left: Vec<_> = open.collect();
        for ((address, policy), listen) in plan.into_iter().zip(&serve.listen) {
            // Of an address that is given twice, such as one with port 0, the first to the first.
            let at = left.iter().position(|((other, _), _)| *other == address);
            let Some(((_, running), own)) = at.map(|at| left.remove(at)) else {
                outcome
                    .need_restart
                    .push(format!("listener {address}: added, needs a restart"));
                continue;
            };
            running.send_replace(Arc::new(policy));
            if *own != listen.own() {
                *own = listen.own();
                outcome.applied.push(format!(
                    "listener {address}: its options applied to {NEW_CONNECTIONS}"
                ));
            }
        }
        for ((address, _), _) in left {
            outcome.need_restart.push(format!(
                "listener {address}: removed, needs a restart; until then it stays open with its old options"
            ));
        }
    }

    fn apply_one(&self, name: &str, serve: &Serve) -> Effect {
        match name {
            _ if OF_POLICIES.contains(&name) || OF_BOUNDS.contains(&name) => {
                Effect::Applied(NEW_CONNECTIONS)
            }
            "record-max-bytes" => match &self.live.retention {
                Some(retention) => {
                    retention.set(serve.record.record_max_bytes);
                    Effect::Applied("the next write")
                }
                None => Effect::NeedsRestart,
            },
            "log" => match log::change(&serve.log) {
                Ok(log::Change::Applied) => Effect::Applied("the lines from now on"),
                Ok(log::Change::Overruled) => {
                    Effect::Overruled(format!("{} is set and overrides `log`", log::VARIABLE))
                }
                Err(error) => Effect::Overruled(error),
            },
            _ => Effect::NeedsRestart,
        }
    }
}

/// What became of an option that has changed.
#[derive(Debug)]
enum Effect {
    /// To what it is applied.
    Applied(&'static str),
    NeedsRestart,
    /// Why it is not used.
    Overruled(String),
}

const NEW_CONNECTIONS: &str = "new connections";

/// Options that are in the policy of a listener.
const OF_POLICIES: [&str; 12] = [
    "framing",
    "decode",
    "max-block",
    "max-skip",
    "oversize",
    "after-end",
    "first-byte-timeout",
    "idle-timeout",
    "header-timeout",
    "block-timeout",
    "reply",
    "reply-timeout",
];

/// Options that are in the bounds of all connections.
const OF_BOUNDS: [&str; 3] = [
    "max-connections",
    "max-connections-per-device",
    "max-unfinished",
];

/// The new options, and the names of those that the command line overrides.
fn read(command_line: Vec<OsString>) -> Result<(Box<Serve>, Plan, Vec<String>), String> {
    let (serve, overridden) = match config::parse_both(command_line) {
        Ok(Parsed {
            cli: Cli {
                command: Command::Serve(serve),
            },
            overridden,
        }) => (serve, overridden),
        Ok(_) => return Err("the command line has changed".to_owned()),
        Err(Wrong::Usage(error)) => return Err(config::one_line(&error)),
        Err(Wrong::Config(error)) => return Err(error.to_string()),
    };
    let plan = check_config::plan(&serve).map_err(|failure| failure.to_string())?;
    Ok((serve, plan, overridden))
}

fn log_outcome(path: &str, outcome: &Outcome) {
    let Outcome {
        applied,
        need_restart,
        overruled,
    } = outcome;
    for line in applied {
        info!("SIGHUP: {line}");
    }
    for line in need_restart.iter().chain(overruled) {
        warn!("SIGHUP: {line}");
    }
    info!(
        "SIGHUP: {path} was read again: {} applied, {} need a restart, {} overridden",
        applied.len(),
        need_restart.len(),
        overruled.len()
    );
}

/// All options but the listeners, in an order that is always the same.
fn settings(serve: &Serve) -> Vec<Setting> {
    // No `..`: an option that is added must be named here.
    let Serve {
        config: _,
        listen: _,
        options,
        max_connections,
        max_connections_per_device,
        max_unfinished,
        device_by,
        first_byte_timeout,
        idle_timeout,
        header_timeout,
        block_timeout,
        keepalive,
        receive_buffer,
        output,
        record,
        once,
        run_for,
        log,
        metrics,
        reply,
        reply_timeout,
        reply_max_bytes,
        reply_max_total_bytes,
    } = serve;
    let Options {
        framing,
        decode,
        max_block,
        max_skip,
        oversize,
        after_end,
    } = options;
    let Record {
        record,
        record_compression,
        record_rotate_bytes,
        record_rotate_seconds,
        record_sync_ms,
        record_max_bytes,
    } = record;
    let setting = |name, value: &dyn Debug| Setting {
        name,
        value: format!("{value:?}"),
    };
    vec![
        setting("framing", framing),
        setting("decode", decode),
        setting("max-block", max_block),
        setting("max-skip", max_skip),
        setting("oversize", oversize),
        setting("after-end", after_end),
        setting("max-connections", max_connections),
        setting("max-connections-per-device", max_connections_per_device),
        setting("max-unfinished", max_unfinished),
        setting("device-by", device_by),
        setting("first-byte-timeout", first_byte_timeout),
        setting("idle-timeout", idle_timeout),
        setting("header-timeout", header_timeout),
        setting("block-timeout", block_timeout),
        setting("keepalive", keepalive),
        setting("receive-buffer", receive_buffer),
        setting("output", output),
        setting("record", record),
        setting("record-compression", record_compression),
        setting("record-rotate-bytes", record_rotate_bytes),
        setting("record-rotate-seconds", record_rotate_seconds),
        setting("record-sync-ms", record_sync_ms),
        setting("record-max-bytes", record_max_bytes),
        setting("once", once),
        setting("for", run_for),
        setting("log", log),
        setting("metrics", metrics),
        setting("reply", reply),
        setting("reply-timeout", reply_timeout),
        setting("reply-max-bytes", reply_max_bytes),
        setting("reply-max-total-bytes", reply_max_total_bytes),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args as _, Command, Parser as _};

    use super::*;

    fn serve(words: &[&str]) -> Serve {
        let words = ["blocksd", "serve"].iter().chain(words);
        match Cli::parse_from(words).command {
            super::Command::Serve(serve) => *serve,
            _ => unreachable!("it says serve"),
        }
    }

    #[test]
    fn every_option_is_compared_by_its_name() {
        let command = Serve::augment_args(Command::new("serve"));
        let options = command.get_arguments();
        let mut options: BTreeSet<_> = options.filter_map(|it| it.get_long()).collect();
        options.remove("config");
        // Compared one by one.
        options.remove("listen");
        let compared: BTreeSet<_> = settings(&serve(&[])).iter().map(|it| it.name).collect();
        assert_eq!(compared, options);
        assert!(OF_POLICIES.iter().all(|name| options.contains(name)));
    }

    #[test]
    fn an_option_that_differs_is_found() {
        let old = settings(&serve(&[]));
        for (words, name) in [
            (&["--for", "1m"][..], "for"),
            (&["--framing", "lines"], "framing"),
            (&["--reply", "echo"], "reply"),
        ] {
            let new = settings(&serve(words));
            let changed = old.iter().zip(&new).filter(|(old, new)| old != new);
            let changed: Vec<_> = changed.map(|(old, _)| old.name).collect();
            assert_eq!(changed, [name]);
        }
    }
}
