//! Pieces in a recording, if a chunk ends between a piece and its event: a lost chunk never joins a piece with the event of
//! another.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use blocksd::error::CommandError;
use blocksd::recorded::from_log::{EventReader, EventVisitor};
use blocksd::recorded::lifecycle::Lifecycle;
use blocksd::recorded::ranges::CHECKER;
use blocksd::recorded::to_log::EventWriter;
use blocksd_engine::batch::{Batch, Item};
use blocksd_engine::event::{ConnectionInfo, Encoding, Event, EventKind, StreamPosition};
use blocksd_recording::internals::storage::Directory;
use blocksd_recording::{Log, LostRange, Message, Reader, Visitor, Wanted};
use blocksd_tests::recorded::sealed;
use framing_core::{AnyFraming, Blocks};
use tempfile::TempDir;

use super::record::{SETTINGS, common};

/// Longer than a chunk, so that the event of each piece is in the next chunk.
const LEN: usize = 600 << 10;

/// A piece: its connection, the number of its message, its offset in units of [`LEN`], whether it is the first and the
/// last, and its bytes, which are all equal.
type Piece = (u64, u64, u64, bool, bool, u8);

/// Two messages of three pieces for each of two connections of one device, in turn and one after the other.
const SENT: [Piece; 12] = [
    (1, 0, 0, true, false, 1),
    (1, 0, 1, false, false, 2),
    (1, 0, 2, false, true, 3),
    (1, 1, 0, true, false, 4),
    (2, 0, 0, true, false, 5),
    (1, 1, 1, false, false, 6),
    (2, 0, 1, false, false, 7),
    (1, 1, 2, false, true, 8),
    (2, 0, 2, false, true, 9),
    (2, 1, 0, true, false, 10),
    (2, 1, 1, false, false, 11),
    (2, 1, 2, false, true, 12),
];

#[derive(Debug, Default)]
struct Pieces {
    read: Vec<Piece>,
    /// Events of lost pieces.
    orphans: usize,
}

impl EventVisitor for Pieces {
    type Error = CommandError;

    fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        let EventKind::Batch { batch, position } = &event.kind else {
            panic!("{event:?}");
        };
        for item in batch.items() {
            let Item::Piece {
                bytes, first, last, ..
            } = item
            else {
                panic!("{item:?}");
            };
            let fill = bytes[0];
            assert!(bytes.len() == LEN && bytes.iter().all(|byte| *byte == fill));
            let offset = position.offset / LEN as u64;
            self.read
                .push((event.source.conn, position.seq, offset, first, last, fill));
        }
        Ok(())
    }

    fn lifecycle(&mut self, _: &Lifecycle<'_>) -> Result<(), CommandError> {
        Ok(())
    }

    fn other(&mut self, _: &[u8]) -> Result<(), CommandError> {
        self.orphans += 1;
        Ok(())
    }
}

#[derive(Debug, Default)]
struct ReadBack {
    reader: EventReader,
    pieces: Pieces,
    /// The reader of events does not learn of gaps: their extent is not known, for example if a file is missing.
    ignores_gaps: bool,
}

impl Visitor for ReadBack {
    type Error = CommandError;

    fn message(&mut self, message: &Message<'_>) -> Result<(), CommandError> {
        self.reader.message(message, &mut self.pieces)
    }

    fn lost(&mut self, _: &Path, _: &LostRange) -> Result<(), CommandError> {
        self.gap()
    }

    fn gap(&mut self) -> Result<(), CommandError> {
        match self.ignores_gaps {
            true => Ok(()),
            false => self.reader.finish(&mut self.pieces),
        }
    }

    fn idle(&mut self) -> Result<(), CommandError> {
        self.reader.finish(&mut self.pieces)
    }
}

fn read(path: &Path, ignores_gaps: bool) -> Pieces {
    let mut read_back = ReadBack {
        ignores_gaps,
        ..ReadBack::default()
    };
    let reader = Reader::new(vec![path.into()], Wanted::default());
    reader.visit(&mut read_back).unwrap();
    read_back.pieces
}

fn record(folder: &Path) -> PathBuf {
    let directory = Directory::open(folder).unwrap();
    let mut writer = EventWriter::new(Log::new(SETTINGS, common(directory, None), 1));
    for (conn, seq, offset, first, last, fill) in SENT {
        let source = Arc::new(ConnectionInfo {
            conn,
            device: "imu".into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: Encoding::default(),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        });
        let position = StreamPosition {
            seq,
            offset: offset * LEN as u64,
            ..StreamPosition::default()
        };
        let batch = Arc::new(Batch::of_piece(vec![fill; LEN], first, last));
        let kind = EventKind::Batch { batch, position };
        let time = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        writer.event(&Event { source, time, kind }).unwrap();
    }
    writer.finish().unwrap();
    sealed(folder).remove(0)
}

/// Asserts that each piece is one of those that were sent, in order, with its event or with none.
#[track_caller]
fn assert_sent(pieces: &Pieces) {
    let mut sent = SENT.iter();
    for piece in &pieces.read {
        let is_sent = sent.any(|&(conn, seq, offset, first, last, fill)| {
            let whole = (conn, seq, offset, first, last, fill);
            [whole, (conn, seq, 0, false, false, fill)].contains(piece)
        });
        assert!(is_sent, "{piece:?}");
    }
}

#[test]
fn a_lost_chunk_never_joins_a_piece_with_the_event_of_another() {
    let folder = TempDir::new().unwrap();
    let path = record(folder.path());
    let all = read(&path, false);
    assert_eq!((all.read.as_slice(), all.orphans), (&SENT[..], 0));
    let sound = fs::read(&path).unwrap();
    for (at_piece, (conn, seq, _, _, _, fill)) in SENT.into_iter().enumerate() {
        // The chunk with the bytes of this piece, and the event of the piece before.
        let mut bytes = sound.clone();
        let at = bytes.windows(64).position(|it| it == [fill; 64]).unwrap();
        bytes[at] ^= 0x80;
        fs::write(&path, &bytes).unwrap();
        let damaged = read(&path, false);
        assert_eq!(damaged.read.len(), SENT.len() - 1, "{conn} {seq}");
        assert_eq!(damaged.orphans, 1);
        assert_sent(&damaged);
        let before = at_piece.checked_sub(1).map(|before| SENT[before]);
        if before.is_some_and(|before| (before.0, before.1) != (conn, seq)) {
            // Connection and number alone separate these.
            assert_sent(&read(&path, true));
        }

        let recovered = folder.path().join("recovered");
        assert!(CHECKER.recover(&path, &recovered).unwrap().written);
        assert_eq!(read(&recovered, false).read, damaged.read, "{conn} {seq}");
        fs::remove_file(recovered).unwrap();
    }
}
