//! The task of a connection: [`Running`] takes little memory while the connection is idle.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::connection::{Connection, Step};

/// The future of a connection. Its task, including the overhead of the runtime, takes 128 bytes.
pub(super) struct Running {
    /// The connection, while no slow operation owns it.
    connection: Option<Box<Connection>>,
    /// An operation that must wait. Returns the connection, unless it has closed.
    slow: Option<Box<Slow>>,
}

/// A slow operation, allocated for its duration.
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
    /// Creates the task of a new connection.
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
        assert!(connection <= 224, "a connection has {connection} bytes");
        assert_eq!(task, 2 * size_of::<usize>(), "a task is two pointers");
    }
}
