//! The commands of the program, one module each. Start with [`run`].

#[cfg(feature = "tls")]
pub mod ca;
#[cfg(not(feature = "tls"))]
mod ca_not_built;
pub mod check_config;
mod client;
mod content;
pub mod demo;
pub mod devices;
mod entry_text;
pub mod export;
mod filter;
pub mod manual;
pub mod read;
mod read_table;
pub mod recordings;
pub mod replay;
pub mod report;
mod selection;
pub mod send;
mod session;
pub mod sessions;
#[cfg_attr(not(feature = "nats"), path = "commands/stream_not_built.rs")]
mod stream;
mod stream_address;
mod table;
pub mod tap;
pub mod textbook;
#[cfg(feature = "top")]
pub mod top;
#[cfg(not(feature = "top"))]
mod top_not_built;
mod unique;
pub mod usage;

use std::ffi::OsString;

use tokio::runtime::Runtime;

#[cfg(not(feature = "tls"))]
use self::ca_not_built as ca;
use self::stream_address::only_recordings;
#[cfg(not(feature = "top"))]
use self::top_not_built as top;
use crate::cli::{Command, Demo};
use crate::error::{CommandError, TlsSetupError};
use crate::serve;
use crate::service::log;

/// Starts the log, and runs a command that was parsed from `command_line`.
///
/// # Errors
/// If the command fails.
pub fn run(command: Command, command_line: Vec<OsString>) -> Result<(), CommandError> {
    match &command {
        // The log level is in its configuration, which is read first.
        Command::Serve(_) => {}
        // The demo prints its faults itself.
        Command::Demo(_) => log::subscribe("error"),
        _ => log::subscribe("info"),
    }
    match command {
        Command::Serve(arguments) => {
            let config = check_config::load(arguments.config.as_deref(), arguments.options.0)?;
            log::subscribe(&config.log);
            for warning in config.warnings() {
                tracing::warn!("{warning}");
            }
            let runtime = runtime()?;
            let served = runtime.block_on(serve::serve(config, command_line));
            // A start that was interrupted may still be reading a file or resolving a name.
            runtime.shutdown_background();
            served
        }
        Command::Send(arguments) if arguments.session => {
            send::session::send(&arguments, &runtime()?)
        }
        Command::Send(arguments) => send::send(&send::SendOptions {
            to: arguments.to,
            framing: arguments.framing,
            file: arguments.file,
            messages: arguments.messages,
            wait_reply: arguments.wait_reply,
            connect_timeout: arguments.connect_timeout.unwrap_or_default(),
            tls: arguments.tls,
        }),
        Command::Read(arguments) if read_table::is_table(&arguments)? => {
            read_table::read(&arguments)
        }
        Command::Read(arguments) => read::read(&arguments),
        Command::Export(arguments) => export::export(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments, &runtime()?),
        Command::Recordings(arguments) => {
            only_recordings("recordings", &arguments.paths)?;
            recordings::recordings_command(&arguments.paths, arguments.json)
        }
        Command::Sessions(arguments) => {
            only_recordings("sessions", &arguments.paths)?;
            sessions::sessions_command(&arguments.paths, arguments.json)
        }
        Command::Devices(arguments) => match &arguments.url {
            Some(url) => {
                let token = arguments.token.as_deref();
                devices::of_daemon(url, token, &arguments.tls, arguments.json, &runtime()?)
            }
            None if let Some(option) = arguments.tls.first() => {
                Err(TlsSetupError::NotHttps { option }.into())
            }
            None => {
                only_recordings("devices", &arguments.paths)?;
                devices::of_recordings(&arguments.paths, arguments.json)
            }
        },
        Command::Tap(arguments) => tap::tap(arguments, runtime()?),
        Command::Top(arguments) => top::top(&arguments, runtime()?),
        Command::Ca(arguments) => ca::ca(&arguments.command),
        Command::Verify(arguments) => {
            only_recordings("verify", &arguments.paths)?;
            report::verify_command(&arguments.paths)
        }
        Command::Recover(arguments) => {
            report::recover_command(&arguments.path, arguments.output.as_deref())
        }
        Command::CheckConfig(arguments) => {
            check_config::command(&arguments.file, arguments.options()?, arguments.print)
        }
        Command::Demo(arguments) => {
            let Demo {
                seconds,
                firmware,
                keep,
            } = arguments;
            runtime()?.block_on(demo::demo(seconds, firmware, keep))
        }
        Command::Completions(arguments) => manual::completions(arguments.shell),
        Command::Man(arguments) => {
            manual::man(arguments.command.as_deref(), arguments.dir.as_deref())
        }
        Command::Server(arguments) => {
            textbook::server(&arguments.host, arguments.port, arguments.framing)
        }
        Command::Client(arguments) => textbook::client(
            &arguments.host,
            arguments.port,
            arguments.framing,
            &arguments.messages,
        ),
    }
}

fn runtime() -> Result<Runtime, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(CommandError::Start)
}
