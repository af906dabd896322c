//! Lines for the systemd journal, which begin with their priority. Start with [`is_reader`] and [`Priority`].
//!
//! `tracing-journald` is not used: its socket would take lines that standard error does not have, in another order.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The environment variable in which systemd names the journal's end of a stream, as `DEVICE:INODE`.
const STREAM: &str = "JOURNAL_STREAM";

/// The priority of a line, as in `syslog(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// A panic.
    Critical = 2,
    /// The program cannot do what was requested.
    Error = 3,
    /// Something is wrong, and the program continues.
    Warning = 4,
    /// Normal operation.
    Info = 6,
    /// For debugging.
    Debug = 7,
}

impl From<Level> for Priority {
    fn from(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

impl Priority {
    /// Adds the priority to each line, since the journal stores each as an entry of its own.
    pub(super) fn mark(self, text: &[u8]) -> Vec<u8> {
        let mut marked = Vec::with_capacity(text.len() + 8);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            // Writing to a `Vec` cannot fail.
            let _ = write!(marked, "<{}>", self as u8);
            marked.extend_from_slice(line);
        }
        marked
    }
}

/// The format of events.
#[derive(Debug)]
pub(super) enum EventFormat {
    /// With time and level.
    Full(Format),
    /// Without them: the journal has a time of its own, and the priority of the line is its level.
    Journal(Format<Full, ()>),
}

impl EventFormat {
    /// The format for the journal, or for other readers.
    pub(super) fn of_reader(is_journal: bool) -> Self {
        let format = Format::default().with_target(false);
        if is_journal {
            Self::Journal(format.with_level(false).without_time())
        } else {
            Self::Full(format)
        }
    }
}

impl<S, N> FormatEvent<S, N> for EventFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Full(format) => format.format_event(context, writer, event),
            Self::Journal(format) => format.format_event(context, writer, event),
        }
    }
}

/// Whether the journal reads standard error. The variable alone is not enough: a program that inherits it may have
/// redirected standard error.
pub(super) fn is_reader() -> bool {
    let Ok(named) = env::var(STREAM) else {
        return false;
    };
    stream().is_ok_and(|(device, inode)| named == format!("{device}:{inode}"))
}

/// The device and the inode of standard error.
fn stream() -> io::Result<(u64, u64)> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let stream = stderr.metadata()?;
    Ok((stream.dev(), stream.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_text_has_the_priority() {
        let marked = |text: &[u8]| Priority::Warning.mark(text);
        assert_eq!(marked(b"one\n"), b"<4>one\n");
        assert_eq!(marked(b"one\n<0>two\n"), b"<4>one\n<4><0>two\n");
        assert_eq!(marked(b""), b"");
    }
}
