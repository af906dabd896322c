//! What may be wrong with a config file.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The key of a listener that is not an option.
pub(super) const ADDRESS: &str = "address";

/// What is wrong with a config file.
#[derive(Debug)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, and the key that stands there.
    pub place: Option<(usize, Option<String>)>,
    /// Why it is refused.
    pub reason: Reason,
}

/// Why a config file is refused.
#[derive(Debug)]
pub enum Reason {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is no TOML; what the parser says.
    Syntax(String),
    /// There is no such key; the one that may have been meant.
    Unknown(Option<String>),
    /// A key of a listener that applies to all of them; its name, where it is misspelled too.
    Global(Option<String>),
    /// The address of a listener outside of its table.
    Address,
    /// A value of a kind that the key does not take.
    Type {
        /// What it takes.
        takes: String,
        /// What it was given.
        found: &'static str,
    },
    /// A table `[[listener]]` without an address.
    NoAddress,
    /// A comma in the value of a listener, which has no way to say it.
    Comma,
    /// What the option says of the value.
    Refused(String),
}

impl ConfigError {
    /// Why the file cannot be read, if that is what is wrong.
    pub(crate) const fn unreadable(&self) -> Option<&io::Error> {
        match &self.reason {
            Reason::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some((line, key)) = &self.place {
            write!(f, "{line}:")?;
            if let Some(key) = key {
                write!(f, " {key}:")?;
            }
        }
        match &self.reason {
            Reason::Unreadable(error) => write!(f, " cannot read the config: {error}"),
            Reason::Syntax(reason) | Reason::Refused(reason) => write!(f, " {reason}"),
            Reason::Unknown(None) => f.write_str(" no such key; `blocksd serve --help` names them"),
            Reason::Unknown(Some(near)) => write!(f, " no such key; is {near} meant?"),
            Reason::Global(near) => {
                if let Some(near) = near {
                    write!(f, " no such key; is {near} meant? It")?;
                }
                f.write_str(
                    " applies to all listeners; put it at the top of the file, before the first [[listener]]",
                )
            }
            Reason::Address => write!(
                f,
                " {ADDRESS} is a key of [[listener]]; put it there, or use listen = \"ADDR\""
            ),
            Reason::Type { takes, found } => write!(f, " takes {takes}, not {found}"),
            Reason::NoAddress => write!(f, " a listener needs an {ADDRESS}"),
            Reason::Comma => f.write_str(" the value of a listener has no comma"),
        }
    }
}

impl std::error::Error for ConfigError {}
