//! `blocksd man` and `blocksd completions`: manual pages and shell completions, generated from the commands of clap.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use blocksd_engine::stdio;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::error::CommandError;

/// Prints the completion script of a shell for all commands.
///
/// # Errors
/// If it cannot be printed.
pub fn completions(shell: Shell) -> Result<(), CommandError> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Generate it in memory: clap panics if it cannot write, as to a closed pipe.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    print(&text)
}

/// Prints the manual page of the program or of one command in roff, or writes the pages of all to a folder.
///
/// # Errors
/// [`CommandError::NoCommand`], or if a page cannot be printed or written.
pub fn man(name: Option<&str>, folder: Option<&Path>) -> Result<(), CommandError> {
    // `help` has no page of its own.
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let source = program.render_version();
    if let Some(folder) = folder {
        let mut pages = vec![program.clone()];
        collect(&program, &mut pages);
        return write_all(folder, pages, source.trim_end());
    }
    if let Some(name) = name {
        let found = program.find_subcommand(name).cloned();
        program = found.ok_or_else(|| CommandError::NoCommand(name.to_owned()))?;
    }
    print(&page(program, source.trim_end())?)
}

/// Collects the commands of a command, and those within them.
fn collect(command: &Command, pages: &mut Vec<Command>) {
    let commands = command.get_subcommands();
    for inner in commands.filter(|it| it.get_name() != "help") {
        pages.push(inner.clone());
        collect(inner, pages);
    }
}

/// Writes `blocksd-COMMAND.1` for each command into a folder, creating the folder if needed.
fn write_all(folder: &Path, commands: Vec<Command>, source: &str) -> Result<(), CommandError> {
    let failure = |path: &Path, error| CommandError::Write {
        path: path.to_owned(),
        error,
    };
    fs::create_dir_all(folder).map_err(|error| failure(folder, error))?;
    for command in commands {
        let name = command
            .get_display_name()
            .unwrap_or_else(|| command.get_name());
        let path = folder.join(format!("{name}.1"));
        let text = page(command, source)?;
        fs::write(&path, text).map_err(|error| failure(&path, error))?;
    }
    Ok(())
}

fn page(command: Command, source: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command).source(source).render(&mut text)?;
    Ok(text)
}

fn print(text: &[u8]) -> Result<(), CommandError> {
    let mut out = stdio::stdout();
    let written = out.write_all(text).and_then(|()| out.flush());
    written.map_err(CommandError::stdout)
}
