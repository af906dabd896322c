//! Proves and measures acknowledged sessions: `cargo run --release -p blocksd-tests --example sessions -- WHAT`.
//! Build the daemon first: `cargo build --release`.
//!
//! `kill`: `kill -9` under load, again and again; nothing acknowledged is lost, and nothing is recorded twice. `full`: a full
//! disk. `fleet`: processor time, memory and the time until an acknowledgement, with 10,000 devices. `rate`: recorded messages a
//! second, with sessions and without. `fold`: the time of a start after a crash. `forward`: what a cluster of NATS takes. The short forms of `kill` and `full` are tests: `tests/it/sessions`.

mod daemon;
mod fleet;
mod fold;
mod forward;
mod full;
mod kill;
mod plain;
mod rate;

use blocksd_tests::scratch::ScratchArgs;
use clap::{Parser, Subcommand};

/// Proves and measures acknowledged sessions.
#[derive(Debug, Parser)]
#[command(name = "sessions")]
struct Cli {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    scratch: ScratchArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Kills the daemon again and again, and compares the sent messages with the recording
    Kill(kill::Arguments),
    /// Fills the disk for a while
    Full(full::Arguments),
    /// Many devices that send one message a second each, with sessions and without
    Fleet(fleet::Arguments),
    /// Time of a start after a crash
    Fold(fold::Arguments),
    /// Messages a second that a cluster takes, and the recorder with and without it
    Forward(forward::Arguments),
    /// Recorded messages a second, with sessions and without
    Rate(rate::Arguments),
}

fn main() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit of descriptors can be raised");
    let cli = Cli::parse();
    let scratch = cli.scratch.make("sessions-");
    let scratch = scratch.expect("a folder can be created");
    match &cli.what {
        What::Kill(arguments) => kill::prove(scratch.path(), arguments),
        What::Full(arguments) => full::prove(arguments),
        What::Fleet(arguments) => fleet::measure(scratch.path(), arguments),
        What::Fold(arguments) => fold::measure(scratch.path(), arguments),
        What::Forward(arguments) => forward::measure(scratch.path(), arguments),
        What::Rate(arguments) => rate::measure(scratch.path(), arguments),
    }
}
