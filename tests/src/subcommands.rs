//! The commands of a command line, and those within them: [`subcommands`].

use clap::Command;

/// The commands of a program and those within them, without `help`, each with its name, such as `ca init`.
pub fn subcommands(program: &Command) -> Vec<(String, &Command)> {
    let mut found = Vec::new();
    collect(program, "", &mut found);
    found
}

fn collect<'a>(command: &'a Command, above: &str, found: &mut Vec<(String, &'a Command)>) {
    for inner in command.get_subcommands() {
        let name = inner.get_name();
        if name != "help" {
            let name = format!("{above}{name}");
            let above = format!("{name} ");
            found.push((name, inner));
            collect(inner, &above, found);
        }
    }
}
