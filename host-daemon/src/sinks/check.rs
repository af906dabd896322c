//! The sink of a daemon without recording and without output: [`Check`] only finds undecodable messages.

use blocksd_engine::batch::Item;
use blocksd_engine::error::SinkError;
use blocksd_engine::event::EventKind;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Events, Interest, Sink};

use crate::payload::Inspector;

/// Decodes messages and discards them. Connections without a decoding do not reach it.
#[derive(Debug)]
pub struct Check(pub Inspector);

impl Sink for Check {
    fn name(&self) -> &'static str {
        "check"
    }

    fn interest(&self) -> Interest {
        Interest::Encoded
    }

    fn run(mut self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
        while let Next::Event(event) = events.wait() {
            match &event.kind {
                EventKind::Batch { batch, position } => {
                    let mut position = *position;
                    for item in batch.items() {
                        if let Item::Message(bytes) = item {
                            self.0.inspect(&event.source, position.seq, bytes);
                        }
                        position.pass(&item);
                    }
                }
                EventKind::Closed { .. } => self.0.closed(event.source.conn),
                _ => {}
            }
        }
        Ok(())
    }
}
