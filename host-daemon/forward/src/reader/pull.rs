//! A request for messages of a consumer: a [`Pull`].

use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::{BatchConfig, Config};
use async_nats::jetstream::{Context, Message};
use async_nats::{StatusCode, Subject, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::{Duration, Instant, timeout_at};

use crate::advice::text;
use crate::reader::ReadError;
use crate::reader::arrivals::{Arrivals, LOOK};

/// Prefix of the reply subject that each message of a stream has, and a status of the server has not.
const ACKNOWLEDGE: &str = "$JS.ACK.";
/// How much later than it should a server may say that a request has expired.
const GRACE: Duration = Duration::from_secs(5);

/// The messages that a request brings.
///
/// The batch of the client takes a message for a status of the server if its headers begin with one. Anybody may publish such headers.
#[derive(Debug)]
pub(super) struct Pull {
    context: Context,
    subscriber: Subscriber,
    /// Messages that may follow.
    left: usize,
    /// When it has expired, if it does.
    until: Option<Instant>,
    arrivals: Arrivals,
}

impl Pull {
    /// Requests messages.
    ///
    /// # Errors
    /// [`ReadError::NoAnswer`].
    pub(super) async fn request(
        context: &Context,
        consumer: &Consumer<Config>,
        request: BatchConfig,
    ) -> Result<Self, ReadError> {
        let client = context.client();
        let inbox = Subject::from(client.new_inbox());
        let subscriber = client.subscribe(inbox.clone()).await;
        let subscriber = subscriber.map_err(|error| ReadError::NoAnswer(text(&error)))?;
        let (left, expires) = (request.batch, request.expires);
        let requested = consumer.request_batch(request, inbox).await;
        requested.map_err(|error| ReadError::NoAnswer(text(&error)))?;
        Ok(Self {
            context: context.clone(),
            subscriber,
            left,
            until: expires.map(|it| Instant::now() + it.saturating_add(GRACE)),
            arrivals: Arrivals::of(client.statistics()),
        })
    }

    /// The next message. `None` if the request brings no more.
    ///
    /// # Cancellation
    /// Nothing is lost.
    ///
    /// # Errors
    /// What the server says instead, after which the request brings no more.
    pub(super) async fn next(&mut self) -> Option<Result<Message, String>> {
        while self.left != 0 {
            let next = match self.until {
                Some(until) => timeout_at(until, self.subscriber.next()).await,
                None => Ok(self.subscriber.next().await),
            };
            let message = match next {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) if self.arrivals.have_ended() => break,
                Err(_) => {
                    // A message, or the word that it has expired, may be on a slow way.
                    self.until = Some(Instant::now() + LOOK);
                    continue;
                }
            };
            let to = message.reply.as_deref().unwrap_or_default();
            if to.starts_with(ACKNOWLEDGE) {
                self.left -= 1;
                let context = self.context.clone();
                return Some(Ok(Message { message, context }));
            }
            match message.status {
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => break,
                status => {
                    self.left = 0;
                    let status = status.map(|it| it.to_string()).unwrap_or_default();
                    let description = message.description.unwrap_or_default();
                    return Some(Err(format!("{status} {description}").trim().to_owned()));
                }
            }
        }
        self.left = 0;
        None
    }
}
