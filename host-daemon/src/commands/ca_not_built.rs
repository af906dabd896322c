//! In a build without the feature `tls`: [`ca`] refuses.

use crate::cli::CaCommand;
use crate::error::CommandError;

/// Refuses: this build has no `ca`.
///
/// # Errors
/// [`CommandError::CommandNotBuilt`].
pub(super) fn ca(_: &CaCommand) -> Result<(), CommandError> {
    Err(CommandError::CommandNotBuilt {
        command: "ca",
        feature: "tls",
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::ca;
    use crate::cli::{Cli, Command};
    use crate::error::Code;

    #[test]
    fn a_build_without_tls_says_which_one_has_ca() {
        let cli = Cli::try_parse_from(["blocksd", "ca", "list", "folder"]).unwrap();
        let Command::Ca(arguments) = cli.command else {
            panic!("{cli:?}");
        };
        let error = ca(&arguments.command).unwrap_err();
        assert_eq!(error.code(), Code::Wrong);
        assert_eq!(
            error.to_string(),
            "this build of blocksd has no command `ca`; the builds of a release have it, and those of `cargo install --locked --path host-daemon --features tls`"
        );
    }
}
