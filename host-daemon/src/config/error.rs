//! Errors of a configuration. [`ConfigError`] reports all mistakes at once.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::escape::printable;

/// Key of `[[listener]]` with the address, the only one that is not an option.
pub(super) const ADDRESS: &str = "address";

/// The name of an option as its user writes it: a key in a file, otherwise an option of the command line.
pub(super) fn named(key: &str, origin: ValueOrigin) -> String {
    match origin {
        ValueOrigin::Line(_) => key.to_owned(),
        _ => format!("--{key}"),
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueOrigin {
    /// The default: it is not set.
    #[default]
    Default,
    /// The command line.
    CommandLine,
    /// This line of the config file, counted from 1.
    Line(usize),
}

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct ConfigError {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// At least one mistake.
    pub mistakes: Vec<Mistake>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Mistake {
    /// Where it is; `None` for the file as a whole.
    pub origin: Option<ValueOrigin>,
    /// The key, which is the name of the option without its dashes.
    pub key: Option<String>,
    /// Why it is refused.
    pub reason: Reason,
}

/// Why a value, a key or a file is refused.
#[derive(Debug)]
pub enum Reason {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The file is not TOML; the message of the parser.
    Syntax(String),
    /// A key that does not exist; the one that may have been meant.
    Unknown(Option<String>),
    /// A key in a table that applies to the whole daemon, or to all listeners or devices.
    Global {
        /// Its name, if it is misspelled as well.
        near: Option<String>,
        /// The table.
        table: Table,
    },
    /// The address of a listener outside of a table `[[listener]]`.
    Address,
    /// A value of a kind that the key does not take.
    Type {
        /// The kind of value that the key takes.
        takes: String,
        /// The kind of value in the file.
        found: &'static str,
    },
    /// A table `[[listener]]` without an address.
    NoAddress,
    /// A comma in the address of a listener.
    Comma,
    /// Any other reason.
    Refused(String),
}

/// A kind of table that holds options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `[[listener]]`
    Listener,
    /// `[device."ID"]`
    Device,
    /// `[[forward]]`
    Forward,
}

impl ConfigError {
    /// One mistake about a file as a whole.
    #[must_use]
    pub fn of_file(file: &Path, reason: Reason) -> Self {
        let mistake = Mistake {
            origin: None,
            key: None,
            reason,
        };
        Self {
            file: Some(file.to_owned()),
            mistakes: vec![mistake],
        }
    }

    /// One mistake of the command line.
    #[must_use]
    pub fn of_command_line(reason: String) -> Self {
        let mistake = Mistake {
            origin: Some(ValueOrigin::CommandLine),
            key: None,
            reason: Reason::Refused(reason),
        };
        Self {
            file: None,
            mistakes: vec![mistake],
        }
    }

    /// The error of a file that cannot be read.
    pub(crate) fn unreadable(&self) -> Option<&io::Error> {
        self.mistakes.iter().find_map(|it| match &it.reason {
            Reason::Unreadable(error) => Some(error),
            _ => None,
        })
    }

    fn write(&self, f: &mut impl fmt::Write, mistake: &Mistake) -> fmt::Result {
        let key = mistake.key.as_deref();
        match (mistake.origin, &self.file) {
            (Some(ValueOrigin::Line(line)), Some(file)) => {
                write!(f, "{}:{line}: ", file.display())?;
                match key {
                    None => {}
                    Some("") => f.write_str("\"\": ")?,
                    Some(key) => write!(f, "{key}: ")?,
                }
            }
            (None, Some(file)) => write!(f, "{}: ", file.display())?,
            _ => {
                if let Some(key) = key {
                    write!(f, "--{key}: ")?;
                }
            }
        }
        write!(f, "{}", mistake.reason)
    }
}

/// Maximum number of mistakes that are listed.
const MISTAKES_MAX: usize = 100;

/// Writes a line for each mistake; if there are several, the last line is their number.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().take(MISTAKES_MAX).enumerate() {
            if index != 0 {
                writeln!(f)?;
            }
            self.write(&mut OneLine(f), mistake)?;
        }
        let count = self.mistakes.len();
        if MISTAKES_MAX < count {
            write!(f, "\n... and {} more", count - MISTAKES_MAX)?;
        }
        match &self.file {
            _ if count < 2 => Ok(()),
            Some(file) => write!(f, "\n{}: {count} mistakes", file.display()),
            None => write!(f, "\n{count} mistakes"),
        }
    }
}

/// Writes special characters escaped: keys and values of a file must not begin a line of the log, or confuse a terminal.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&printable(text))
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.unreadable().map(|error| error as _)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "[[listener]]",
            Self::Device => "[device.\"ID\"]",
            Self::Forward => "[[forward]]",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot read the config: {error}"),
            Self::Syntax(reason) | Self::Refused(reason) => f.write_str(reason),
            Self::Unknown(None) => {
                f.write_str("unknown key; `blocksd serve --help` lists the options")
            }
            Self::Unknown(Some(near)) => write!(f, "unknown key; did you mean `{near}`?"),
            Self::Global { near, table } => {
                match near {
                    Some(near) => write!(f, "unknown key; did you mean `{near}`? It applies")?,
                    None => f.write_str("applies")?,
                }
                let all = match table {
                    Table::Listener => "all listeners",
                    Table::Device => "all devices",
                    Table::Forward => "the whole daemon",
                };
                write!(
                    f,
                    " to {all}; put it at the top of the file, before the first {table}"
                )
            }
            Self::Address => write!(
                f,
                "{ADDRESS} is a key of [[listener]]; put it there, or use listen = \"ADDR\""
            ),
            Self::Type { takes, found } => write!(f, "takes {takes}, not {found}"),
            Self::NoAddress => write!(f, "a listener needs an {ADDRESS}"),
            Self::Comma => f.write_str(
                "an address has no comma; give the options as keys of [[listener]] instead",
            ),
        }
    }
}
