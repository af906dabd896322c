//! Sends messages over an acknowledged session until each is durable at the daemon: [`SessionClient`].

mod ack_wait;
mod conversation;
mod keeper;

use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::pin::pin;
use std::time::Duration;

use blocksd_engine::listen::resolve::resolve;
use framing_core::session::wire::ClosingCode;
use framing_core::session::{Device, Full, SessionSender};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::ack_wait::AckWait;
use self::conversation::{Conversation, converse};
pub(crate) use self::keeper::RefusedMessages;
use self::keeper::{Keeper, RetainedSender};
use crate::commands::session::queue::Queue;
use crate::commands::session::reconnect::{Achieved, Reconnect};
use crate::commands::session::spool::{Spool, Spooled};
use crate::error::{KeptIn, SessionEnd, SessionError, is_final};
use crate::service::log::print_status;
use crate::tls::client::{ClientStream, Connector};

/// How long an attempt to connect may take, at least and at most.
const ATTEMPT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// How long input that can be read at once may take to arrive.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How long there may be no connection, unless the command line says it.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a message in the ring besides its payload.
pub(crate) const HEADER_LEN: usize = 4;

/// Sends messages over a session, and connects again after each interruption.
#[derive(Debug)]
pub(crate) struct SessionClient {
    address: String,
    connector: Connector,
    sender: RetainedSender,
    ring_len: usize,
    keeper: Keeper,
    reconnect: Reconnect,
    begin: Instant,
    /// The text before each report.
    label: String,
    /// The end of the last connection was reported.
    is_reported: bool,
    /// An attempt to connect has ended.
    has_tried: bool,
    /// Messages that came from a spool.
    restored: u64,
    ack_wait: AckWait,
}

impl SessionClient {
    /// Connects to `address`. Gives up when there was no connection for `connect_timeout`. The ring has `ring_len` bytes
    /// until a longer message comes.
    pub(crate) fn new(
        address: &str,
        connector: Connector,
        connect_timeout: Duration,
        ring_len: usize,
    ) -> Self {
        let begin = Instant::now();
        Self {
            address: address.to_owned(),
            connector,
            sender: SessionSender::new(vec![0; ring_len], Full::Refuse),
            ring_len,
            keeper: Keeper::new(None),
            reconnect: Reconnect::new(connect_timeout, begin),
            begin,
            label: String::new(),
            is_reported: false,
            has_tried: false,
            restored: 0,
            ack_wait: AckWait::default(),
        }
    }

    /// Names the session in reports.
    pub(crate) fn with_label(mut self, label: &str) -> Self {
        self.label = format!("{label}: ");
        self
    }

    /// Keeps messages in a spool, and sends those first that it has.
    pub(crate) fn with_spool(mut self, spool: Spool, spooled: Spooled) -> Self {
        let lens = spooled
            .messages
            .iter()
            .map(|message| HEADER_LEN + message.len());
        self.ring_len = self.ring_len.max(lens.sum());
        self.resume(spooled.session, spooled.first);
        self.keeper = Keeper::new(Some(spool));
        self.restored = spooled.messages.len() as u64;
        for message in &spooled.messages {
            self.keeper.restore(&mut self.sender, message);
        }
        self
    }

    /// Messages that are not acknowledged, and their bytes.
    pub(crate) fn unacknowledged(&self) -> (u64, u64) {
        let held = self.sender.unacknowledged();
        let messages = u64::from(held.blocks);
        (
            messages,
            u64::from(held.bytes) - messages * HEADER_LEN as u64,
        )
    }

    /// Messages that were acknowledged and not recorded. They came from a spool, or were in the ring when the daemon
    /// began to take shorter ones only.
    pub(crate) fn refused(&mut self) -> Option<RefusedMessages> {
        self.keeper.refused(&self.sender)
    }

    /// Sends everything in the queue, and returns when each message is acknowledged. A message that is
    /// [refused](Queue::refused) before it is sent, and those after it, are not sent.
    ///
    /// # Errors
    /// [`SessionError`].
    pub(crate) async fn deliver(
        &mut self,
        device: &Device<'_>,
        queue: &mut Queue,
    ) -> Result<(), SessionError> {
        loop {
            self.grow(queue);
            let (end, achieved) = match self.dial(queue).await? {
                Ok(stream) => {
                    let conversation = converse(self, stream, device, queue).await;
                    self.sender.closed();
                    match conversation? {
                        Conversation::Done => {
                            self.keeper.settle(&self.sender);
                            return Ok(());
                        }
                        Conversation::Grow => continue,
                        Conversation::Ended(end, achieved) => (end, achieved),
                    }
                }
                Err(error) => {
                    let address = self.address.clone();
                    (SessionEnd::Connect { address, error }, Achieved::default())
                }
            };
            self.has_tried = true;
            let at = self.next_attempt(&end, achieved);
            self.report(&end, achieved, at.is_some());
            match at {
                Some(at) => self.meanwhile(sleep_until(at), queue).await?,
                None => return Err(self.give_up(end, queue).await?),
            }
        }
    }

    /// When to connect again; `None` if that cannot help, or takes too long.
    fn next_attempt(&mut self, end: &SessionEnd, achieved: Achieved) -> Option<Instant> {
        let is_final = match end {
            SessionEnd::Connect { error, .. } | SessionEnd::Failed(error) => is_final(error),
            SessionEnd::Closing { code } => refusal(*code).is_some(),
            _ => false,
        };
        if is_final {
            return None;
        }
        self.reconnect.next(Instant::now(), achieved, jitter())
    }

    /// Returns the error of a session that is given up. Before, takes the input that is available at once into the spool.
    async fn give_up(
        &mut self,
        end: SessionEnd,
        queue: &mut Queue,
    ) -> Result<SessionError, SessionError> {
        while self.keeper.spool_path().is_some() {
            self.keeper.take(&mut self.sender, queue)?;
            if !queue.wants_more() || timeout(AT_ONCE, queue.fill()).await.is_err() {
                break;
            }
        }
        let (messages, _) = self.unacknowledged();
        let untaken = queue.len();
        let acknowledged = (self.restored + queue.taken().0).saturating_sub(messages);
        let messages = messages + untaken;
        if let SessionEnd::Closing { code } = end
            && let Some(code) = refusal(code)
        {
            return Ok(SessionError::Refused {
                code,
                messages,
                acknowledged,
            });
        }
        Ok(SessionError::Unacknowledged {
            messages,
            untaken,
            acknowledged,
            spool: self.keeper.spool_path().map(|path| {
                Box::new(KeptIn {
                    path: path.to_owned(),
                    address: self.address.clone(),
                    tls: self.connector.written().to_owned(),
                })
            }),
            cause: end,
        })
    }

    /// Reports the end of a connection, once until there is progress, and that another one follows.
    fn report(&mut self, end: &SessionEnd, achieved: Achieved, connects_again: bool) {
        let Self {
            label, is_reported, ..
        } = self;
        *is_reported &= !achieved.has_progress;
        let is_attempt = matches!(end, SessionEnd::Connect { .. });
        if !is_attempt && !std::mem::replace(is_reported, true) {
            let then = if connects_again {
                "; connecting again"
            } else {
                ""
            };
            print_status(format_args!("blocksd: {label}{end}{then}"));
        }
    }

    /// Makes room for a message that is longer than the ring, once that is empty.
    fn grow(&mut self, queue: &Queue) {
        let wanted = queue
            .front()
            .map_or(0, |message| HEADER_LEN + message.len());
        if self.ring_len < wanted && self.sender.is_settled() {
            self.ring_len = wanted;
            self.resume(self.sender.session(), self.sender.unacknowledged().first);
        }
    }

    /// Continues the session with an empty ring.
    fn resume(&mut self, session: u64, next: u64) {
        self.sender = SessionSender::resume(vec![0; self.ring_len], Full::Refuse, session, next);
    }

    async fn dial(&mut self, queue: &mut Queue) -> Result<io::Result<ClientStream>, SessionError> {
        let [least, most] = ATTEMPT;
        let limit = self.reconnect.left(Instant::now()).clamp(least, most);
        let deadline = Instant::now() + limit;
        let connect = connect(self.address.clone(), self.connector.clone(), deadline);
        self.meanwhile(connect, queue).await
    }

    /// Waits without a connection. With a spool, takes messages meanwhile; but not before the first attempt to connect, since
    /// the daemon may refuse them.
    async fn meanwhile<T>(
        &mut self,
        future: impl Future<Output = T>,
        queue: &mut Queue,
    ) -> Result<T, SessionError> {
        let mut future = pin!(future);
        loop {
            let takes = self.has_tried && self.keeper.spool_path().is_some();
            if takes {
                self.keeper.take(&mut self.sender, queue)?;
            }
            tokio::select! {
                done = &mut future => return Ok(done),
                () = queue.fill(), if takes && queue.wants_more() => {}
            }
        }
    }
}

async fn connect(
    address: String,
    connector: Connector,
    deadline: Instant,
) -> io::Result<ClientStream> {
    let resolving = tokio::task::spawn_blocking(move || resolve(&address));
    let resolved = timeout_at(deadline, resolving).await;
    let resolved = resolved.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let resolved = resolved.map_err(io::Error::other)??;
    connector.connect(&resolved, Some(deadline)).await
}

/// The code, if a retry cannot help.
fn refusal(code: u8) -> Option<ClosingCode> {
    let all = [
        ClosingCode::Version,
        ClosingCode::BadHello,
        ClosingCode::Forbidden,
        ClosingCode::Unsupported,
        ClosingCode::NoSession,
    ];
    all.into_iter().find(|known| *known as u8 == code)
}

/// A random number from 0 to 1. `RandomState` is seeded randomly, and differs for each instance.
fn jitter() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests;
