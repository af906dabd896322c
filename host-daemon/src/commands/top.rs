//! `blocksd top`: shows a running daemon in the terminal. Start with [`top`].

mod app;
mod colours;
mod device;
mod device_page;
mod forwards;
mod help;
mod input;
mod layout;
mod plot;
mod poll;
mod screen;
mod session;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod words;

use tokio::runtime::Runtime;

use crate::cli::Top;
use crate::error::CommandError;

/// Shows a daemon until a key or a signal ends it.
///
/// # Errors
/// [`CommandError::NoTerminal`]; [`CommandError::Connect`], [`CommandError::Request`] and [`CommandError::File`] of the first
/// request, and those of the terminal.
pub fn top(arguments: &Top, runtime: Runtime) -> Result<(), CommandError> {
    session::run(arguments, runtime)
}
