//! Prints help, version and usage errors: [`report`]. Help goes to standard output, an error is one line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use blocksd_engine::stdio;
use clap::builder::StyledStr;
use clap::error::ErrorKind;

use crate::cli;
use crate::error::{Code, CommandError};
use crate::service::log::print_error;

/// Prints what clap returned instead of a command line.
///
/// # Errors
/// If standard output cannot be written.
pub fn report(error: &clap::Error) -> Result<ExitCode, CommandError> {
    if !is_requested(error.kind()) {
        print_error(format_args!("blocksd: {}", cli::one_line(error)));
    } else if error.use_stderr() {
        print_error(format_args!("{}", error.render()));
    } else {
        let printed = print(&error.render());
        printed.map_err(CommandError::stdout)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(Code::Wrong as u8))
}

/// Prints help, styled if standard output is a terminal that shows styles.
fn print(text: &StyledStr) -> io::Result<()> {
    let mut out = stdio::stdout();
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => write!(out, "{text}")?,
        _ => write!(out, "{}", text.ansi())?,
    }
    out.flush()
}

/// Whether clap returned a text that was requested, and not an error.
const fn is_requested(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}
