//! `blocksd`: parses the command line, runs a command, and returns its exit code.

use std::process::ExitCode;

use blocksd::cli::Command;
use blocksd::commands;
use blocksd::config::{self, Wrong};
use blocksd::error::CommandError;
use blocksd::service::log::{self, print_status};

fn main() -> ExitCode {
    let code = command().unwrap_or_else(|failure| {
        if !matches!(failure, CommandError::BrokenPipe) {
            print_status(format_args!("blocksd: {failure}"));
        }
        failure.exit_code()
    });
    log::finish();
    code
}

fn command() -> Result<ExitCode, CommandError> {
    log::start().map_err(CommandError::Start)?;
    let command_line: Vec<_> = std::env::args_os().collect();
    let cli = match config::parse(command_line.clone()) {
        Ok(cli) => cli,
        Err(Wrong::Usage(error)) => return commands::usage::report(&error),
        Err(Wrong::Config(error)) => return Err(CommandError::Config(error)),
    };
    log::subscribe(match &cli.command {
        // The demonstration shows its faults by itself.
        Command::Demo(_) => "error",
        Command::Serve(arguments) => &arguments.log,
        _ => "info",
    });
    commands::run(cli.command, command_line)?;
    Ok(ExitCode::SUCCESS)
}
