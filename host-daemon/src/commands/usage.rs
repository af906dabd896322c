//! What clap says about a command line: help and version on standard output, a mistake on one line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::cli;
use crate::error::{Code, CommandError};
use crate::service::log::print_status;

/// Prints what clap returned instead of a command line.
///
/// # Errors
/// If standard output cannot be written.
pub fn report(error: &clap::Error) -> Result<ExitCode, CommandError> {
    if !is_asked_for(error.kind()) {
        print_status(format_args!("blocksd: {}", cli::one_line(error)));
    } else if error.use_stderr() {
        print_status(format_args!("{}", error.render()));
    } else {
        let printed = error.print().and_then(|()| io::stdout().flush());
        printed.map_err(CommandError::stdout)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(Code::Wrong as u8))
}

/// Whether it is not a mistake, but a text that was asked for.
const fn is_asked_for(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}
