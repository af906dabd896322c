//! Messages from before somebody watched a device: [`Past::read`] takes them from the recording.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::CommandError;
use crate::fields::{FieldRow, RowFilter, RowSink, Rows};
use crate::recorded::from_log::EventReader;
use blocksd_recording::{Error, LostRange, Message, Reader, Visitor, Wanted};

/// Longest time for which a recording is read at once.
const BUDGET: Duration = Duration::from_secs(3);
/// Length of the first part that is read, which is the newest. Each further part is twice as long. It is short, because a part is
/// read from its beginning: of one that takes too long, the newest messages would be missing.
const FIRST_PART_NS: u64 = 1_000_000_000;

/// Whether the values of the past are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    /// There is no recording.
    None,
    /// They are being read.
    Loading,
    /// All that a plot can show are known.
    Complete,
    /// The older ones are missing: reading them takes too long.
    Partial,
}

impl History {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Loading => "loading",
            Self::Complete => "complete",
            Self::Partial => "partial",
        }
    }
}

/// The recorded messages of a device in a range of time, in nanoseconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) directory: PathBuf,
    pub(super) device: String,
    pub(super) from: u64,
    /// The time after the last one.
    pub(super) to: u64,
}

/// Receives messages of the past.
pub(super) trait PastSink {
    /// Receives the next message of a part. Returns whether it wants more.
    fn row(&mut self, row: &FieldRow<'_>) -> bool;

    /// Receives the end of a part. The next one is earlier. Returns whether it wants more.
    fn end_part(&mut self) -> bool {
        true
    }

    /// Receives the end of a part that took too long: its newest messages are missing.
    fn abort_part(&mut self) {}
}

impl Past {
    /// Passes the messages on, the newest part first, and each part in its order. Returns whether all were read.
    ///
    /// A range of a file that is lost, or a file that cannot be read, is left out.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub(super) fn read(&self, to_sink: &mut impl PastSink) -> Result<bool, CommandError> {
        let started = Instant::now();
        let (mut to, mut len) = (self.to, FIRST_PART_NS);
        while self.from < to {
            let from = self.from.max(to.saturating_sub(len));
            let sink = PastRows {
                sink: &mut *to_sink,
                until: started + BUDGET,
                is_over: false,
            };
            let mut rows = PastVisitor {
                reader: EventReader::new(None),
                rows: Rows::new(sink, RowFilter::new(&[], None), u64::MAX),
            };
            let wanted = Wanted {
                devices: vec![self.device.clone()],
                from,
                to,
            };
            match Reader::new(vec![self.directory.clone()], wanted).visit(&mut rows) {
                Ok(_) => {}
                Err(_) if rows.rows.sink.is_over => {
                    to_sink.abort_part();
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            (to, len) = (from, len.saturating_mul(2));
            if !to_sink.end_part() {
                return Ok(self.from == to);
            }
            // The next part takes as long as all of those before.
            if self.from < to && BUDGET < 2 * started.elapsed() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Ends when no more rows are wanted, or when time is over.
struct PastRows<'a, S> {
    sink: &'a mut S,
    until: Instant,
    is_over: bool,
}

impl<S: PastSink> RowSink for PastRows<'_, S> {
    const IS_SHOWN: bool = false;

    fn row(&mut self, row: &FieldRow<'_>) -> Result<(), CommandError> {
        self.is_over = !self.sink.row(row) || self.until < Instant::now();
        match self.is_over {
            true => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Turns recorded messages into rows.
struct PastVisitor<S> {
    reader: EventReader,
    rows: Rows<S>,
}

impl<S: RowSink> Visitor for PastVisitor<S> {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        self.reader.message(message, &mut self.rows)
    }

    fn lost(&mut self, _file: &Path, _lost: &LostRange) -> Result<(), CommandError> {
        self.reader.finish(&mut self.rows)
    }

    fn gap(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.rows)
    }

    fn unreadable(&mut self, _error: Error) -> Result<(), CommandError> {
        Ok(())
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.rows)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, StreamPosition};
    use blocksd_recording::{Log, LogOptions};
    use framing_core::{AnyFraming, Blocks};
    use tempfile::TempDir;

    use super::*;
    use crate::recorded::to_log::EventWriter;
    use crate::view::samples::messages;

    fn source(device: &str) -> Arc<ConnectionInfo> {
        Arc::new(ConnectionInfo {
            conn: device.len() as u64,
            device: device.into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: Encoding::new("json"),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        })
    }

    /// A recording of two devices, with two messages of each a second, of which the second is no JSON.
    fn record(seconds: u64) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        let log = Log::open(folder.path(), LogOptions::default()).expect("a log");
        let mut writer = EventWriter::new(log);
        let sources = ["imu", "pump"].map(source);
        for second in 1..=seconds {
            for source in &sources {
                let text = format!(r#"{{"{}":{second}}}"#, source.device);
                let event = Event {
                    source: Arc::clone(source),
                    time: UNIX_EPOCH + Duration::from_secs(second),
                    kind: EventKind::Batch {
                        batch: Arc::new(messages(&[text.as_bytes(), b"no json"])),
                        position: StreamPosition::default(),
                    },
                };
                writer.event(&event).expect("an event");
            }
        }
        writer.commit().expect("a commit");
        writer.finish().expect("the end");
        folder
    }

    fn seconds(past: &Past, most: usize) -> (bool, Vec<u64>) {
        let mut seconds = Seconds(Vec::new(), most);
        let whole = past.read(&mut seconds);
        (whole.expect("a recording"), seconds.0)
    }

    /// The seconds of messages, at most so many.
    struct Seconds(Vec<u64>, usize);

    impl PastSink for Seconds {
        fn row(&mut self, row: &FieldRow<'_>) -> bool {
            assert_eq!(row.device, "imu");
            let text = std::str::from_utf8(row.object).expect("UTF-8");
            let second = row.time / 1_000_000_000;
            self.0.push(second);
            assert_eq!(text, format!(r#"{{"imu":{second}}}"#));
            self.0.len() < self.1
        }
    }

    #[test]
    fn the_newest_part_comes_first_and_each_message_once() {
        let folder = record(500);
        let past = Past {
            directory: folder.path().to_owned(),
            device: "imu".to_owned(),
            from: 100_000_000_000,
            to: 401_000_000_000,
        };
        let (is_whole, mut found) = seconds(&past, usize::MAX);
        // The parts: a second, two, four, and so on.
        let ends = [(0, 400), (1, 398), (2, 399), (3, 394), (7, 386)];
        assert!(is_whole && ends.iter().all(|(at, second)| found[*at] == *second));
        found.sort_unstable();
        assert_eq!(found, (100..=400).collect::<Vec<_>>());
        assert_eq!(seconds(&past, 3), (false, vec![400, 398, 399]));
        let empty = Past {
            to: past.from,
            ..past.clone()
        };
        assert_eq!(seconds(&empty, usize::MAX), (true, vec![]));
        let missing = Past {
            directory: folder.path().join("missing"),
            ..past
        };
        assert!(missing.read(&mut Seconds(Vec::new(), 1)).is_err());
    }
}
