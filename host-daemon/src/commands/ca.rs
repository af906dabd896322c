//! `blocksd ca`: a certificate authority in a folder, for TLS between devices and the daemon. Start with [`ca`].
//!
//! A command holds the lock of the folder. It writes a certificate into the index before any other file, so every
//! certificate can be revoked, and the file of the certificate last, so an interrupted command can be repeated. Files
//! appear and change in one step, and are durable before the next one is written.

mod authority;
mod embed;
mod files;
mod folder;
mod index;
mod init;
mod issue;
mod list;
mod moment;
mod pem;
mod renew;
mod report;
mod request;
mod revoke;

use crate::cli::CaCommand;
use crate::error::CommandError;

/// Runs a command of the certificate authority.
///
/// # Errors
/// [`CommandError::Ca`], [`CommandError::File`], [`CommandError::Write`].
pub fn ca(command: &CaCommand) -> Result<(), CommandError> {
    match command {
        CaCommand::Init(arguments) => init::init(arguments),
        CaCommand::Server(arguments) => issue::server(arguments),
        CaCommand::Device(arguments) => issue::device(arguments),
        CaCommand::Renew(arguments) => renew::renew(arguments),
        CaCommand::Revoke(arguments) => revoke::revoke(arguments),
        CaCommand::Crl(arguments) => revoke::crl(arguments),
        CaCommand::List(arguments) => list::list(arguments),
    }
}
