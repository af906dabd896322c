//! Bytes of devices on standard output: unchanged in a file or a pipe, escaped on a terminal. Start with [`stdout`].

use std::io::{self, IsTerminal, Write};

use blocksd_engine::stdio;

use crate::escape::{readable_bytes, readable_text};

/// Standard output for bytes of devices. On a terminal, everything except newlines is escaped as in text output.
pub(crate) fn stdout() -> Box<dyn Write + Send> {
    let stdout = stdio::stdout();
    match io::stdout().is_terminal() {
        true => Box::new(Terminal::new(stdout)),
        false => Box::new(stdout),
    }
}

/// Escapes text on its way to a terminal.
struct Terminal<W> {
    to: W,
    /// The beginning of a character whose other bytes were not written yet.
    incomplete: Vec<u8>,
}

impl<W> Terminal<W> {
    const fn new(to: W) -> Self {
        Self {
            to,
            incomplete: Vec::new(),
        }
    }
}

impl<W: Write> Write for Terminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut all = std::mem::take(&mut self.incomplete);
        all.extend_from_slice(bytes);
        let mut text = Vec::with_capacity(all.len());
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            for (index, line) in chunk.valid().split('\n').enumerate() {
                if index != 0 {
                    text.push(b'\n');
                }
                readable_text(line, &mut text);
            }
            let invalid = chunk.invalid();
            let is_cut = std::str::from_utf8(invalid).is_err_and(|it| it.error_len().is_none());
            match is_cut && chunks.peek().is_none() {
                true => self.incomplete = invalid.to_vec(),
                false => readable_bytes(invalid, &mut text),
            }
        }
        self.to.write_all(&text)
    }

    /// Also writes the bytes of an incomplete character.
    fn flush(&mut self) -> io::Result<()> {
        if !self.incomplete.is_empty() {
            let mut text = Vec::new();
            readable_bytes(&std::mem::take(&mut self.incomplete), &mut text);
            self.to.write_all(&text)?;
        }
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parts: &[&[u8]]) -> String {
        let mut shown = Vec::new();
        let mut terminal = Terminal::new(&mut shown);
        for part in parts {
            terminal.write_all(part).expect("room");
        }
        terminal.flush().expect("room");
        String::from_utf8(shown).expect("UTF-8")
    }

    #[test]
    fn bytes_are_escaped_in_any_parts() {
        let bytes = "a\n\u{1b}[2J\u{9b}é\u{202e}\n".as_bytes();
        let bytes = [bytes, b"\xff\xe2\x82z\xe2\x82"].concat();
        let want = "a\n\\u{1b}[2J\\u{9b}é\\u{202e}\n\\xff\\xe2\\x82z\\xe2\\x82";
        for at in 0..=bytes.len() {
            let (one, other) = bytes.split_at(at);
            assert_eq!(shown(&[one, other]), want, "{at}");
        }
        let each: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(shown(&each), want);
    }
}
