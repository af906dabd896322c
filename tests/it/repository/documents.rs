//! The generated tables in `docs/` match the program.
//!
//! To write the tables: `BLOCKSD_TEST_ACCEPT=1 cargo test -p blocksd-tests --test it -- documents::`

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use blocksd::cli::Cli;
use blocksd::config::{OPTIONS, Reload, Scope};
use blocksd_tests::golden::ACCEPT;
use blocksd_tests::process::finish;
use blocksd_tests::subcommands::subcommands;
use clap::{Arg, CommandFactory};
use framing_core::AnyFraming;
use framing_core::blocking::Writer;
use framing_core_testing::noise;
use tempfile::TempDir;

use super::public_names::diff;

#[test]
fn the_tables_of_options_match_the_command_line() {
    assert_section("docs/options.md", "options", &options());
}

#[test]
fn the_table_of_framings_matches_the_encoders() {
    assert_section("docs/framings.md", "framings", &framings());
}

#[test]
fn the_figures_of_a_noisy_line_are_those_of_the_simulation() {
    assert_section("docs/which-framing.md", "noise", &noise::table());
}

/// The index is the table of contents of the book.
#[test]
fn the_index_lists_every_page_once() {
    let target = TempDir::new().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new("python3");
    command.arg(root.join("docs/book/build")).arg("--sources");
    command.env("CARGO_TARGET_DIR", target.path());
    let ended = finish(command, b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary = fs::read_to_string(target.path().join("book/src/SUMMARY.md")).unwrap();
    assert!(
        summary.contains("\n- [operations](docs/operations.md)\n"),
        "{summary}"
    );
}

/// Asserts that a section of a document, between its two marks, is `text`.
#[track_caller]
fn assert_section(document: &str, section: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(document);
    let page = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- {section}: written by tests/it/repository/documents.rs -->\n\n");
    let end = format!("\n<!-- {section}: end -->");
    let (before, rest) = page.split_once(&begin).expect("the first mark");
    let (known, after) = rest.split_once(&end).expect("the second mark");
    if known == text {
        return;
    }
    if std::env::var_os(ACCEPT).is_some() {
        fs::write(&path, [before, &begin, text, &end, after].concat()).unwrap();
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect();
    panic!(
        "{document} differs from the program, or its lines are in another order (- there, + in the program):\n{}\
         to write it: {ACCEPT}=1 cargo test -p blocksd-tests --test it -- documents::",
        diff(&lines(known), &lines(text))
    );
}

/// A table for each command, in the order of `blocksd --help`; for `serve`, one for each heading of its help.
fn options() -> String {
    let mut program = Cli::command();
    program.build();
    let mut text = String::new();
    for (name, command) in subcommands(&program) {
        let name = &*name;
        let about = command.get_about().expect("a command has a help text");
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        if !text.is_empty() {
            text.push('\n');
        }
        write!(
            text,
            "## `blocksd {name}`\n\n{about}.\n\n```text\n{usage}\n```\n"
        )
        .unwrap();
        let mut heading = None;
        let mut has_table = false;
        for argument in arguments(command) {
            if argument.get_help_heading() != heading {
                heading = argument.get_help_heading();
                write!(text, "\n### {}\n", heading.unwrap()).unwrap();
                has_table = false;
            }
            if !has_table {
                text.push_str(header(name));
                has_table = true;
            }
            row(&mut text, name, argument);
        }
    }
    text
}

/// The arguments in the help, grouped by heading.
fn arguments(command: &clap::Command) -> Vec<&Arg> {
    let shown = command
        .get_arguments()
        .filter(|it| !it.is_hide_set() && it.get_id() != "help");
    let shown: Vec<_> = shown.collect();
    let mut headings: Vec<_> = shown.iter().map(|it| it.get_help_heading()).collect();
    let mut seen = Vec::new();
    headings.retain(|it| {
        let is_new = !seen.contains(it);
        seen.push(*it);
        is_new
    });
    let of = |heading| {
        shown
            .iter()
            .filter(move |it| it.get_help_heading() == heading)
    };
    headings.into_iter().flat_map(of).copied().collect()
}

fn header(command: &str) -> &'static str {
    if command == "serve" {
        "\n| option | value | default | also in table | a change needs | meaning |\n|---|---|---|---|---|---|\n"
    } else {
        "\n| option or argument | value | default | meaning |\n|---|---|---|---|\n"
    }
}

fn row(text: &mut String, command: &str, argument: &Arg) {
    let name = match argument.get_long() {
        Some(long) => format!("--{long}"),
        None => argument.to_string(),
    };
    let defaults = argument.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|it| it.to_string_lossy()).collect();
    let takes_value = argument.get_action().takes_values();
    let default = if takes_value {
        defaults.join(", ")
    } else {
        String::new()
    };
    let mut cells = vec![code(&name), code(&value(argument)), code(&default)];
    if command == "serve" {
        let spec = OPTIONS.iter().find(|spec| spec.key == argument.get_id());
        // The file cannot name another file.
        let (scope, reload) = spec.map_or(("not in the file", "restart"), |spec| {
            (scope(spec.scope), reload(spec.reload))
        });
        cells.extend([scope, reload].map(str::to_owned));
    }
    cells.push(meaning(argument));
    let cells = cells.into_iter().map(|cell| match &*cell {
        "" => " |".to_owned(),
        _ => format!(" {cell} |"),
    });
    writeln!(text, "|{}", cells.collect::<String>()).unwrap();
}

/// The name of the value, or its possible words.
fn value(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let names = argument.get_value_names().unwrap_or_default();
    let name = names.join(" ");
    let words = argument.get_possible_values();
    let words: Vec<_> = words.iter().map(|it| it.get_name()).collect();
    match words.is_empty() || name == "SPEC" || name.contains('|') {
        true => name,
        false => words.join("|"),
    }
}

/// The help text, followed by the help texts of the possible values.
fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let mut meaning = help.expect("an option has a help text").to_string();
    if argument.get_action().takes_values() {
        let words = argument.get_possible_values();
        let words = words.iter().filter_map(|word| {
            let help = word.get_help()?.to_string();
            Some(format!("`{}`: {help}", word.get_name()))
        });
        let words = words.collect::<Vec<_>>().join("; ");
        if !words.is_empty() {
            meaning = format!("{}. {words}", meaning.trim_end_matches('.'));
        }
    }
    let words = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
    words.replace('|', "\\|")
}

fn code(text: &str) -> String {
    match text {
        "" => String::new(),
        _ => format!("`{}`", text.replace('|', "\\|")),
    }
}

const fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Daemon => "",
        Scope::Device => "device",
        Scope::Listener => "listener, device",
    }
}

const fn reload(reload: Reload) -> &'static str {
    match reload {
        Reload::Restart => "restart",
        Reload::Policies | Reload::Bounds => "reload; applies to new connections",
        Reload::Retention => "reload; applies to the next write",
        Reload::Log => "reload; applies to the next line",
        Reload::Listeners => "reload; opens and closes listeners",
    }
}

/// A row for each framing: its name, an example, and two messages on the wire.
fn framings() -> String {
    let mut text = String::from(
        "| `--framing` | for example | `on`, `up` and the end on the wire |\n|---|---|---|\n",
    );
    for spec in AnyFraming::SPECS {
        let example = spec.replace(":N", ":2").replace(":HEX", ":0d0a");
        let framing: AnyFraming = example.parse().expect("the example is a framing");
        let mut writer = Writer::new(Vec::new(), framing);
        writer.send(b"on").unwrap();
        writer.send(b"up").unwrap();
        writer.finish().unwrap();
        let wire = writer.into_io();
        // A bar would end the cell.
        let wire = wire.escape_ascii().to_string().replace('|', "\\x7c");
        writeln!(text, "| `{spec}` | `{example}` | `{wire}` |").unwrap();
    }
    text
}
