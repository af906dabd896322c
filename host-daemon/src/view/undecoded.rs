//! Messages that another sink could not decode, on their way to the view: an [`UndecodedQueue`].
//!
//! The sink that counts undecodable messages decodes all of them, and the view only those that somebody watches. So the view
//! gets these faults from that sink, which never waits for it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::payload::{Decoding, Undecodable, UndecodableObserver};
use crate::recorded::note::Note;
use crate::view::entry::ViewEntry;
use blocksd_engine::event::{ConnectionInfo, Event, EventKind, UndecodableMessage};

/// Length of the queue. What has no room is counted as the others, and not shown one by one.
const QUEUE_LEN: usize = 1024;

/// A queue of undecodable messages.
#[derive(Debug)]
pub struct UndecodedQueue {
    sender: SyncSender<Event>,
    receiver: Mutex<Receiver<Event>>,
}

/// The end of the queue that a sink has.
#[derive(Debug)]
struct Observer(SyncSender<Event>);

impl UndecodedQueue {
    /// The observer of a sink.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn UndecodableObserver> {
        Arc::new(Observer(self.sender.clone()))
    }

    /// The next message: when it was found, and its fault.
    pub(super) fn take(&self) -> Option<(SystemTime, ViewEntry)> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        let event = receiver.try_recv().ok()?;
        drop(receiver);
        let EventKind::Undecodable(message) = &event.kind else {
            return None;
        };
        let mut line = Vec::new();
        // A write to memory does not fail.
        let _ = Note::recorded_undecodable(&event, message).write(&mut line);
        let entry = ViewEntry {
            device: Arc::clone(&event.source.device),
            level: None,
            line: line.into(),
            content_at: 1,
            payload: Arc::default(),
            decoding: Decoding::Raw,
        };
        Some((event.time, entry))
    }
}

impl Default for UndecodedQueue {
    fn default() -> Self {
        let (sender, receiver) = sync_channel(QUEUE_LEN);
        Self {
            sender,
            receiver: Mutex::new(receiver),
        }
    }
}

impl UndecodableObserver for Observer {
    fn undecodable(&self, source: &Arc<ConnectionInfo>, seq: u64, undecodable: &Undecodable) {
        let message = UndecodableMessage {
            seq,
            encoding: undecodable.as_what.into(),
            reason: undecodable.reason.as_str().into(),
        };
        // If the queue is full, the view shows the count only.
        let _ = self.0.try_send(Event {
            source: Arc::clone(source),
            time: SystemTime::now(),
            kind: EventKind::Undecodable(Box::new(message)),
        });
    }
}

#[cfg(test)]
mod tests {
    use blocksd_engine::event::Encoding;
    use framing_core::{AnyFraming, Blocks};

    use super::*;

    #[test]
    fn messages_become_faults_in_their_order_and_the_queue_is_bounded() {
        let source = Arc::new(ConnectionInfo {
            conn: 7,
            device: "imu".into(),
            framing: AnyFraming::Blocks(Blocks),
            encoding: Encoding::new("json"),
            first_seq: 0,
            session: None,
            certificate: None,
            stats: None,
        });
        let queue = UndecodedQueue::default();
        assert!(queue.take().is_none());
        let observer = queue.observer();
        let undecodable = Undecodable {
            as_what: "json",
            reason: "a \"quote\" and \u{1b}".to_owned(),
            is_repeated: false,
        };
        for seq in 0..QUEUE_LEN as u64 + 10 {
            // Never waits.
            observer.undecodable(&source, seq, &undecodable);
        }
        for seq in 0..QUEUE_LEN as u64 {
            let (_, entry) = queue.take().expect("a fault");
            assert_eq!(&*entry.device, "imu");
            let fault: serde_json::Value = serde_json::from_slice(&entry.line).expect("JSON");
            assert_eq!((&fault["seq"], &fault["conn"]), (&seq.into(), &7.into()));
            assert_eq!(
                (&fault["fault"], &fault["as"]),
                (&"undecodable".into(), &"json".into())
            );
            assert_eq!(fault["reason"], undecodable.reason);
        }
        assert!(queue.take().is_none());
    }
}
