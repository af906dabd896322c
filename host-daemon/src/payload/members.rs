//! A decoded message as members of a JSON object: [`Meaning::write_members`].

use std::fmt::{self, Write};

use crate::escape::json::inside_of_string;
use crate::payload::{DecodeError, LogFrame, Meaning, Style};

/// Escapes text as the inside of a JSON string.
pub(crate) struct JsonString<'r, W>(pub(crate) &'r mut W);

impl<W: Write> Write for JsonString<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        inside_of_string(text, self.0)
    }
}

impl Meaning<'_> {
    /// Writes the members of the message, and the brace that ends the object.
    ///
    /// # Errors
    /// If the message is invalid, or if `to` refuses more text.
    pub(crate) fn write_members(&self, to: &mut impl Write) -> Result<(), DecodeError> {
        match self {
            Meaning::Raw(bytes) => {
                // The decoder has checked that it is UTF-8.
                let text = std::str::from_utf8(bytes).unwrap_or_default();
                to.write_str(r#""text":""#)?;
                inside_of_string(text, to)?;
                to.write_str("\"}")?;
            }
            Meaning::Value(value) => {
                to.write_str(r#""value":"#)?;
                value.write(Style::Json, to)?;
                to.write_str("}")?;
            }
            Meaning::Log(log) => write_log(log, to)?,
            Meaning::Build { id, known } => {
                write!(to, r#""build":"{id}","known":"#)?;
                match known {
                    Some(known) => write!(to, "{known}}}")?,
                    None => to.write_str("null}")?,
                }
            }
        }
        Ok(())
    }
}

fn write_log(log: &LogFrame<'_>, to: &mut impl Write) -> Result<(), DecodeError> {
    if let Some(level) = log.level() {
        write!(to, r#""level":"{level}","#)?;
    }
    if log.has_time() {
        to.write_str(r#""timestamp":""#)?;
        log.write_time(&mut JsonString(to))?;
        to.write_str("\",")?;
    }
    to.write_str(r#""message":""#)?;
    log.write_message(&mut JsonString(to))?;
    if let Some(location) = log.location() {
        to.write_str(r#"","location":""#)?;
        write!(JsonString(to), "{location}")?;
    }
    Ok(to.write_str("\"}")?)
}
