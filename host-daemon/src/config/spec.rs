//! Properties of an option other than its value: heading, kind, scope, and the effect of a reload. They are fields of
//! `Spec` in `partial.rs`.

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
    Sessions,
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

/// The tables of the config file that may contain an option, besides the top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The top level only.
    Daemon,
    /// `[device."ID"]`.
    Device,
    /// `[device."ID"]` and `[[listener]]`.
    Listener,
}

/// What a reload changes if the value of an option has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Nothing: the new value needs a restart.
    Restart,
    /// The policies of connections that are accepted from then on.
    Policies,
    /// The bounds on all connections together.
    Bounds,
    /// The limits on the space of the recording.
    Retention,
    /// The log level.
    Log,
    /// The set of listeners.
    Listeners,
}

/// A value as text, with its origin: before it is parsed, and when it is printed.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The text as it was written.
    pub text: &'a str,
    /// Where it was written.
    pub origin: ValueOrigin,
    /// The name of the option that was used: the current or the old one.
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
            Self::Sessions => "Sessions",
            Self::Output => "Output",
            Self::Monitoring => "Monitoring",
            Self::Reply => "Reply",
        }
    }
}
