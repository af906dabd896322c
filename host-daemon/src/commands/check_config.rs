//! `blocksd check-config`: what a config file says, and whether it can be done; without doing it.

use std::io::{self, Write};

use crate::cli::{Record, Serve, UNFINISHED_MESSAGES};
use crate::engine::batch::TooLong;
use crate::engine::connection::Policy;
use crate::engine::listen::claims::Claims;
use crate::engine::listen::listener::{self, Address, AddressError};
use crate::engine::listen::path::made_for;
use crate::error::Failure;
use blocksd_recording::{Lock, Retention};

/// Addresses to listen on, and how the connections of each are treated.
pub type Plan = Vec<(String, Policy)>;

/// Prints what `serve` would do with these options: a line for each listener, and `ok`.
///
/// # Errors
/// As `serve` would refuse them, but for what only opening a port or writing shows: that an address is taken or not
/// there, or that a disk is full. That a daemon records to the folder now is printed, and is not an error.
pub fn check(serve: &Serve) -> Result<(), Failure> {
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
        listener::check(&address, &made).map_err(|error| Failure::Listen {
            address: address.clone(),
            error,
        })?;
        lines.push(format!("listen on {address} {}", told(&policy)));
    }
    if let Some(address) = &serve.metrics {
        lines.push(format!("metrics on {address}"));
    }
    if let Some(folder) = &serve.record.record {
        let in_use = if Lock::is_taken(folder) {
            " (a daemon is recording to it now)"
        } else {
            ""
        };
        lines.push(format!("record to {}{in_use}", folder.display()));
    }
    lines.push("ok".to_owned());
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}").map_err(Failure::stdout)?;
    }
    Ok(())
}

/// The addresses to listen on, in the order to open them, and how their connections are treated. What can be known
/// before anything is opened is checked here, for `serve`, its reload and `check-config` alike. Resolves names.
///
/// # Errors
/// [`Failure::Conflict`], [`Failure::OutOfBounds`], [`Failure::Duplicate`], [`Failure::File`], [`Failure::Refused`], [`Failure::Listen`].
pub fn plan(serve: &Serve) -> Result<Plan, Failure> {
    let mut policies = policies(serve)?;
    check_bounds(serve, &policies)?;
    let mut claims = Claims::default();
    if let Some(address) = &serve.metrics {
        claims.network(address)?;
    }
    if let Some(folder) = &serve.record.record {
        claims.recording(folder, Lock::FILE_NAME)?;
    }
    for (text, _) in &policies {
        let address: Address = text.parse().map_err(|error: AddressError| {
            let error = io::Error::new(io::ErrorKind::InvalidInput, error);
            let address = text.clone();
            Failure::Listen { address, error }
        })?;
        claims.claim(&address, text)?;
    }
    // Sockets that are passed without being asked for by name are those that are left.
    policies.sort_by_key(|(address, _)| address == "systemd");
    Ok(policies)
}

/// The addresses to listen on and how their connections are treated, if that can be done at all.
fn policies(serve: &Serve) -> Result<Plan, Failure> {
    let policies = serve.listen.iter().map(|listen| {
        let policy = serve.policy(listen);
        if let Some(reply) = &policy.reply {
            reply.check(policy.framing, policy.stop_at.too_long)?;
            if listen.address == "-" {
                // There is nobody to answer.
                return Err(Failure::Conflict {
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
fn check_bounds(serve: &Serve, policies: &Plan) -> Result<(), Failure> {
    let refuse = |option, given, bound| {
        Err(Failure::OutOfBounds {
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
    let oversize = match policy.stop_at.too_long {
        TooLong::Skip => "skip",
        TooLong::Close => "close",
        TooLong::Pieces => "pieces",
    };
    let after_end = if policy.stop_at.end {
        "close"
    } else {
        "continue"
    };
    format!(
        "framing={} decode={} max-block={} oversize={oversize} after-end={after_end}",
        policy.framing,
        policy.decoding.as_str(),
        policy.limits.block_max,
    )
}
