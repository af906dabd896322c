//! The program: [`main`] parses the command line, runs a command, and returns its exit code.

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::commands;
use crate::error::CommandError;
use crate::escape::printable;
use crate::service::log::{self, print_error};

/// Runs `blocksd` with the arguments of this process. It sets up the log and takes over signals, so a process calls it
/// once.
#[must_use]
pub fn main() -> ExitCode {
    let code = command().unwrap_or_else(|failure| {
        if !matches!(failure, CommandError::BrokenPipe) {
            print(&failure);
        }
        failure.exit_code()
    });
    log::finish();
    code
}

/// Prints an error on one line, or each mistake of a configuration on its own.
fn print(failure: &CommandError) {
    let text = failure.to_string();
    let lines = match failure {
        CommandError::Config(_) => text.split('\n').collect(),
        _ => vec![&*text],
    };
    for line in lines {
        print_error(format_args!("blocksd: {}", printable(line)));
    }
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
