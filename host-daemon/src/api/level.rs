//! The level of a line of a log: a [`LogLevel`].

use std::str::FromStr;

use clap::ValueEnum;

/// The level of a line of a log; a later one is more severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For developers.
    Debug,
    /// For operators.
    Info,
    /// What may need attention.
    Warn,
    /// What needs attention.
    Error,
}

impl LogLevel {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl FromStr for LogLevel {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut levels = Self::value_variants().iter();
        let known = levels.find(|level| level.as_str().eq_ignore_ascii_case(name));
        known.copied().ok_or(())
    }
}
