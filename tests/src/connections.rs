//! Connections of a few devices, without sockets, to a recorder: [`Recorder`] performs [`Action`]s, and keeps what was
//! received as a [`Story`].

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blocksd::error::CommandError;
use blocksd::recorded::from_log::EventVisitor;
use blocksd::recorded::lifecycle::Lifecycle;
use blocksd::recorded::to_log::EventWriter;
use blocksd_engine::batch::{Batch, ClosePolicy, Item, OversizePolicy, WholeMessages};
use blocksd_engine::event::{
    ConnectionInfo, Encoding, Event, EventKind, Peer, StreamPosition, Suppressed,
};
use blocksd_engine::pool::Buffer;
use blocksd_engine::reason::CloseReason;
use blocksd_recording::{Compression, Log, LogContext, LogOptions, Packer, Retention};
use framing_core::{AnyDecoder, AnyFraming, Blocks, Fault, Framing, Limits, Lines, Part};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::process::wait_until;

const LIMITS: Limits = Limits {
    block_max: 24,
    skip_max: 1 << 20,
};

/// What the devices and the recorder do.
#[derive(Clone, Debug)]
pub enum Action {
    /// A device opens a connection, in the framing `lines` or `blocks`.
    Open(u8, bool),
    /// A connection sends messages of these lengths, or ends a series.
    Send(Index, Vec<Option<u8>>),
    /// A connection sends a part of a long message.
    SendPart(Index, u8),
    /// A connection closes.
    Close(Index),
    /// The recorder commits.
    Commit,
    /// The recorder restarts: its connections begin at 1 again. Says whether the last file is sealed.
    Restart(bool),
}

/// Random actions.
pub fn actions() -> impl Strategy<Value = Vec<Action>> {
    // Mostly short, some empty, some too long for one piece.
    let len = prop_oneof![
        4 => (1..20_u8).prop_map(Some),
        2 => Just(Some(0)),
        1 => (25..120_u8).prop_map(Some),
        1 => Just(None),
    ];
    let action = prop_oneof![
        3 => (0..3_u8, any::<bool>()).prop_map(|(device, lines)| Action::Open(device, lines)),
        8 => (any::<Index>(), prop::collection::vec(len, 1..8))
            .prop_map(|(at, items)| Action::Send(at, items)),
        3 => (any::<Index>(), 30..60_u8).prop_map(|(at, len)| Action::SendPart(at, len)),
        2 => any::<Index>().prop_map(Action::Close),
        3 => Just(Action::Commit),
        1 => any::<bool>().prop_map(Action::Restart),
    ];
    prop::collection::vec(action, 1..80)
}

/// An event as text, with its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its connection.
    pub conn: u64,
    /// When it happened.
    pub time: SystemTime,
    /// It has at least one byte of payload, and is always recorded.
    pub has_payload: bool,
    /// All of it.
    pub text: String,
}

/// The lines of events, and the counts among them.
#[derive(Debug, Default)]
pub struct Story {
    /// A line for each event.
    pub lines: Vec<Line>,
    /// Counts of events, and their connection.
    pub counts: Vec<(u64, Suppressed)>,
    /// Number of events of pieces that are lost.
    pub orphans: usize,
}

impl Story {
    /// Adds the lines and counts of an event.
    pub fn add(&mut self, event: &Event) {
        let source = &event.source;
        let line = |text: String, has_payload| Line {
            conn: source.conn,
            time: event.time,
            has_payload,
            text: format!("{} {} {text}", source.conn, source.device),
        };
        match &event.kind {
            EventKind::Suppressed(sums) => self.counts.push((source.conn, (**sums).clone())),
            EventKind::Batch { batch, position } => {
                let mut position = *position;
                for item in batch.items() {
                    let StreamPosition {
                        seq,
                        offset,
                        in_series,
                    } = position;
                    let (text, has_payload) = match &item {
                        Item::Message(bytes) => (format!("{seq} {bytes:?}"), !bytes.is_empty()),
                        Item::Piece { first: true, .. } => (format!("{seq} 0 {item:?}"), true),
                        Item::Piece { .. } => (format!("{seq} {offset} {item:?}"), true),
                        Item::End => (format!("end {in_series}"), false),
                        Item::Fault(fault) => (format!("{fault:?}"), false),
                        Item::Reset | Item::AfterEnd { .. } => (format!("{item:?}"), false),
                    };
                    self.lines.push(line(text, has_payload));
                    position.pass(&item);
                }
            }
            kind => self.lines.push(line(format!("{kind:?}"), false)),
        }
    }

    /// The lines with payload.
    pub fn payload(&self) -> Vec<Line> {
        let lines = self.lines.iter();
        lines.filter(|line| line.has_payload).cloned().collect()
    }
}

impl EventVisitor for Story {
    type Error = CommandError;

    fn event(&mut self, event: &Event) -> Result<(), CommandError> {
        self.add(event);
        Ok(())
    }

    fn lifecycle(&mut self, _: &Lifecycle<'_>) -> Result<(), CommandError> {
        Ok(())
    }

    /// The event of a lost piece.
    fn other(&mut self, _: &[u8]) -> Result<(), CommandError> {
        self.orphans += 1;
        Ok(())
    }
}

/// Number of torn files in a folder.
fn torn(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    names
        .filter(|it| it.extension().is_some_and(|it| it == "part"))
        .count()
}

/// An open connection.
struct Connection {
    source: Arc<ConnectionInfo>,
    decoder: AnyDecoder,
    streaming: bool,
    position: StreamPosition,
    messages: (u64, u64),
    /// Bytes that were received and not decoded.
    rest: Vec<u8>,
}

/// A recorder and its connections.
pub struct Recorder<'a> {
    folder: &'a Path,
    packs: bool,
    writer: Option<(EventWriter, Packer)>,
    /// Number of files that are left torn.
    torn: usize,
    conns: Vec<Connection>,
    next_conn: u64,
    now: SystemTime,
    /// What was received.
    pub received: Story,
}

impl std::fmt::Debug for Recorder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl<'a> Recorder<'a> {
    /// Begins to record in a folder. With `packs`, compresses and packs files.
    pub fn new(folder: &'a Path, packs: bool) -> Self {
        let mut recorder = Self {
            folder,
            packs,
            writer: None,
            torn: 0,
            conns: Vec::new(),
            next_conn: 1,
            now: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            received: Story::default(),
        };
        recorder.start();
        recorder
    }

    fn start(&mut self) {
        let context = LogContext::open(self.folder, Arc::default(), Retention::new(None));
        let context = Arc::new(context.unwrap());
        let compression = match self.packs {
            true => Compression::Auto,
            false => Compression::None,
        };
        let packer = Packer::start(&context, compression);
        let options = LogOptions {
            compression,
            rotate_bytes: 3_000,
            sync_after: Duration::from_secs(3600),
            ..LogOptions::default()
        };
        let log = Log::after_others(options, context).unwrap();
        self.writer = Some((EventWriter::new(log), packer));
        self.next_conn = 1;
    }

    /// Closes all connections and ends, or is killed after a commit.
    pub fn end(&mut self, is_sealed: bool) {
        for conn in std::mem::take(&mut self.conns) {
            if is_sealed {
                self.close(conn);
            }
        }
        let Some((mut writer, packer)) = self.writer.take() else {
            return;
        };
        if is_sealed {
            writer.finish().unwrap();
        } else {
            writer.commit().unwrap();
            // The last file stays torn. Another thread seals those before.
            self.torn += usize::from(writer.log().has_file());
            drop(writer);
            wait_until("the other files are sealed", || {
                torn(self.folder) <= self.torn
            });
        }
        packer.finish(Duration::from_secs(60));
    }

    fn emit(&mut self, source: &Arc<ConnectionInfo>, kind: EventKind) {
        self.now += Duration::from_millis(1);
        let event = Event {
            source: Arc::clone(source),
            time: self.now,
            kind,
        };
        self.received.add(&event);
        let (writer, _) = self.writer.as_mut().unwrap();
        writer.event(&event).unwrap();
    }

    /// Performs an action.
    pub fn act(&mut self, action: &Action) {
        match action {
            Action::Open(device, lines) => self.open(*device, *lines),
            Action::Send(at, items) => self.with(*at, |recorder, conn| {
                let wire: Vec<_> = items.iter().map(|item| wire(conn, *item)).collect();
                recorder.receive(conn, &wire.concat());
            }),
            Action::SendPart(at, len) => self.with(*at, |recorder, conn| {
                let whole = wire(conn, Some(200));
                recorder.receive(conn, &whole[..usize::from(*len)]);
                recorder.receive(conn, &whole[usize::from(*len)..]);
            }),
            Action::Close(at) => {
                if !self.conns.is_empty() {
                    let conn = self.conns.remove(at.index(self.conns.len()));
                    self.close(conn);
                }
            }
            Action::Commit => self.writer.as_mut().unwrap().0.commit().unwrap(),
            Action::Restart(is_sealed) => {
                self.end(*is_sealed);
                self.start();
            }
        }
    }

    fn with(&mut self, at: Index, act: impl FnOnce(&mut Self, &mut Connection)) {
        if !self.conns.is_empty() {
            let at = at.index(self.conns.len());
            let mut conn = self.conns.remove(at);
            act(self, &mut conn);
            self.conns.insert(at, conn);
        }
    }

    fn open(&mut self, device: u8, lines: bool) {
        let framing = match lines {
            true => AnyFraming::Lines(Lines),
            false => AnyFraming::Blocks(Blocks),
        };
        let source = Arc::new(ConnectionInfo {
            conn: self.next_conn,
            device: format!("d{device}").into(),
            framing,
            encoding: Encoding::default(),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        });
        self.next_conn += 1;
        let peer = Peer::Local("test".into());
        self.emit(&source, EventKind::Opened { peer });
        self.conns.push(Connection {
            decoder: framing.decoder(),
            source,
            streaming: false,
            position: StreamPosition::default(),
            messages: (0, 0),
            rest: Vec::new(),
        });
    }

    fn receive(&mut self, conn: &mut Connection, wire: &[u8]) {
        let policy = ClosePolicy {
            at_end: false,
            oversize: OversizePolicy::Stream,
        };
        conn.rest.extend_from_slice(wire);
        loop {
            let decoded = Batch::decode(
                Buffer::own(conn.rest.clone()),
                &mut conn.decoder,
                &LIMITS,
                policy,
                WholeMessages::Kept,
                &mut conn.streaming,
            );
            conn.rest.drain(..decoded.used);
            if decoded.batch.items().next().is_some() {
                self.batch(conn, decoded.batch);
            }
            if !decoded.full {
                return;
            }
        }
    }

    fn batch(&mut self, conn: &mut Connection, batch: Batch) {
        let (batch, position) = (Arc::new(batch), conn.position);
        conn.position.pass_all(&batch);
        let (messages, bytes) = batch.messages();
        conn.messages.0 += messages;
        conn.messages.1 += bytes;
        let source = Arc::clone(&conn.source);
        self.emit(&source, EventKind::Batch { batch, position });
    }

    fn close(&mut self, mut conn: Connection) {
        if conn.streaming || !conn.rest.is_empty() {
            let (part, have, want) = (Part::Payload, 1, 2);
            let cut = Batch::of_fault(Fault::Truncated { part, have, want });
            self.batch(&mut conn, cut);
        }
        let (messages, bytes) = conn.messages;
        let reason = CloseReason::Eof;
        let source = Arc::clone(&conn.source);
        self.emit(
            &source,
            EventKind::Closed {
                messages,
                bytes,
                reason,
                series_open: false,
            },
        );
    }
}

/// A message that no other connection sends, or the end of a series.
fn wire(conn: &Connection, len: Option<u8>) -> Vec<u8> {
    let name = format!("{}/{}/", conn.source.conn, conn.source.device);
    let letters = name.bytes().cycle();
    let message = |len: u8| letters.take(len.into()).collect::<Vec<u8>>();
    match (conn.source.framing, len) {
        (AnyFraming::Lines(_), len) => [message(len.unwrap_or(0)).as_slice(), b"\n"].concat(),
        (_, None | Some(0)) => vec![0; 4],
        (_, Some(len)) => [&u32::from(len).to_be_bytes()[..], &message(len)].concat(),
    }
}
