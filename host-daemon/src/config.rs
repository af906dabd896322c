//! The config file: options of `serve` by their names, in TOML, read through the same definition as the command line.
//!
//! A key is an option's name without its dashes; a table `[[listener]]` is a `--listen` with its own options as keys.
//! Nothing is decided here but how a TOML value is written as an argument: clap knows the options, their types and
//! what they exclude. What the command line gives goes before what the file gives; a list replaces the list.

pub mod error;

use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, Parser};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use self::error::{ADDRESS, ConfigError, Reason};
use crate::cli::{self, Cli, Listen, Options, Serve};
use crate::error::CommandError;

/// The command whose options a file may give.
const SERVE: &str = "serve";
/// The option that names the file, which no file may name.
const CONFIG: &str = "config";
/// The option that a table `[[listener]]` stands for.
const LISTEN: &str = "listen";
/// The name of that table.
const LISTENER: &str = "listener";

/// A command line, completed by the config file that it names.
#[derive(Debug)]
pub struct Parsed {
    /// What is to be done.
    pub cli: Cli,
    /// The keys of the file that are not used, since the command line gives these options.
    pub overridden: Vec<String>,
}

/// Reads a command line, and the config file that it names, if any.
///
/// # Errors
/// [`Wrong::Usage`] where the command line cannot be understood, else [`Wrong::Config`].
pub fn parse(command_line: Vec<OsString>) -> Result<Cli, Wrong> {
    parse_both(command_line).map(|parsed| parsed.cli)
}

/// As [`parse`], and returns which keys of the file the command line overrides.
///
/// # Errors
/// As [`parse`].
pub fn parse_both(mut command_line: Vec<OsString>) -> Result<Parsed, Wrong> {
    let alone = |command_line| {
        let cli = Cli::try_parse_from(command_line).map_err(Wrong::Usage)?;
        let overridden = Vec::new();
        Ok(Parsed { cli, overridden })
    };
    // What a file is to complete need not be complete yet. Help is asked for in the second round as well.
    let given = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(&command_line);
    let given = given.ok();
    let given = given.as_ref().and_then(ArgMatches::subcommand);
    let Some((SERVE, given)) = given else {
        return alone(command_line);
    };
    let Some(path) = given.get_one::<PathBuf>(CONFIG).cloned() else {
        return alone(command_line);
    };
    let settings = settings_of(&path)?;
    let is_given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let (unused, used): (Vec<_>, Vec<_>) = settings
        .into_iter()
        .partition(|setting| is_given(&setting.id));
    let mut overridden: Vec<_> = unused.iter().map(|setting| setting.key.clone()).collect();
    // A list is an argument for each of its values.
    overridden.dedup();
    let arguments: Vec<_> = used
        .into_iter()
        .map(|setting| setting.argument.into())
        .collect();
    let serve = command_line.iter().position(|word| word == SERVE);
    let behind = serve.map_or(command_line.len(), |at| at + 1);
    command_line.splice(behind..behind, arguments);
    let cli = Cli::try_parse_from(command_line).map_err(|error| match error.kind() {
        ErrorKind::ArgumentConflict | ErrorKind::MissingRequiredArgument => {
            Wrong::Config(Box::new(ConfigError {
                path,
                place: None,
                reason: Reason::Refused(one_line(&error)),
            }))
        }
        _ => Wrong::Usage(error),
    })?;
    Ok(Parsed { cli, overridden })
}

/// The options that a file gives, completed by what they are without it.
///
/// # Errors
/// [`CommandError::Config`]
pub fn read(path: &Path) -> Result<Serve, CommandError> {
    let mut option = OsString::from(format!("--{CONFIG}="));
    option.push(path);
    let refused = |reason| {
        CommandError::Config(Box::new(ConfigError {
            path: path.to_owned(),
            place: None,
            reason: Reason::Refused(reason),
        }))
    };
    match parse(vec!["blocksd".into(), SERVE.into(), option]) {
        Ok(Cli {
            command: cli::Command::Serve(serve),
        }) => Ok(*serve),
        Ok(_) => Err(refused(String::from("it is no config of `serve`"))),
        Err(Wrong::Usage(error)) => Err(refused(one_line(&error))),
        Err(Wrong::Config(error)) => Err(CommandError::Config(error)),
    }
}

/// Why a command line was not understood.
#[derive(Debug)]
pub enum Wrong {
    /// It says something that it cannot say, or asks for help.
    Usage(clap::Error),
    /// The file that it names does.
    Config(Box<ConfigError>),
}

/// An error of the command line in one line, without the hints below.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.is_empty());
    let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// An option that the file gives.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    /// As in the file.
    key: String,
    /// Of the option in clap.
    id: String,
    /// As on a command line.
    argument: String,
}

fn settings_of(path: &Path) -> Result<Vec<Setting>, Wrong> {
    let refuse = |place, reason| {
        Wrong::Config(Box::new(ConfigError {
            path: path.to_owned(),
            place,
            reason,
        }))
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| refuse(None, Reason::Unreadable(error)))?;
    settings(&text).map_err(|Refusal { at, key, reason }| {
        let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        refuse(Some((line, key)), reason)
    })
}

/// What is refused, and where in the text it stands.
struct Refusal {
    at: usize,
    key: Option<String>,
    reason: Reason,
}

fn settings(text: &str) -> Result<Vec<Setting>, Refusal> {
    let table = DeTable::parse(text).map_err(|error| Refusal {
        at: error.span().map_or(0, |span| span.start),
        key: None,
        reason: Reason::Syntax(error.message().replace('\n', "; ")),
    })?;
    let serve = serve();
    let mut settings = Vec::new();
    for (key, value) in in_order(table.get_ref()) {
        let refuse = |reason| refusal(key, reason);
        if key.get_ref() == LISTENER {
            for listener in tables(value).map_err(refuse)? {
                settings.push(Setting {
                    key: LISTENER.to_owned(),
                    id: LISTEN.to_owned(),
                    argument: listener_argument(&serve, listener)?,
                });
            }
            continue;
        }
        if key.get_ref() == ADDRESS {
            return Err(refuse(Reason::Address));
        }
        let option = find(&serve, key.get_ref());
        let option = option.ok_or_else(|| refuse(Reason::Unknown(near(&serve, key.get_ref()))))?;
        for argument in arguments(option, value.get_ref()).map_err(refuse)? {
            check(&serve, &argument).map_err(refuse)?;
            settings.push(Setting {
                key: key.get_ref().to_string(),
                id: option.get_id().to_string(),
                argument,
            });
        }
    }
    Ok(settings)
}

/// The definition of the options.
fn serve() -> Command {
    Serve::augment_args(Command::new(SERVE))
}

fn find<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|option| option.get_long() == Some(key) && option.get_id() != CONFIG)
}

/// The key that may have been meant; clap knows.
fn near(command: &Command, key: &str) -> Option<String> {
    let words = [SERVE.to_owned(), format!("--{key}")];
    let error = command.clone().try_get_matches_from(words).err()?;
    match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(option) => Some(option.trim_start_matches('-').to_owned()),
        _ => None,
    }
}

/// The arguments that say what a key and its value say.
fn arguments(option: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, Reason> {
    let name = option.get_long().unwrap_or_default();
    let wrong = |found: &DeValue<'_>| Reason::Type {
        takes: takes(option),
        found: kind(found),
    };
    let argument = |value: &DeValue<'_>| {
        let text = text(value, takes_numbers(option)).ok_or_else(|| wrong(value))?;
        Ok(format!("--{name}={text}"))
    };
    match (option.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(true)) => Ok(vec![format!("--{name}")]),
        (ArgAction::SetTrue, DeValue::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, value) => Err(wrong(value)),
        (ArgAction::Append, DeValue::Array(values)) => values
            .iter()
            .map(|value| argument(value.get_ref()))
            .collect(),
        (_, value) => Ok(vec![argument(value)?]),
    }
}

/// Whether a number means something to an option; where it takes any text, it would only be taken for one.
fn takes_numbers(option: &Arg) -> bool {
    let parsed = option.get_value_parser().type_id();
    let texts = [
        TypeId::of::<String>(),
        TypeId::of::<PathBuf>(),
        TypeId::of::<OsString>(),
        TypeId::of::<Listen>(),
    ];
    !texts.into_iter().any(|text| parsed == text)
}

fn text(value: &DeValue<'_>, numbers: bool) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if numbers => {
            i128::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(|number| number.to_string())
        }
        DeValue::Float(number) if numbers => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn takes(option: &Arg) -> String {
    let names = option.get_value_names().unwrap_or_default();
    let values: Vec<_> = match option.get_action() {
        ArgAction::SetTrue => return "true or false".to_owned(),
        _ => option.get_possible_values(),
    };
    let value = if values.is_empty() {
        names.join(" ")
    } else {
        let values: Vec<_> = values.iter().map(|value| value.get_name()).collect();
        values.join("|")
    };
    match option.get_action() {
        ArgAction::Append => format!("\"{value}\" or a list of such"),
        _ if takes_numbers(option) => value,
        _ => format!("\"{value}\""),
    }
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Whether the option takes this, whatever other options say.
fn check(serve: &Command, argument: &str) -> Result<(), Reason> {
    let words = [SERVE, argument];
    match serve.clone().try_get_matches_from(words) {
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::ArgumentConflict | ErrorKind::MissingRequiredArgument
            ) =>
        {
            Err(Reason::Refused(one_line(&error)))
        }
        _ => Ok(()),
    }
}

/// The tables of an array of tables.
fn tables<'a, 'i>(
    value: &'a Spanned<DeValue<'i>>,
) -> Result<Vec<&'a Spanned<DeValue<'i>>>, Reason> {
    let wrong = |value: &DeValue<'_>| Reason::Type {
        takes: format!("tables, as [[{LISTENER}]]"),
        found: kind(value),
    };
    let array = value.get_ref().as_array();
    let array = array.ok_or_else(|| wrong(value.get_ref()))?;
    let odd = array.iter().find(|table| !table.get_ref().is_table());
    odd.map_or_else(
        || Ok(array.iter().collect()),
        |odd| Err(wrong(odd.get_ref())),
    )
}

/// `--listen=ADDRESS,KEY=VALUE`, each key checked where it stands.
fn listener_argument(serve: &Command, listener: &Spanned<DeValue<'_>>) -> Result<String, Refusal> {
    let missing = Refusal {
        at: listener.span().start,
        key: Some(LISTENER.to_owned()),
        reason: Reason::NoAddress,
    };
    let empty = DeTable::new();
    let keys = in_order(listener.get_ref().as_table().unwrap_or(&empty));
    let (addresses, own): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .partition(|(key, _)| key.get_ref() == ADDRESS);
    let Some((key, address)) = addresses.first() else {
        return Err(missing);
    };
    let mut argument = match text(address.get_ref(), false) {
        Some(text) if text.contains(',') => return Err(refusal(key, Reason::Comma)),
        Some(text) => format!("--{LISTEN}={text}"),
        None => {
            let (takes, found) = ("\"ADDR\"".to_owned(), kind(address.get_ref()));
            return Err(refusal(key, Reason::Type { takes, found }));
        }
    };
    check(serve, &argument).map_err(|reason| refusal(key, reason))?;
    let options = Options::augment_args(Command::new(LISTENER));
    for (key, value) in own {
        let refuse = |reason| refusal(key, reason);
        let Some(option) = find(&options, key.get_ref()) else {
            return Err(refuse(not_of_a_listener(serve, &options, key.get_ref())));
        };
        let Some(text) = text(value.get_ref(), true) else {
            let (takes, found) = (takes(option), kind(value.get_ref()));
            return Err(refuse(Reason::Type { takes, found }));
        };
        if text.contains(',') {
            return Err(refuse(Reason::Comma));
        }
        let name = key.get_ref();
        let longer = format!("{argument},{name}={text}");
        check(serve, &longer).map_err(refuse)?;
        argument = longer;
    }
    Ok(argument)
}

/// Why a key may not stand in a table `[[listener]]`.
fn not_of_a_listener(serve: &Command, options: &Command, key: &str) -> Reason {
    if key == LISTEN {
        return Reason::Unknown(Some(ADDRESS.to_owned()));
    }
    if find(serve, key).is_some() {
        return Reason::Global(None);
    }
    match (near(options, key), near(serve, key)) {
        (Some(own), _) => Reason::Unknown(Some(own)),
        (None, Some(global)) => Reason::Global(Some(global)),
        (None, None) => Reason::Unknown(None),
    }
}

/// The keys of a table in the order of the file.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>)> {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    keys
}

fn refusal(key: &Spanned<DeString<'_>>, reason: Reason) -> Refusal {
    Refusal {
        at: key.span().start,
        key: Some(key.get_ref().to_string()),
        reason,
    }
}

#[cfg(test)]
mod tests;
