//! The task of an outgoing connection that is sent over a session: waits until its messages are durable at the daemon. Start
//! with [`SessionTask`].

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::sync::{Arc, Mutex, PoisonError};

use framing_core::session::Device;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::commands::replay::sender::{LINGER, Queued, SendCommand};
use crate::commands::replay::totals::ReplayTotals;
use crate::commands::send::session::not_recorded as of_refused;
use crate::commands::session::client::{CONNECT_TIMEOUT, RefusedMessages, SessionClient};
use crate::commands::session::device::mapped_id;
use crate::commands::session::queue::Queue;
use crate::error::SessionError;
use crate::tls::client::Connector;
use blocksd_engine::batch::Item;

/// Length of the ring of each session, in bytes, unless a message needs more.
const RING_LEN: usize = 128 << 10;
/// The device id of a recorded device without a name.
const UNNAMED: &str = "unknown";

/// The first session that failed. It ends the replay.
pub(super) type SessionFailure = Arc<Mutex<Option<SessionError>>>;

/// The state of a task.
#[derive(Debug)]
pub(super) struct SessionTask {
    /// Address of the daemon.
    pub(super) address: String,
    /// Connects to it.
    pub(super) connector: Connector,
    /// The recorded device.
    pub(super) device: Arc<str>,
    /// The device and the number of the recorded connection.
    pub(super) label: String,
    /// What to send. The end of the queue is the end of the session.
    pub(super) queue: Receiver<Queued>,
    /// Counts of all connections.
    pub(super) totals: Arc<ReplayTotals>,
    /// Cancelled by an interrupt, and by a session that fails.
    pub(super) stop: CancellationToken,
    /// Has the error of such a session.
    pub(super) failure: SessionFailure,
}

impl SessionTask {
    /// Sends everything, and returns when it is acknowledged. Counts messages, and stores a failure.
    pub(super) async fn run(self) {
        let Self {
            address,
            connector,
            device,
            label,
            queue: commands,
            totals,
            stop,
            failure,
        } = self;
        let id = match mapped_id(&device) {
            id if id.is_empty() => UNNAMED.to_owned(),
            id => id,
        };
        let Ok(device) = Device::new(&id) else {
            totals.cut_off();
            return;
        };
        let mut client =
            SessionClient::new(&address, connector, CONNECT_TIMEOUT, RING_LEN).with_label(&label);
        let (to, input) = mpsc::channel(1);
        let mut queue = Queue::new(input).leaving_out();
        let feeding = feed(commands, to, &totals, &label, &stop);
        let delivering = async {
            // A connection without messages needs no session.
            queue.fill().await;
            match queue.is_done() {
                true => Ok(()),
                false => client.deliver(&device, &mut queue).await,
            }
        };
        let delivered = tokio::select! {
            delivered = delivering => Some(delivered),
            () = async { feeding.await; std::future::pending().await } => None,
            () = async { stop.cancelled().await; sleep(LINGER).await } => None,
        };
        let ((messages, bytes), (left, left_bytes)) = (queue.taken(), client.unacknowledged());
        let not_recorded = client.refused();
        let RefusedMessages {
            messages: refused,
            bytes: refused_bytes,
            ..
        } = not_recorded.unwrap_or_default();
        totals.sent(
            messages - left - refused,
            bytes - left_bytes - refused_bytes,
        );
        if let Some(refused) = not_recorded {
            (0..refused.messages).for_each(|_| totals.unsent());
            let error = of_refused(refused);
            totals.print(format_args!("blocksd: {label}: {error}"));
        }
        if let Some(refused) = queue.refused() {
            (0..queue.left_out()).for_each(|_| totals.unsent());
            totals.print(format_args!(
                "blocksd: {label}: messages left out: {}; the first has {} bytes: {}",
                queue.left_out(),
                refused.len,
                refused.error
            ));
        }
        match delivered {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                totals.cut_off();
                totals.print(format_args!("blocksd: {label}: {error}"));
                let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
                stop.cancel();
            }
            None if left == 0 => {}
            None => totals.cut_off(),
        }
    }
}

/// Passes messages on until the queue ends, or the replay is interrupted.
async fn feed(
    mut commands: Receiver<Queued>,
    to: Sender<Vec<Vec<u8>>>,
    totals: &ReplayTotals,
    label: &str,
    stop: &CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = commands.recv() => next,
            () = stop.cancelled() => None,
        };
        let Some(Queued { command, memory }) = next else {
            return;
        };
        let messages = match command {
            // Boundaries of series are not recorded in a session.
            SendCommand::Framing(_) | SendCommand::End => Ok(Vec::new()),
            SendCommand::Message(bytes) => Ok(vec![bytes]),
            SendCommand::Batch(batch) => {
                let messages = batch.items().filter_map(|item| match item {
                    Item::Message(bytes) | Item::Piece { bytes, .. } => Some(bytes.to_vec()),
                    _ => None,
                });
                Ok(messages.collect())
            }
            SendCommand::Stored(message) => read(message.file).map(|message| vec![message]),
            SendCommand::Cut(_) => {
                totals.incomplete();
                Ok(Vec::new())
            }
        };
        let messages = messages.unwrap_or_else(|error| {
            totals.unsent();
            totals.print(format_args!(
                "blocksd: {label}: a message is left out, since it cannot be read: {error}"
            ));
            Vec::new()
        });
        if !messages.is_empty() && to.send(messages).await.is_err() {
            return;
        }
        drop(memory);
    }
}

/// Reads a message of a temporary file, which the ring must hold anyway.
fn read(mut file: File) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut message)?;
    Ok(message)
}
