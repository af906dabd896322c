//! The task of a connection: small while it waits for something to read.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::connection::{Connection, Step};

/// A connection at work, in few bytes: with these, its task takes 128 bytes.
pub(super) struct Running {
    /// Waits for something to read.
    connection: Option<Box<Connection>>,
    /// What cannot be done at once, and gives the connection back if it goes on.
    slow: Option<Box<Slow>>,
}

/// What takes time.
type Slow = Pin<Box<dyn Future<Output = Option<Box<Connection>>> + Send>>;

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(slow) = &mut self.slow {
                let connection = ready!(slow.as_mut().as_mut().poll(context));
                (self.connection, self.slow) = (connection, None);
            }
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(());
            };
            let step = ready!(connection.poll_step(context));
            let slow: Option<Slow> = match step {
                Step::Go => None,
                Step::Yield => self.connection.take().map(|connection| {
                    let yielded = async {
                        tokio::task::yield_now().await;
                        Some(connection)
                    };
                    Box::pin(yielded) as Slow
                }),
                step => {
                    let connection = self.connection.take();
                    connection.map(|connection| Box::pin(connection.take_step(step)) as Slow)
                }
            };
            self.slow = slow.map(Box::new);
        }
    }
}

impl Running {
    /// The task of a connection that has just opened.
    pub(super) const fn new(connection: Box<Connection>) -> Self {
        Self {
            connection: Some(connection),
            slow: None,
        }
    }
}

#[cfg(test)]
#[cfg(target_pointer_width = "64")]
mod tests {
    use super::*;

    /// Ten thousand idle connections hold one of each, and a socket.
    #[test]
    fn an_idle_connection_is_small() {
        let (connection, task) = (size_of::<Connection>(), size_of::<Running>());
        assert!(connection <= 216, "a connection has {connection} bytes");
        assert_eq!(task, 2 * size_of::<usize>(), "a task is two pointers");
    }
}
