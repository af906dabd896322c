//! The arguments of `serve`, built from the table of options in the configuration. Start with [`Serve`].

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint};

use crate::config::error::ValueOrigin;
use crate::config::forward::{TABLE as FORWARD, without_login};
use crate::config::{HelpGroup, Kind, OPTIONS, Partial, Spec, Written};

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Read options from this TOML file; the command line overrides it.
    #[arg(long, value_name = "FILE", help_heading = HelpGroup::Listening.heading())]
    pub config: Option<PathBuf>,
    /// Every other option.
    #[command(flatten)]
    pub options: Options,
}

/// The options that a config file may set as well.
#[derive(Clone, Debug, Default)]
pub struct Options(pub Partial);

impl Args for Options {
    fn augment_args(mut command: Command) -> Command {
        for spec in OPTIONS {
            command = command.arg(argument(spec));
            if let Some(old) = spec.old {
                command = command.arg(old_argument(spec, old));
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut partial = Partial::default();
        let keys = OPTIONS.iter().flat_map(|spec| [Some(spec.key), spec.old]);
        for key in keys.flatten() {
            if matches.value_source(key) == Some(ValueSource::CommandLine) {
                let values = matches.get_many::<Partial>(key).into_iter().flatten();
                values.for_each(|value| partial.add(value.clone()));
            }
        }
        Ok(Self(partial))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let Self(new) = Self::from_arg_matches(matches)?;
        self.0 = new.combine(std::mem::take(&mut self.0));
        Ok(())
    }
}

fn argument(spec: &'static Spec) -> Arg {
    let argument = Arg::new(spec.key)
        .long(spec.key)
        .help(spec.help.trim().trim_end_matches('.'))
        .help_heading(spec.group.heading())
        .value_parser(OptionParser {
            spec,
            key: spec.key,
        });
    let argument = match spec.kind {
        Kind::Flag => return argument.action(ArgAction::SetTrue),
        Kind::List => argument.action(ArgAction::Append).allow_hyphen_values(true),
        // Without this, `-1` is taken for an unknown option.
        Kind::Number => argument.allow_negative_numbers(true),
        Kind::Text | Kind::Word => argument,
    };
    let argument = match spec.value {
        "DIR" => argument.value_hint(ValueHint::DirPath),
        _ => argument,
    };
    argument.value_name(spec.value).default_values(spec.default)
}

/// The same option by its old name, which the help does not show.
fn old_argument(spec: &'static Spec, old: &'static str) -> Arg {
    Arg::new(old)
        .long(old)
        .hide(true)
        .conflicts_with(spec.key)
        .value_name(spec.value)
        .value_parser(OptionParser { spec, key: old })
        .allow_negative_numbers(true)
}

/// Parses the value of an option, and lists its possible values.
#[derive(Clone)]
struct OptionParser {
    spec: &'static Spec,
    /// The name of the option that was used.
    key: &'static str,
}

impl TypedValueParser for OptionParser {
    type Value = Partial;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Partial, clap::Error> {
        let Self { spec, key } = *self;
        if spec.kind == Kind::Word {
            let names = (spec.choices)().into_iter().map(|choice| choice.name);
            PossibleValuesParser::new(names).parse_ref(command, argument, value)?;
        }
        let parse = move |text: &str| {
            let mut partial = Partial::default();
            let origin = ValueOrigin::CommandLine;
            spec.set(&mut partial, Written { text, origin, key })?;
            Ok::<_, String>(partial)
        };
        match value.to_str() {
            Some(text) if spec.key == FORWARD => {
                // An error prints the value.
                let (shown, parsed) = (without_login(text), parse(text));
                let parse = move |_: &str| parsed.clone();
                parse.parse_ref(command, argument, OsStr::new(&*shown))
            }
            _ => parse.parse_ref(command, argument, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let choices = (self.spec.choices)();
        if choices.is_empty() {
            return None;
        }
        let values = choices.into_iter().map(|choice| {
            let value = PossibleValue::new(choice.name);
            if choice.help.is_empty() {
                value
            } else {
                value.help(choice.help)
            }
        });
        Some(Box::new(values))
    }
}
