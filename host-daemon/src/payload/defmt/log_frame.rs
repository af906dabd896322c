//! A line of a firmware's log: [`LogFrame`].

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use defmt_decoder::Encoding;

use crate::payload::DecodeError;
use crate::payload::defmt::firmware::Firmware;
use crate::payload::defmt::formats::TableEntry;
use crate::payload::defmt::frame::{Reader, reason, take_array};
use crate::payload::defmt::rzcobs;

/// A line of a firmware's log, from a complete frame. The text is written on demand.
#[derive(Clone)]
pub struct LogFrame<'a> {
    firmware: Arc<Firmware>,
    index: u16,
    /// Length of the message.
    len: usize,
    /// The frame, without its encoding.
    frame: Cow<'a, [u8]>,
    /// Offset of the arguments of the statement; those of the time are before them.
    arguments: usize,
}

/// Length of the number of the format, with which a frame begins.
const INDEX_LEN: usize = 2;

impl<'a> LogFrame<'a> {
    /// Reads a message that is one frame, in the encoding of the firmware.
    pub(super) fn read(firmware: Arc<Firmware>, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (frame, padding) = match firmware.encoding {
            Encoding::Rzcobs => {
                let decoded = rzcobs::decode(rzcobs::trim(bytes))?;
                (Cow::Owned(decoded), rzcobs::PADDING_MAX)
            }
            _ => (Cow::Borrowed(bytes), 0),
        };
        let mut rest = &*frame;
        let index = u16::from_le_bytes(take_array(&mut rest)?);
        let mut nothing = Nothing;
        let formats = &firmware.formats;
        let mut reader = Reader::new(formats, bytes.len(), &mut nothing);
        if let Some(entry) = &formats.timestamp {
            reader.pass(entry.whole.as_ref(), &mut rest)?;
        }
        let entry = formats.get(index);
        let entry = entry.ok_or_else(|| reason("it refers to a format that the ELF file lacks"))?;
        let arguments = frame.len() - rest.len();
        reader.pass(entry.whole.as_ref(), &mut rest)?;
        let is_padding = rest.len() <= padding && rest.iter().all(|byte| *byte == 0);
        if !is_padding {
            return Err(DecodeError::Invalid(format!(
                "trailing bytes after the frame: {}",
                rest.len()
            )));
        }
        Ok(Self {
            index,
            len: bytes.len(),
            arguments,
            frame,
            firmware,
        })
    }

    /// `trace` to `error`; `None` for a plain print.
    #[must_use]
    pub fn level(&self) -> Option<&'static str> {
        self.entry()?.level
    }

    /// Whether the frame has a timestamp of the firmware.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.firmware.formats.timestamp.is_some()
    }

    /// Writes the firmware's timestamp.
    ///
    /// # Errors
    /// Like [`Self::write_message`].
    pub fn write_time(&self, to: &mut dyn fmt::Write) -> Result<(), DecodeError> {
        let time = self.frame.get(INDEX_LEN..self.arguments);
        let entry = self.firmware.formats.timestamp.as_ref();
        self.write(entry, time.unwrap_or_default(), to)
    }

    /// Writes the message, without escaping it.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] if `to` refuses more text, [`DecodeError::Invalid`] if the message takes more steps
    /// than its length allows. Part of it may have been written.
    pub fn write_message(&self, to: &mut dyn fmt::Write) -> Result<(), DecodeError> {
        let arguments = self.frame.get(self.arguments..);
        self.write(self.entry(), arguments.unwrap_or_default(), to)
    }

    fn write(
        &self,
        entry: Option<&TableEntry>,
        mut arguments: &[u8],
        to: &mut dyn fmt::Write,
    ) -> Result<(), DecodeError> {
        let Some(entry) = entry else {
            return Ok(());
        };
        let mut reader = Reader::new(&self.firmware.formats, self.len, to);
        reader.show(entry.whole.as_ref(), &mut arguments)
    }

    /// File and line of the statement, if the ELF file has them.
    #[must_use]
    pub fn location(&self) -> Option<impl fmt::Display> {
        let (file, line) = self.place()?;
        Some(fmt::from_fn(move |f| {
            write!(f, "{}:{line}", file.display())
        }))
    }

    /// The source file and line, if the ELF file has them.
    #[must_use]
    pub fn place(&self) -> Option<(&Path, u64)> {
        let place = self.firmware.locations.get(&self.index.into())?;
        Some((relative(&place.file), place.line))
    }

    /// Length of the longest format string of the firmware.
    pub(in crate::payload) fn longest_format(&self) -> usize {
        self.firmware.formats.longest
    }

    fn entry(&self) -> Option<&TableEntry> {
        self.firmware.formats.get(self.index)
    }
}

impl fmt::Debug for LogFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFrame")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Discards text.
struct Nothing;

impl fmt::Write for Nothing {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

/// A path relative to the current directory, if it is below that.
fn relative(path: &Path) -> &Path {
    static HERE: LazyLock<PathBuf> = LazyLock::new(|| std::env::current_dir().unwrap_or_default());
    path.strip_prefix(&*HERE).unwrap_or(path)
}
