//! `blocksd top`: shows a running daemon in the terminal. Start with [`top`].

use tokio::runtime::Runtime;

use crate::cli::Top;
use crate::error::CommandError;

/// Not built yet.
///
/// # Errors
/// Always.
pub fn top(_: &Top, _: Runtime) -> Result<(), CommandError> {
    Err(CommandError::CommandNotBuilt {
        command: "top",
        feature: "top",
    })
}
