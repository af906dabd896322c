//! In a build without the feature `top`: [`top`] refuses.

use tokio::runtime::Runtime;

use crate::cli::Top;
use crate::error::CommandError;

/// Refuses: this build has no `top`.
///
/// # Errors
/// [`CommandError::CommandNotBuilt`].
pub(super) fn top(_: &Top, _: Runtime) -> Result<(), CommandError> {
    Err(CommandError::CommandNotBuilt {
        command: "top",
        feature: "top",
    })
}

#[cfg(test)]
mod tests {
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
            "this build of blocksd has no command `top`; the builds of a release have it, and those of `cargo install --locked --path host-daemon --features top`"
        );
    }
}
