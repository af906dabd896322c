//! A message that is a structured value: JSON, CBOR, MessagePack or `key=value`. Start with [`Value::write`].

use std::fmt::{self, Write};

use crate::payload::emitter::{Emitter, Style};
use crate::payload::{DecodeError, cbor, json, kv, msgpack};

/// A message to be read as a structured value. It is validated while it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) form: Form,
}

/// How a value is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Cbor,
    MsgPack,
    Kv,
}

impl<'a> Value<'a> {
    /// A value encoded as JSON.
    #[must_use]
    pub const fn json(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            form: Form::Json,
        }
    }

    /// Appends the value as compact JSON of at most `max` bytes. Part of it may have been written if that fails.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_json(&self, max: usize, to: &mut String) -> Result<(), DecodeError> {
        let end = to.len().saturating_add(max);
        self.write(Style::Json, &mut Bounded { to, end })
    }

    /// Writes the value as text, on one line.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if the message is invalid, [`DecodeError::TooLong`] if `to` refuses more text. Part of
    /// the value may have been written.
    pub fn write(&self, style: Style, to: &mut dyn Write) -> Result<(), DecodeError> {
        let mut emitter = Emitter::new(style, to);
        match self.form {
            Form::Json => json::copy(self.bytes, &mut emitter),
            Form::Cbor => cbor::copy(self.bytes, &mut emitter),
            Form::MsgPack => msgpack::copy(self.bytes, &mut emitter),
            Form::Kv => kv::copy(self.bytes, &mut emitter),
        }
    }
}

/// A text with a bound on its length.
struct Bounded<'a> {
    to: &'a mut String,
    end: usize,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.end.saturating_sub(self.to.len()) < text.len() {
            return Err(fmt::Error);
        }
        self.to.push_str(text);
        Ok(())
    }
}
