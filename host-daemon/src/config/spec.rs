//! Properties of options that need no value: heading, kind, scope, and what a reload does.

use crate::config::error::ValueOrigin;

/// Headings of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the name is the heading")]
pub enum HelpGroup {
    Listening,
    Framing,
    Decoding,
    Limits,
    Timeouts,
    Recording,
    Output,
    Monitoring,
    Reply,
}

/// What kind of value an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false; on the command line, its name alone.
    Flag,
    /// A number, or a text such as `10m` or `64MiB`.
    Number,
    /// A text.
    Text,
    /// One of the choices.
    Word,
    /// One text, or several.
    List,
}

/// In which tables of the config file an option may stand, beside the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// None.
    Daemon,
    /// `[device."ID"]`.
    Device,
    /// `[device."ID"]` and `[[listener]]`.
    Listener,
}

/// What a reload changes where the value of an option is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Nothing: it needs a restart.
    Restart,
    /// How connections that are accepted from then on are treated.
    Policies,
    /// What all connections share.
    Bounds,
    /// The size of the recording.
    Retention,
    /// What is logged.
    Log,
    /// Which listeners there are.
    Listeners,
}

/// A value as text: before it is read, and as it is printed.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// As it was written.
    pub text: &'a str,
    /// Where it was written.
    pub origin: ValueOrigin,
    /// By which name of the option.
    pub key: &'static str,
}

impl HelpGroup {
    /// The words of the heading.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Listening => "Listening",
            Self::Framing => "Framing",
            Self::Decoding => "Decoding",
            Self::Limits => "Limits",
            Self::Timeouts => "Timeouts",
            Self::Recording => "Recording",
            Self::Output => "Output",
            Self::Monitoring => "Monitoring",
            Self::Reply => "Reply",
        }
    }
}
