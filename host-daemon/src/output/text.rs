//! `--output text` and `--output hex`: one line (or one dump) a block, for people.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::time::SystemTime;

use anstyle::AnsiColor;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::output::bounded_line::{BoundedLine, Readable, write_meaning};
use crate::output::escape::readable;
use crate::output::{Format, Out};
use crate::payload::{DecodeError, Decoders, Decoding, LogFrame, Meaning, Style};
use blocksd_engine::batch::Item;
use blocksd_engine::event::{Dropped, Event, EventKind};

/// Writes the payload as text. What could confuse a terminal is escaped.
#[derive(Debug)]
pub struct Text {
    zone: TimeZone,
    colour: bool,
    decoders: Decoders,
}

/// Writes the payload as a dump of its bytes.
#[derive(Clone, Debug)]
pub struct Hex {
    zone: TimeZone,
}

/// Bytes in a line of a dump.
const DUMP_LEN: usize = 16;

impl Text {
    /// With times of this machine's zone; with the levels of a log in `colour`, for a terminal.
    #[must_use]
    pub fn new(colour: bool) -> Self {
        Self {
            zone: TimeZone::system(),
            colour,
            decoders: Decoders::default(),
        }
    }

    /// Shows what a message says.
    fn meaning(
        colour: bool,
        meaning: &Meaning<'_>,
        bounded: &mut BoundedLine<'_>,
    ) -> Result<(), DecodeError> {
        match meaning {
            // `--decode text` has checked them.
            Meaning::Raw(bytes) => {
                let text = std::str::from_utf8(bytes).unwrap_or_default();
                Readable::new(bounded).write_str(text)?;
            }
            Meaning::Value(value) => value.write(Style::Fields, bounded)?,
            Meaning::Build { id, known: true } => write!(bounded, "firmware build {id}")?,
            Meaning::Build { id, known: false } => write!(
                bounded,
                "firmware build {id} is not that of the ELF file: its log is not decoded"
            )?,
            Meaning::Log(log) => Self::log(colour, log, bounded)?,
        }
        Ok(())
    }

    fn log(
        colour: bool,
        log: &LogFrame<'_>,
        bounded: &mut BoundedLine<'_>,
    ) -> Result<(), DecodeError> {
        if let Some(level) = log.level() {
            let style = if colour {
                level_style(level)
            } else {
                anstyle::Style::new()
            };
            write!(bounded, "{style}{:<5}{style:#} ", level.to_uppercase())?;
        }
        if log.has_time() {
            log.write_time(&mut Readable::new(bounded))?;
            bounded.write_str(" ")?;
        }
        log.write_message(&mut Readable::new(bounded))?;
        if let Some(location) = log.location() {
            let style = if colour {
                anstyle::Style::new().dimmed()
            } else {
                anstyle::Style::new()
            };
            write!(bounded, " {style}(")?;
            write!(Readable::new(bounded), "{location}")?;
            write!(bounded, "){style:#}")?;
        }
        Ok(())
    }
}

fn level_style(level: &str) -> anstyle::Style {
    let colour = match level {
        "error" => AnsiColor::Red,
        "warn" => AnsiColor::Yellow,
        "info" => AnsiColor::Green,
        "debug" => AnsiColor::Blue,
        _ => AnsiColor::BrightBlack,
    };
    colour.on_default()
}

impl Hex {
    /// With times of this machine's zone.
    #[must_use]
    pub fn new() -> Self {
        Self {
            zone: TimeZone::system(),
        }
    }
}

impl Default for Hex {
    fn default() -> Self {
        Self::new()
    }
}

impl Format for Text {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        let (decoder, colour) = (self.decoders.of(&event.source), self.colour);
        write_event(event, &self.zone, out, |seq, bytes, out| {
            out.reserve(bytes.len());
            let written = match (seq, decoder.decoding()) {
                (None, _) | (_, Decoding::Raw) => {
                    readable(bytes, out.line());
                    Ok(())
                }
                (Some(seq), _) => {
                    let line = out.line();
                    write_meaning(decoder, seq, bytes, line, |it, bounded| {
                        Self::meaning(colour, it, bounded)
                    })
                }
            };
            if let Err(undecodable) = written {
                write!(out.line(), "fault: {undecodable}: ")?;
                readable(bytes, out.line());
                out.undecodable();
            }
            out.end_line()
        })
    }

    fn lost(&mut self, dropped: Dropped, out: &mut Out) -> io::Result<()> {
        write_lost(dropped, &self.zone, out)
    }
}

impl Format for Hex {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        write_event(event, &self.zone, out, |_, bytes, out| {
            write!(out.line(), "{} bytes", bytes.len())?;
            out.end_line()?;
            for (index, row) in bytes.chunks(DUMP_LEN).enumerate() {
                let line = out.line();
                write!(line, "  {:08x} ", index * DUMP_LEN)?;
                for column in 0..DUMP_LEN {
                    let gap = if column == DUMP_LEN / 2 { " " } else { "" };
                    match row.get(column) {
                        Some(byte) => write!(line, "{gap} {byte:02x}")?,
                        None => write!(line, "{gap}   ")?,
                    }
                }
                line.extend_from_slice(b"  |");
                line.extend(row.iter().map(|&byte| {
                    if matches!(byte, b' '..=b'~') {
                        byte
                    } else {
                        b'.'
                    }
                }));
                line.push(b'|');
                out.end_line()?;
            }
            Ok(())
        })
    }

    fn lost(&mut self, dropped: Dropped, out: &mut Out) -> io::Result<()> {
        write_lost(dropped, &self.zone, out)
    }
}

fn write_lost(dropped: Dropped, zone: &TimeZone, out: &mut Out) -> io::Result<()> {
    let time = ClockTime(SystemTime::now(), zone);
    let Dropped { messages, others } = dropped;
    write!(out.line(), "{time} {messages} blocks")?;
    if others != 0 {
        write!(out.line(), " and {others} other events")?;
    }
    write!(
        out.line(),
        " are not shown: they came faster than this is read"
    )?;
    out.end_line()
}

/// The beginning of every line: when, and from where.
fn write_head(event: &Event, zone: &TimeZone, line: &mut Vec<u8>) -> io::Result<()> {
    write!(
        line,
        "{} {} ",
        ClockTime(event.time, zone),
        event.source.device
    )
}

/// Writes an event; `payload` gets the bytes of each block with its sequence number, and of each piece without.
fn write_event(
    event: &Event,
    zone: &TimeZone,
    out: &mut Out,
    mut payload: impl FnMut(Option<u64>, &[u8], &mut Out) -> io::Result<()>,
) -> io::Result<()> {
    let conn = event.source.conn;
    match &event.kind {
        EventKind::Opened { peer } => {
            write_head(event, zone, out.line())?;
            write!(out.line(), "#{conn} opened by {peer}")?;
            out.end_line()
        }
        EventKind::Closed {
            messages,
            bytes,
            reason,
        } => {
            write_head(event, zone, out.line())?;
            write!(
                out.line(),
                "#{conn} closed ({reason}): {messages} blocks, {bytes} bytes"
            )?;
            out.end_line()
        }
        EventKind::Suppressed(sums) => {
            write_head(event, zone, out.line())?;
            if conn != 0 {
                write!(out.line(), "#{conn} ")?;
            }
            write!(out.line(), "recorded as counts only:")?;
            let counts = sums.counts().filter(|(_, count)| *count != 0);
            for (index, (word, count)) in counts.enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(out.line(), "{comma} {count} {word}")?;
            }
            out.end_line()
        }
        EventKind::Batch { batch, position } => {
            let mut position = *position;
            let mut head = Vec::new();
            write_head(event, zone, &mut head)?;
            for item in batch.items() {
                out.line().extend_from_slice(&head);
                match &item {
                    Item::Message(bytes) => payload(Some(position.seq), bytes, out)?,
                    Item::Piece { bytes, .. } => payload(None, bytes, out)?,
                    Item::End => {
                        write!(
                            out.line(),
                            "#{conn} series of {} blocks ended",
                            position.in_series
                        )?;
                        out.end_line()?;
                    }
                    Item::Fault(fault) => {
                        write!(out.line(), "#{conn} fault: {fault}")?;
                        out.end_line()?;
                    }
                }
                position.pass(&item);
            }
            Ok(())
        }
    }
}

/// The time of day, to the millisecond.
struct ClockTime<'a>(SystemTime, &'a TimeZone);

impl fmt::Display for ClockTime<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Timestamp::try_from(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        write!(
            f,
            "{}",
            time.to_zoned(self.1.clone()).strftime("%H:%M:%S%.3f")
        )
    }
}
