//! Measures the recorder by itself. `tests/recorder` builds and runs it.
//!
//! `speed`: processor time of the recorder's thread for a message, beside the system calls that it cannot do without. `size`:
//! bytes a day on disk. `slow-disk`: how old a received message can be that `kill -9` takes; this one needs a C compiler, and the
//! daemon beside this program. `fold`: time of a start that folds the sessions of a torn file. `--help` lists the options.

mod fleet;
mod fold;
mod size;
mod slow_disk;
mod speed;
mod storage;

use std::io;
use std::process::ExitCode;

use blocksd_tests::scratch::ScratchArgs;
use clap::{Parser, Subcommand};

/// Measures the recorder.
#[derive(Debug, Parser)]
#[command(name = "tests/recorder")]
struct Cli {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    scratch: ScratchArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Processor time of the recorder's thread for a message, with each compression
    Speed(speed::Arguments),
    /// Bytes a day on disk, while the file is open and after it is sealed, with each compression
    Size(size::Arguments),
    /// Age of the oldest received message that is not in the system's hands, beside a disk with slow syncs
    SlowDisk(slow_disk::Arguments),
    /// Time of a start that folds the sessions of a torn file
    Fold(fold::Arguments),
}

fn main() -> ExitCode {
    match measure(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recorder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(cli: &Cli) -> io::Result<()> {
    let scratch = cli.scratch.make("recorder-")?;
    match &cli.what {
        What::Speed(arguments) => speed::measure(scratch.path(), arguments),
        What::Size(arguments) => size::measure(scratch.path(), arguments),
        What::SlowDisk(arguments) => slow_disk::measure(scratch.path(), arguments),
        What::Fold(arguments) => fold::measure(scratch.path(), arguments),
    }
}
