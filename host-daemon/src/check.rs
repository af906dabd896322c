//! `blocksd check-config`: what a config file says, and whether it can be done; without doing it.

use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::path::Path;

use crate::batch::TooLong;
use crate::cli::Serve;
use crate::connection::Policy;
use crate::failure::Failure;
use crate::listener;

/// Prints what `serve` would do with these options: a line for each listener, and `ok`.
///
/// # Errors
/// As `serve` would refuse them, but for what only the attempt shows: that an address is taken, or a disk full.
pub fn check(serve: &Serve) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for (address, policy) in policies(serve)? {
        listener::check(&address).map_err(|error| unusable(&address, error))?;
        lines.push(format!("listen on {address} {}", told(&policy)));
    }
    if let Some(address) = &serve.metrics {
        resolve(address)?;
        lines.push(format!("metrics on {address}"));
    }
    if let Some(folder) = &serve.record.record {
        writable(folder)?;
        lines.push(format!("record to {}", folder.display()));
    }
    lines.push("ok".to_owned());
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}").map_err(Failure::stdout)?;
    }
    Ok(())
}

/// The addresses to listen on and how their connections are treated, if that can be done at all.
///
/// # Errors
/// [`Failure::Conflict`], [`Failure::File`], [`Failure::Refused`].
pub fn policies(serve: &Serve) -> Result<Vec<(String, Policy)>, Failure> {
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

fn resolve(address: &str) -> Result<(), Failure> {
    let resolved = address.to_socket_addrs().map(drop);
    resolved.map_err(|error| unusable(address, error))
}

fn unusable(address: &str, error: io::Error) -> Failure {
    Failure::Listen {
        address: address.to_owned(),
        error,
    }
}

/// Whether a folder can be written to, or made; a file without a name is written for that, where it would be.
fn writable(folder: &Path) -> Result<(), Failure> {
    let there = folder.ancestors().find(|folder| folder.exists());
    // Of a relative path that is not there, all is to be made where we are.
    let there = there.unwrap_or_else(|| Path::new("."));
    let tried = tempfile::tempfile_in(there).map(drop);
    tried.map_err(|error| Failure::Write {
        path: folder.to_owned(),
        error,
    })
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
