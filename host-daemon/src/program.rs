//! The program: [`main`] parses the command line, runs a command, and returns its exit code.

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::commands;
use crate::error::CommandError;
use crate::output::printable;
use crate::service::log::{self, print_error};

/// Runs `blocksd` with the arguments of this process. It sets up the log and takes over signals, so a process calls it
/// once.
#[must_use]
pub fn main() -> ExitCode {
    let code = command().unwrap_or_else(|failure| {
        if !matches!(failure, CommandError::BrokenPipe) {
            // A configuration may have several mistakes.
            for line in failure.to_string().lines() {
                print_error(format_args!("blocksd: {}", printable(line)));
            }
        }
        failure.exit_code()
    });
    log::finish();
    code
}

fn command() -> Result<ExitCode, CommandError> {
    log::start().map_err(CommandError::Start)?;
    let command_line: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&command_line) {
        Ok(cli) => cli,
        Err(error) => return commands::usage::report(&error),
    };
    commands::run(cli.command, command_line)?;
    Ok(ExitCode::SUCCESS)
}
