//! The threads of sinks: [`SinkThread`] starts one, and [`end_all`] waits for their end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::error::{Error, SinkError, panic_message};
use crate::sink::{Delivery, Events, Sink, Supervision, Supervisor};

/// Interval at which the end of a sink is supervised.
const LOOK: Duration = Duration::from_millis(1);

/// A sink whose thread is not started yet.
#[derive(Debug)]
pub(super) struct AddedSink {
    pub(super) sink: Box<dyn Sink>,
    pub(super) delivery: Delivery,
    pub(super) events: Events,
}

/// A running sink.
pub(super) struct SinkThread {
    name: &'static str,
    is_lossy: bool,
    supervisor: Supervisor,
    thread: JoinHandle<Result<(), SinkError>>,
}

impl SinkThread {
    pub(super) fn start(waiting: AddedSink, stop: CancellationToken) -> Result<Self, Error> {
        let AddedSink {
            sink,
            delivery,
            events,
        } = waiting;
        let (name, supervisor) = (sink.name(), sink.supervisor());
        let is_lossy = delivery.is_lossy();
        let runtime = Handle::current();
        let run = move || {
            let _runtime = runtime.enter();
            // Stop the engine however this thread ends, so that no more messages are received and lost.
            let _stop = (!is_lossy).then(|| stop.drop_guard());
            let ran = catch_unwind(AssertUnwindSafe(|| sink.run(events)));
            let result = ran.unwrap_or_else(|panic| {
                let message = panic_message(&*panic);
                error!("the sink `{name}` panicked; the others continue: {message}");
                resume_unwind(panic)
            });
            if let (true, Err(error)) = (is_lossy, &result) {
                warn!("the sink `{name}` failed; the others continue: {error}");
            }
            result
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        Ok(Self {
            name,
            is_lossy,
            supervisor,
            thread: thread.map_err(Error::Thread)?,
        })
    }

    /// Returns the result of the sink, or the thread itself if it is still running.
    fn try_end(mut self) -> Result<Result<(), Error>, Self> {
        let name = self.name;
        // Do not propagate a panic: the other sinks must end in order.
        let ended = if self.thread.is_finished() {
            self.thread.join()
        } else {
            match catch_unwind(AssertUnwindSafe(|| (self.supervisor)())) {
                Ok(Supervision::Wait) => return Err(self),
                Ok(Supervision::GiveUp(result)) => {
                    if let (true, Err(error)) = (self.is_lossy, &result) {
                        warn!("the sink `{name}` did not end and was abandoned: {error}");
                    }
                    Ok(result)
                }
                Err(panic) => Err(panic),
            }
        };
        let result = match ended {
            // It was logged when the sink ended.
            Ok(Err(_)) if self.is_lossy => Ok(()),
            Ok(result) => result,
            Err(panic) => Err(panicked(&*panic)),
        };
        Ok(result.map_err(|source| Error::Sink { name, source }))
    }
}

/// Converts the panic of a sink to an error.
fn panicked(panic: &(dyn Any + Send)) -> SinkError {
    format!("panicked: {}", panic_message(panic)).into()
}

/// Waits until all sinks have ended.
pub(super) async fn end_all(mut threads: Vec<SinkThread>) -> Vec<Result<(), Error>> {
    let mut results = Vec::new();
    loop {
        let mut left = Vec::new();
        for thread in threads {
            match thread.try_end() {
                Ok(result) => results.push(result),
                Err(thread) => left.push(thread),
            }
        }
        if left.is_empty() {
            return results;
        }
        threads = left;
        tokio::time::sleep(LOOK).await;
    }
}
