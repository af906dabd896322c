//! The output of the demo's daemon: [`CountedText`] prints events as text, and counts the messages of each device.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use blocksd_engine::event::{ConnectionInfo, Dropped, Event, EventKind};
use tokio::sync::Notify;

use crate::commands::demo::BOARD;
use crate::commands::demo::tally::Tally;
use crate::output::{Format, Out, Text};
use crate::recorded::lifecycle::Lifecycle;

/// Counts of the messages that were received, by device.
pub(super) type Received = HashMap<Arc<str>, Tally>;

/// Formats events as text with device names of one width, and counts them by device.
pub(super) struct CountedText {
    text: Text,
    received: Arc<Mutex<Received>>,
    board_is_up: Arc<Notify>,
}

impl CountedText {
    /// Counts in `received`, and notifies `board_is_up` when the board has connected.
    pub(super) fn new(received: &Arc<Mutex<Received>>, board_is_up: &Arc<Notify>) -> Self {
        Self {
            text: Text::new(false),
            received: Arc::clone(received),
            board_is_up: Arc::clone(board_is_up),
        }
    }
}

impl Format for CountedText {
    fn event(&mut self, event: &Event, out: &mut Out) -> io::Result<()> {
        let device = &event.source.device;
        match &event.kind {
            EventKind::Opened { .. } if **device == *BOARD => self.board_is_up.notify_one(),
            EventKind::Batch { batch, .. } => {
                let received = self.received.lock();
                let mut received = received.unwrap_or_else(PoisonError::into_inner);
                let tally = received.entry(Arc::clone(device)).or_default();
                for item in batch.items() {
                    tally.count(&item);
                }
            }
            _ => {}
        }
        let source = ConnectionInfo {
            conn: event.source.conn,
            device: format!("{device:<6}").into(),
            framing: event.source.framing,
            encoding: event.source.encoding.clone(),
            first_seq: event.source.first_seq,
            session: event.source.session.clone(),
            certificate: None,
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
