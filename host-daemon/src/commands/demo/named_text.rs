//! The output of the demo's daemon: [`NamedText`] prints events as text, with the names of the devices, and counts them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use blocksd_engine::event::{ConnectionInfo, Dropped, Event, EventKind, Peer};
use tokio::sync::Notify;

use crate::commands::demo::tally::Tally;
use crate::commands::demo::{BOARD, Names, lock};
use crate::output::{Format, Out, Text};
use crate::recorded::lifecycle::Lifecycle;

/// Counts of the messages that were received, by device.
type Received = Arc<Mutex<HashMap<&'static str, Tally>>>;

/// Formats events as text with the names of the devices, and counts them by device.
pub(super) struct NamedText {
    text: Text,
    names: Names,
    at: HashMap<u64, &'static str>,
    arrived: Received,
    board_is_up: Arc<Notify>,
}

impl NamedText {
    /// Takes names from `names`, counts in `arrived`, and notifies `board_is_up` when the board has connected.
    pub(super) fn new(names: &Names, arrived: &Received, board_is_up: &Arc<Notify>) -> Self {
        Self {
            text: Text::new(false),
            names: Arc::clone(names),
            at: HashMap::new(),
            arrived: Arc::clone(arrived),
            board_is_up: Arc::clone(board_is_up),
        }
    }
}

impl Format for NamedText {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        let conn = event.source.conn;
        if let EventKind::Opened { peer } = &event.kind {
            let names = lock(&self.names);
            let name = match peer {
                Peer::Network(address) => names.get(address).copied().unwrap_or(BOARD),
                Peer::Local(_) => BOARD,
            };
            drop(names);
            self.at.insert(conn, name);
            if name == BOARD {
                self.board_is_up.notify_one();
            }
        }
        let name = self.at.get(&conn).copied().unwrap_or(BOARD);
        if let EventKind::Batch { batch, .. } = &event.kind {
            let mut arrived = lock(&self.arrived);
            let arrived = arrived.entry(name).or_default();
            for item in batch.items() {
                arrived.count(&item);
            }
        }
        let source = ConnectionInfo {
            conn,
            device: format!("{name:<6}").into(),
            framing: event.source.framing,
            encoding: event.source.encoding.clone(),
            first_seq: event.source.first_seq,
            session: event.source.session.clone(),
            stats: event.source.stats.clone(),
        };
        let event = Event {
            source: Arc::new(source),
            ..event.clone()
        };
        self.text.event(&event, out)
    }

    fn lifecycle(&mut self, event: &Lifecycle<'_>, out: &mut Out) -> io::Result<()> {
        self.text.lifecycle(event, out)
    }

    fn lost(&mut self, dropped: Dropped, out: &mut Out) -> io::Result<()> {
        self.text.lost(dropped, out)
    }
}
