//! `blocksd top`: shows a running daemon in the terminal. Start with [`top`].

#[cfg(feature = "top")]
mod app;
#[cfg(feature = "top")]
mod colours;
#[cfg(feature = "top")]
mod device;
#[cfg(feature = "top")]
mod device_page;
#[cfg(feature = "top")]
mod help;
#[cfg(feature = "top")]
mod input;
#[cfg(feature = "top")]
mod layout;
#[cfg(feature = "top")]
mod plot;
#[cfg(feature = "top")]
mod poll;
#[cfg(feature = "top")]
mod screen;
#[cfg(feature = "top")]
mod session;
#[cfg(feature = "top")]
mod table;
#[cfg(feature = "top")]
mod terminal;
#[cfg(all(test, feature = "top"))]
mod tests;
#[cfg(feature = "top")]
mod words;

use tokio::runtime::Runtime;

use crate::cli::Top;
use crate::error::CommandError;

/// Shows a daemon until a key or a signal ends it.
///
/// # Errors
/// [`CommandError::NoTerminal`]; [`CommandError::Connect`], [`CommandError::Request`] and [`CommandError::File`] of the first
/// request, and those of the terminal.
#[cfg(feature = "top")]
pub fn top(arguments: &Top, runtime: Runtime) -> Result<(), CommandError> {
    session::run(arguments, runtime)
}

/// Refuses: this build has no `top`.
///
/// # Errors
/// [`CommandError::CommandNotBuilt`].
#[cfg(not(feature = "top"))]
pub fn top(_: &Top, _: Runtime) -> Result<(), CommandError> {
    Err(CommandError::CommandNotBuilt {
        command: "top",
        feature: "top",
    })
}

#[cfg(all(test, not(feature = "top")))]
mod not_built {
    use clap::Parser as _;

    use super::top;
    use crate::cli::{Cli, Command};
    use crate::error::Code;

    #[test]
    fn a_build_without_top_says_which_one_has_it() {
        let cli = Cli::try_parse_from(["blocksd", "top"]).unwrap();
        let Command::Top(arguments) = cli.command else {
            panic!("{cli:?}");
        };
        let error = top(&arguments, tokio::runtime::Runtime::new().unwrap()).unwrap_err();
        assert_eq!(error.code(), Code::Wrong);
        assert_eq!(
            error.to_string(),
            "this build of blocksd has no command `top`; the builds of a release have it, and `cargo install blocksd --features top`"
        );
    }
}
