//! SIGHUP: reads the configuration again, and applies what can be changed while the daemon runs. Start with [`Reloader`].

use std::ffi::OsString;
use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::cli::{Cli, Command, Listen, Options, Record, Serve};
use crate::commands::check_config::{self, Plan};
use crate::config::{self, Wrong};
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
    /// What the daemon was started with.
    serve: Arc<Serve>,
    live: Live,
    running: Vec<Setting>,
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

/// Options by what became of their new values.
#[derive(Debug, Default)]
struct Outcome {
    applied: Vec<&'static str>,
    need_restart: Vec<&'static str>,
}

impl Reloader {
    /// Of a daemon that was started with this command line, which came to these options.
    #[must_use]
    pub fn new(command_line: Vec<OsString>, serve: Arc<Serve>, live: Live) -> Self {
        let running = settings(&serve);
        Self {
            command_line,
            serve,
            live,
            running,
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
                Ok(Ok((serve, plan))) => {
                    let outcome = self.apply(&serve, plan);
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

    fn apply(&mut self, serve: &Serve, plan: Plan) -> Outcome {
        // Before the policies: a longer message that is taken has its memory.
        let bounds = serve.bounds(plan.iter().map(|(_, policy)| policy));
        self.live.connections.set_bounds(&bounds);
        let mut left: Vec<_> = self.live.policies.iter().collect();
        for (address, policy) in plan {
            // Of an address that is given twice, such as one with port 0, the first to the first.
            if let Some(at) = left.iter().position(|(other, _)| *other == address) {
                left.remove(at).1.send_replace(Arc::new(policy));
            }
        }
        let mut outcome = Outcome::default();
        let mut running = std::mem::take(&mut self.running);
        for (old, new) in running.iter_mut().zip(settings(serve)) {
            if old.value == new.value {
                continue;
            }
            if self.apply_one(new.name, serve) {
                outcome.applied.push(new.name);
                *old = new;
            } else {
                outcome.need_restart.push(new.name);
            }
        }
        self.running = running;
        outcome
    }

    /// Whether an option that has changed has its new value now.
    fn apply_one(&self, name: &str, serve: &Serve) -> bool {
        match name {
            _ if OF_POLICIES.contains(&name) || OF_BOUNDS.contains(&name) => true,
            "record-max-bytes" => {
                let max_bytes = serve.record.record_max_bytes;
                let retention = self.live.retention.as_ref();
                retention.map(|it| it.set(max_bytes)).is_some()
            }
            "log" => log::change(&serve.log).is_ok(),
            _ => false,
        }
    }
}

/// Options that are in the policy of a listener.
const OF_POLICIES: [&str; 13] = [
    "options of a listener",
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

fn read(command_line: Vec<OsString>) -> Result<(Box<Serve>, Plan), String> {
    let serve = match config::parse(command_line) {
        Ok(Cli {
            command: Command::Serve(serve),
        }) => serve,
        Ok(_) => return Err("the command line has changed".to_owned()),
        Err(Wrong::Usage(error)) => return Err(config::one_line(&error)),
        Err(Wrong::Config(error)) => return Err(error.to_string()),
    };
    let plan = check_config::plan(&serve).map_err(|failure| failure.to_string())?;
    Ok((serve, plan))
}

fn log_outcome(path: &str, outcome: &Outcome) {
    let Outcome {
        applied,
        need_restart,
    } = outcome;
    let changed = if applied.is_empty() {
        "nothing that is applied has changed".to_owned()
    } else {
        format!("applied: {}", applied.join(", "))
    };
    info!("SIGHUP: {path} was read again; {changed}; new connections use it");
    if !need_restart.is_empty() {
        let names = need_restart.join(", ");
        warn!("SIGHUP: these have changed and need a restart: {names}");
    }
}

/// All options, in an order that is always the same.
fn settings(serve: &Serve) -> Vec<Setting> {
    // No `..`: an option that is added must be named here.
    let Serve {
        config: _,
        listen,
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
    let addresses: Vec<_> = listen.iter().map(|listen| &listen.address).collect();
    let own: Vec<_> = listen.iter().map(Listen::own).collect();
    let setting = |name, value: &dyn Debug| Setting {
        name,
        value: format!("{value:?}"),
    };
    vec![
        setting("listen", &addresses),
        setting("options of a listener", &own),
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
        let mut compared: BTreeSet<_> = settings(&serve(&[])).iter().map(|it| it.name).collect();
        assert!(compared.remove("options of a listener"));
        assert_eq!(compared, options);
        assert!(OF_POLICIES[1..].iter().all(|name| options.contains(name)));
    }

    #[test]
    fn an_option_that_differs_is_found() {
        let old = settings(&serve(&[]));
        for (words, name) in [
            (&["--for", "1m"][..], "for"),
            (&["--framing", "lines"], "framing"),
            (&["--listen", "[::1]:1060"], "listen"),
            (
                &["--listen", "127.0.0.1:1060,framing=lines"],
                "options of a listener",
            ),
            (&["--reply", "echo"], "reply"),
        ] {
            let new = settings(&serve(words));
            let changed = old.iter().zip(&new).filter(|(old, new)| old != new);
            let changed: Vec<_> = changed.map(|(old, _)| old.name).collect();
            assert_eq!(changed, [name]);
        }
    }
}
