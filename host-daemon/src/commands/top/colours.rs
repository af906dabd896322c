//! Writes colours as every terminal of sixteen colours knows them: [`SixteenColours`].
//!
//! `crossterm` selects the first sixteen colours by the sequences of 256 colours (`38;5;1`), which older terminals read as
//! blinking and bold.

use std::io::{self, Write};

/// The beginning of a sequence that changes the style.
const START: &[u8] = b"\x1b[";

/// Collects a frame, and replaces these sequences when it is flushed. The text of a frame has no escape character.
#[derive(Debug)]
pub(super) struct SixteenColours<W> {
    to: W,
    frame: Vec<u8>,
}

impl<W> SixteenColours<W> {
    pub(super) const fn new(to: W) -> Self {
        Self {
            to,
            frame: Vec::new(),
        }
    }
}

impl<W: Write> Write for SixteenColours<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let frame = std::mem::take(&mut self.frame);
        self.to.write_all(&replaced(&frame))?;
        self.to.flush()
    }
}

fn replaced(frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame.len());
    let mut rest = frame;
    while let Some(at) = rest.windows(START.len()).position(|it| it == START) {
        let (before, sequence) = rest.split_at(at + START.len());
        out.extend_from_slice(before);
        let is_parameter = |byte: &u8| matches!(byte, b'0'..=b';');
        let len = sequence.iter().take_while(|it| is_parameter(it)).count();
        let (parameters, after) = sequence.split_at(len);
        match after.first() {
            Some(b'm') => out.extend_from_slice(style(parameters).as_bytes()),
            _ => out.extend_from_slice(parameters),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// Parameters of a style with the first sixteen colours in their short form.
fn style(parameters: &[u8]) -> String {
    let text = String::from_utf8_lossy(parameters);
    let mut all = text.split(';').peekable();
    let mut short = Vec::new();
    while let Some(one) = all.next() {
        if !matches!(one, "38" | "48") || all.peek() != Some(&"5") {
            short.push(one.to_owned());
            continue;
        }
        all.next();
        let base = if one == "38" { 30 } else { 40 };
        let colour = all.next().unwrap_or_default();
        short.push(match colour.parse::<u8>() {
            Ok(dark @ 0..8) => (base + dark).to_string(),
            Ok(bright @ 8..16) => (base + 60 + bright - 8).to_string(),
            _ => format!("{one};5;{colour}"),
        });
    }
    short.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sixteen_colours_are_short() {
        let text = "\x1b[1;1H\x1b[38;5;1;49mred\x1b[38;5;9;48;5;15m \x1b[38;5;200;1m\x1b[38;2;1;2;3m38;5;1m\x1b[0m\x1b[38";
        let mut out = SixteenColours::new(Vec::new());
        for part in text.as_bytes().chunks(3) {
            out.write_all(part).unwrap();
        }
        out.flush().unwrap();
        let want = "\x1b[1;1H\x1b[31;49mred\x1b[91;107m \x1b[38;5;200;1m\x1b[38;2;1;2;3m38;5;1m\x1b[0m\x1b[38";
        assert_eq!(String::from_utf8(out.to).unwrap(), want);
    }
}
