//! `--output text` and `--output hex`: a line or a dump for each message, for people. Start with [`Text`] and [`Hex`].

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::SystemTime;

use anstyle::AnsiColor;

use crate::escape::{readable, readable_text};
use crate::output::bounded_line::{BoundedLine, Readable, write_meaning};
use crate::output::clock::Clock;
use crate::output::{Format, Out, counted};
use crate::payload::{
    DecodeError, Decoders, Decoding, LogFrame, Meaning, Style, Undecodable, fails_as,
};
use crate::recorded::lifecycle::Lifecycle;
use blocksd_engine::batch::Item;
use blocksd_engine::event::{Dropped, Event, EventKind, SessionOpened, UndecodableMessage};
use blocksd_engine::session::{GapCause, SessionGap};

/// Writes payloads as text. Characters that could confuse a terminal are escaped.
#[derive(Debug)]
pub struct Text {
    clock: Clock,
    colour: bool,
    decoders: Decoders,
}

/// Writes payloads as dumps of their bytes.
#[derive(Debug)]
pub struct Hex {
    clock: Clock,
    decoders: Decoders,
}

/// Bytes in a line of a dump.
const DUMP_LEN: usize = 16;

impl Text {
    /// Shows times in the zone of this machine, and log levels in colour if `colour` is set.
    #[must_use]
    pub fn new(colour: bool) -> Self {
        Self::with_clock(Clock::new(), colour)
    }

    /// Shows times by this clock, and log levels in colour if `colour` is set.
    pub(crate) fn with_clock(clock: Clock, colour: bool) -> Self {
        Self {
            clock,
            colour,
            decoders: Decoders::default(),
        }
    }

    /// Writes a decoded message.
    pub(crate) fn meaning(
        colour: bool,
        meaning: &Meaning<'_>,
        bounded: &mut BoundedLine<'_>,
    ) -> Result<(), DecodeError> {
        match meaning {
            // The decoder has checked that it is UTF-8.
            Meaning::Raw(bytes) => {
                let text = std::str::from_utf8(bytes).unwrap_or_default();
                Readable::new(bounded).write_str(text)?;
            }
            Meaning::Value(value) => value.write(Style::Fields, bounded)?,
            Meaning::Build { id, known } => {
                write!(bounded, "firmware build {id}")?;
                bounded.write_str(match known {
                    Some(true) => "",
                    Some(false) => ", of which the ELF file is missing: its log is not decoded",
                    None => "; the ELF file has no build id",
                })?;
            }
            Meaning::Log(log) => Self::log(colour, log, bounded)?,
        }
        Ok(())
    }

    /// How the level of a line of a log is shown.
    pub(crate) fn level_style(level: &str) -> anstyle::Style {
        let colour = match level {
            "error" => AnsiColor::Red,
            "warn" => AnsiColor::Yellow,
            "info" => AnsiColor::Green,
            "debug" => AnsiColor::Blue,
            _ => AnsiColor::BrightBlack,
        };
        colour.on_default()
    }

    /// The rows of a dump, each with its offset.
    pub(crate) fn dump_rows(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
        (0..).step_by(DUMP_LEN).zip(bytes.chunks(DUMP_LEN))
    }

    /// Appends a row of a dump: the offset and the bytes, at most 16.
    pub(crate) fn write_dump_row(offset: usize, row: &[u8], line: &mut Vec<u8>) {
        line.extend_from_slice(format!("  {offset:08x} ").as_bytes());
        for column in 0..DUMP_LEN {
            let gap = if column == DUMP_LEN / 2 { " " } else { "" };
            let byte = match row.get(column) {
                Some(byte) => format!("{gap} {byte:02x}"),
                None => format!("{gap}   "),
            };
            line.extend_from_slice(byte.as_bytes());
        }
        line.extend_from_slice(b"  |");
        line.extend(row.iter().map(|&byte| match byte {
            b' '..=b'~' => byte,
            _ => b'.',
        }));
        line.push(b'|');
    }

    fn log(
        colour: bool,
        log: &LogFrame<'_>,
        bounded: &mut BoundedLine<'_>,
    ) -> Result<(), DecodeError> {
        if let Some(level) = log.level() {
            let style = if colour {
                Self::level_style(level)
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

impl Hex {
    /// Shows times in the zone of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: Clock::new(),
            decoders: Decoders::default(),
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
        write_event(event, &self.clock, out, |(seq, truncated), bytes, out| {
            out.reserve(bytes.len());
            let conn = event.source.conn;
            let start = out.line().len();
            write_message_mark(conn, truncated, out.line())?;
            let written = match (seq, decoder.decoding()) {
                (None, _) | (_, Decoding::Raw) => {
                    readable(bytes, out.line());
                    Ok(())
                }
                (Some(_), _) => {
                    let line = out.line();
                    write_meaning(decoder, bytes, line, |it, bounded| {
                        Self::meaning(colour, it, bounded)
                    })
                }
            };
            if let Err(undecodable) = written {
                if !undecodable.is_repeated {
                    // Like any other fault: only the mark of a message ends with a colon.
                    out.line().truncate(start);
                    write_undecodable(conn, &undecodable, out.line())?;
                }
                readable(bytes, out.line());
                if let Some(seq) = seq {
                    out.undecodable(&event.source, seq, &undecodable);
                }
            }
            out.end_line()
        })
    }

    fn lifecycle(&mut self, event: &Lifecycle<'_>, out: &mut Out) -> io::Result<()> {
        write_lifecycle(event, &self.clock, out)
    }

    fn lost(&mut self, dropped: Dropped, out: &mut Out) -> io::Result<()> {
        write_lost(dropped, &self.clock, out)
    }
}

impl Format for Hex {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        let decoder = self.decoders.of(&event.source);
        write_event(event, &self.clock, out, |(seq, truncated), bytes, out| {
            let conn = event.source.conn;
            match seq.map(|seq| (seq, decoder.check(bytes))) {
                Some((seq, Err(undecodable))) => {
                    match undecodable.is_repeated {
                        true => write_message_mark(conn, truncated, out.line())?,
                        false => write_undecodable(conn, &undecodable, out.line())?,
                    }
                    out.undecodable(&event.source, seq, &undecodable);
                }
                _ => write_message_mark(conn, truncated, out.line())?,
            }
            write!(out.line(), "{}", counted(bytes.len() as u64, "byte"))?;
            out.end_line()?;
            for (offset, row) in Text::dump_rows(bytes) {
                Text::write_dump_row(offset, row, out.line());
                out.end_line()?;
            }
            Ok(())
        })
    }

    fn lifecycle(&mut self, event: &Lifecycle<'_>, out: &mut Out) -> io::Result<()> {
        write_lifecycle(event, &self.clock, out)
    }

    fn lost(&mut self, dropped: Dropped, out: &mut Out) -> io::Result<()> {
        write_lost(dropped, &self.clock, out)
    }
}

fn write_lost(dropped: Dropped, clock: &Clock, out: &mut Out) -> io::Result<()> {
    let time = clock.show(SystemTime::now());
    let Dropped { messages, others } = dropped;
    write!(out.line(), "{time} {}", counted(messages, "block"))?;
    if others != 0 {
        write!(out.line(), " and {}", counted(others, "other event"))?;
    }
    write!(out.line(), " not shown: the output is read too slowly")?;
    out.end_line()
}

/// Writes a line about the daemon itself. Names and reasons come from a file and are escaped.
fn write_lifecycle(event: &Lifecycle<'_>, clock: &Clock, out: &mut Out) -> io::Result<()> {
    let line = out.line();
    write!(line, "{} daemon ", clock.show(event.time().0))?;
    let text = match event {
        Lifecycle::Started {
            version, config, ..
        } => format!("started: version {version}, configuration {config}"),
        Lifecycle::Reloaded { config, .. } => format!("reloaded: configuration {config}"),
        Lifecycle::Repaired {
            file,
            blocks,
            lost_bytes,
            original,
            ..
        } => {
            let (blocks, bytes) = (counted(*blocks, "block"), counted(*lost_bytes, "byte"));
            let kept = original
                .as_ref()
                .map(|name| format!("; original kept as {name}"));
            let kept = kept.unwrap_or_default();
            format!("repaired {file}: {blocks} recovered, {bytes} lost{kept}")
        }
        Lifecycle::Unrepaired { file, error, .. } => format!("cannot repair {file}: {error}"),
        Lifecycle::Stopped { blocks, .. } => format!("stopped: {}", counted(*blocks, "block")),
    };
    readable_text(&text, line);
    out.end_line()
}

/// Writes the beginning of every line: the time and the device.
fn write_prefix(event: &Event, clock: &Clock, line: &mut Vec<u8>) -> io::Result<()> {
    write!(line, "{} ", clock.show(event.time))?;
    // A file may hold any name.
    readable_text(&event.source.device, line);
    line.push(b' ');
    Ok(())
}

/// Writes the number of a connection, if it is known.
fn write_conn(conn: u64, line: &mut Vec<u8>) -> io::Result<()> {
    match conn {
        0 => Ok(()),
        _ => write!(line, "#{conn} "),
    }
}

/// Writes the number of the connection of a message, if it is known. The colon distinguishes a message from an event
/// whose text it imitates.
fn write_message_mark(conn: u64, truncated: bool, line: &mut Vec<u8>) -> io::Result<()> {
    match (conn, truncated) {
        (0, false) => Ok(()),
        (_, false) => write!(line, "#{conn}: "),
        (_, true) => {
            write_conn(conn, line)?;
            write!(line, "truncated: ")
        }
    }
}

/// Writes the fault of an undecodable message, before its bytes. The reason may quote the message or name a path.
fn write_undecodable(conn: u64, undecodable: &Undecodable, line: &mut Vec<u8>) -> io::Result<()> {
    write_conn(conn, line)?;
    write!(line, "fault: ")?;
    readable_text(&undecodable.to_string(), line);
    write!(line, ": ")
}

/// Why a gap has no messages, in words.
const fn meaning(cause: GapCause) -> &'static str {
    match cause {
        GapCause::Device => "given up by the device",
        GapCause::Refused => "refused, because it is too long",
        GapCause::Unknown => "acknowledged by a host, not known here",
    }
}

/// Writes an event. Calls `payload` with each message and its sequence number, and with each piece, and whether it ends a
/// truncated message.
fn write_event(
    event: &Event,
    clock: &Clock,
    out: &mut Out,
    mut payload: impl FnMut((Option<u64>, bool), &[u8], &mut Out) -> io::Result<()>,
) -> io::Result<()> {
    let conn = event.source.conn;
    match &event.kind {
        EventKind::Opened { peer } => {
            write_prefix(event, clock, out.line())?;
            write!(out.line(), "#{conn} opened by ")?;
            readable_text(&peer.to_string(), out.line());
            if let Some(certificate) = &event.source.certificate {
                write!(out.line(), " with the certificate of {}", certificate.name)?;
            }
            out.end_line()
        }
        EventKind::Closed {
            messages,
            bytes,
            reason,
            series_open,
        } => {
            write_prefix(event, clock, out.line())?;
            let (blocks, bytes) = (counted(*messages, "block"), counted(*bytes, "byte"));
            let series = if *series_open { "; series open" } else { "" };
            write!(
                out.line(),
                "#{conn} closed ({reason}): {blocks}, {bytes}{series}"
            )?;
            out.end_line()
        }
        EventKind::Session(opened) => {
            write_prefix(event, clock, out.line())?;
            let SessionOpened {
                kind, resume, held, ..
            } = &**opened;
            let held = counted(u64::from(*held), "block");
            let session = event.source.session.as_ref();
            let number = session.map_or(0, |session| session.number());
            write!(
                out.line(),
                "#{conn} session {number:016x} {}: next is block {resume}, the device holds {held}",
                kind.as_str()
            )?;
            out.end_line()
        }
        EventKind::Gap(SessionGap { from, to, cause }) => {
            write_prefix(event, clock, out.line())?;
            // A recording does not have the connection.
            if conn != 0 {
                write!(out.line(), "#{conn} ")?;
            }
            let (blocks, last) = (counted(to - from, "block"), to - 1);
            let why = meaning(*cause);
            write!(out.line(), "gap: {blocks} from {from} to {last}: {why}")?;
            out.end_line()
        }
        EventKind::Silent { since, interval } => {
            write_prefix(event, clock, out.line())?;
            let (since, interval_s) = (clock.show(*since), interval.as_secs_f64());
            write!(
                out.line(),
                "silent: nothing since {since}, and its interval is {interval_s:.1} s"
            )?;
            out.end_line()
        }
        EventKind::Back { silence } => {
            write_prefix(event, clock, out.line())?;
            let silence_s = silence.as_secs_f64();
            write!(out.line(), "back after a silence of {silence_s:.1} s")?;
            out.end_line()
        }
        EventKind::Suppressed(sums) => {
            write_prefix(event, clock, out.line())?;
            write_conn(conn, out.line())?;
            write!(out.line(), "recorded as counts only:")?;
            let counts = sums.counts().filter(|(_, count)| *count != 0);
            for (index, (word, count)) in counts.enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(out.line(), "{comma} {count} {word}")?;
            }
            out.end_line()
        }
        EventKind::Undecodable(message) => {
            let UndecodableMessage {
                seq,
                encoding,
                reason,
            } = &**message;
            write_prefix(event, clock, out.line())?;
            write_conn(conn, out.line())?;
            write!(out.line(), "fault: message {seq} {}", fails_as(encoding))?;
            readable_text(encoding, out.line());
            write!(out.line(), ": ")?;
            readable_text(reason, out.line());
            out.end_line()
        }
        EventKind::Batch { batch, position } => {
            let mut position = *position;
            let mut prefix = Vec::new();
            write_prefix(event, clock, &mut prefix)?;
            for item in batch.items() {
                out.line().extend_from_slice(&prefix);
                match &item {
                    Item::Message(bytes) => payload((Some(position.seq), false), bytes, out)?,
                    Item::Piece {
                        bytes, truncated, ..
                    } => {
                        payload((None, *truncated), bytes, out)?;
                    }
                    Item::End => {
                        let blocks = counted(position.in_series, "block");
                        write!(out.line(), "#{conn} series of {blocks} ended")?;
                        out.end_line()?;
                    }
                    Item::Fault(fault) => {
                        write!(out.line(), "#{conn} fault: {fault}")?;
                        out.end_line()?;
                    }
                    Item::Reset => {
                        write!(
                            out.line(),
                            "#{conn} fault: connection reset between messages"
                        )?;
                        out.end_line()?;
                    }
                    Item::AfterEnd { bytes } => {
                        let bytes = counted(*bytes, "byte");
                        write!(out.line(), "#{conn} {bytes} after the end of the series")?;
                        out.end_line()?;
                    }
                }
                out.end_item(&item);
                position.pass(&item);
            }
            Ok(())
        }
    }
}
