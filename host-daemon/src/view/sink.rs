//! The sink of the view: a [`ViewSink`] reads events on a thread that gives way to all others.

use std::sync::Arc;

use tracing::debug;

use crate::service::priority;
use crate::view::View;
use crate::view::reading::EntryReader;
use blocksd_engine::error::SinkError;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Events, Sink};

/// Memory of the messages that wait for the view, in bytes.
const QUEUE_BYTES: usize = 2 << 20;

/// Adds events to a view.
#[derive(Debug)]
pub struct ViewSink(pub Arc<View>);

impl ViewSink {
    /// How the sink gets its events.
    pub const DELIVERY: Delivery = Delivery::Watched {
        max_bytes: QUEUE_BYTES,
    };
}

impl Sink for ViewSink {
    fn name(&self) -> &'static str {
        "view"
    }

    fn run(self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
        priority::lower();
        let Self(view) = *self;
        let mut reader = EntryReader::default();
        loop {
            match events.wait() {
                Next::Event(event) => {
                    let needs = view.lock().watched.needs(&event.source.device);
                    match reader.read(&event, needs) {
                        Ok(reading) => view.add(&event, reading),
                        Err(error) => debug!("view: a message is not shown: {error}"),
                    }
                }
                // The devices count what is not shown.
                Next::Lost(_) | Next::Empty => {}
                Next::End => return Ok(()),
            }
            view.take_undecoded();
        }
    }
}
