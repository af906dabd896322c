//! `blocksd check-config`: what a config file says, and whether it can be done; without doing it.

use std::io::{self, Write};

use crate::cli::{Record, Serve, UNFINISHED_MESSAGES};
use crate::error::CommandError;
use blocksd_engine::batch::OversizePolicy;
use blocksd_engine::connection::policy::Policy;
use blocksd_engine::listen::address::{Address, AddressError};
use blocksd_engine::listen::claims::Claims;
use blocksd_engine::listen::listener;
use blocksd_engine::listen::path::made_for;
use blocksd_recording::format::filename::LOCK;
use blocksd_recording::lock::{Lock, is_locked};
use blocksd_recording::write::retention::Retention;

/// Addresses to listen on, and how the connections of each are treated.
pub type Plan = Vec<(String, Policy)>;

/// Prints what `serve` would do with these options: a line for each listener, and `ok`.
///
/// # Errors
/// As `serve` would refuse them, but for what only opening a port or writing shows: that an address is taken or not
/// there, or that a disk is full. That a daemon records to the folder now is printed, and is not an error.
pub fn check(serve: &Serve) -> Result<(), CommandError> {
    let mut lines = Vec::new();
    let plan = plan(serve)?;
    // In the order of `serve`: the recording makes its folder before listeners are opened.
    let made = match &serve.record.record {
        Some(folder) => {
            Lock::check(folder)?;
            made_for(folder)
        }
        None => Vec::new(),
    };
    for (address, policy) in plan {
        listener::check(&address, &made).map_err(|error| CommandError::Listen {
            address: address.clone(),
            error,
        })?;
        lines.push(format!("listen on {address} {}", told(&policy)));
    }
    if let Some(address) = &serve.metrics {
        lines.push(format!("metrics on {address}"));
    }
    if let Some(folder) = &serve.record.record {
        let in_use = if is_locked(folder) {
            " (a daemon is recording to it now)"
        } else {
            ""
        };
        lines.push(format!("record to {}{in_use}", folder.display()));
    }
    lines.push("ok".to_owned());
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}").map_err(CommandError::stdout)?;
    }
    Ok(())
}

/// The addresses to listen on, in the order to open them, and how their connections are treated. What can be known
/// before anything is opened is checked here, for `serve`, its reload and `check-config` alike. Resolves names.
///
/// # Errors
/// [`CommandError::Conflict`], [`CommandError::OutOfBounds`], [`CommandError::Duplicate`],
/// [`CommandError::File`], [`CommandError::Refused`], [`CommandError::Listen`].
pub fn plan(serve: &Serve) -> Result<Plan, CommandError> {
    let mut policies = policies(serve)?;
    check_bounds(serve, &policies)?;
    let mut claims = Claims::default();
    if let Some(address) = &serve.metrics {
        claims.network(address)?;
    }
    if let Some(folder) = &serve.record.record {
        let text = format!("--record {}", folder.display());
        claims.folder(folder, LOCK, &text)?;
    }
    for (text, _) in &policies {
        let address: Address = text.parse().map_err(|error: AddressError| {
            let error = io::Error::new(io::ErrorKind::InvalidInput, error);
            let address = text.clone();
            CommandError::Listen { address, error }
        })?;
        claims.claim(&address, text)?;
    }
    // Sockets that are passed without being asked for by name are those that are left.
    policies.sort_by_key(|(address, _)| address == "systemd");
    Ok(policies)
}

/// The addresses to listen on and how their connections are treated, if that can be done at all.
fn policies(serve: &Serve) -> Result<Plan, CommandError> {
    let policies = serve.listen.iter().map(|listen| {
        let policy = serve.policy(listen);
        if let Some(reply) = &policy.reply {
            reply.check(policy.framing, policy.close.oversize)?;
            if listen.address == "-" {
                // There is nobody to answer.
                return Err(CommandError::Conflict {
                    one: "--reply",
                    other: "--listen -",
                });
            }
        }
        Ok((listen.address.clone(), policy))
    });
    policies.collect()
}

/// Checks options whose bounds depend on others. A value that is given is used as it is, or refused.
fn check_bounds(serve: &Serve, policies: &Plan) -> Result<(), CommandError> {
    let refuse = |option, given, bound| {
        Err(CommandError::OutOfBounds {
            option,
            given,
            bound,
        })
    };
    let longest = serve
        .bounds(policies.iter().map(|(_, policy)| policy))
        .longest;
    let least = UNFINISHED_MESSAGES * longest;
    if let Some(given) = serve.max_unfinished.filter(|given| *given < least) {
        let bound = format!(
            "must be at least {least}, {UNFINISHED_MESSAGES} times the largest --max-block ({longest})"
        );
        return refuse("--max-unfinished", given, bound);
    }
    let Record {
        record_rotate_bytes,
        record_max_bytes,
        ..
    } = serve.record;
    if let (Some(given), Some(max)) = (record_rotate_bytes, record_max_bytes) {
        let most = Retention::file_max_of(max);
        if most < given {
            let bound = format!("must be at most {most}, a quarter of --record-max-bytes ({max})");
            return refuse("--record-rotate-bytes", given, bound);
        }
    }
    Ok(())
}

fn told(policy: &Policy) -> String {
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
