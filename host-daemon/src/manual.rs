//! `blocksd man` and `blocksd completions`: what clap knows of the commands, for people and for shells.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::failure::Failure;

/// Prints the completions of all commands for a shell.
///
/// # Errors
/// Where they cannot be printed.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Into memory: who reads no further is no reason to panic.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    print(&text)
}

/// Prints the manual page of the program, or of one command, in roff.
///
/// # Errors
/// [`Failure::NoCommand`]; where it cannot be printed.
pub fn man(name: Option<&str>) -> Result<(), Failure> {
    // `help` has no page of its own.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let source = command.render_version();
    if let Some(name) = name {
        let found = command.find_subcommand(name).cloned();
        command = found.ok_or_else(|| Failure::NoCommand(name.to_owned()))?;
    }
    let mut text = Vec::new();
    Man::new(command)
        .source(source.trim_end())
        .render(&mut text)?;
    print(&text)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text).and_then(|()| out.flush());
    written.map_err(Failure::stdout)
}
