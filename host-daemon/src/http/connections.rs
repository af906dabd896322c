//! The open connections of the HTTP server: [`HttpConnections`] bounds their number, and closes the one that is missed least.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blocksd_engine::event::Peer;
use blocksd_engine::origin::Origin;
use tokio::task::{AbortHandle, Id, JoinSet};

/// Maximum number of connections.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// Set by a connection once its request has arrived.
pub(super) type Requested = Arc<AtomicBool>;

/// The tasks of the open connections, the oldest first.
#[derive(Debug, Default)]
pub(super) struct HttpConnections {
    open: Vec<OpenConnection>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct OpenConnection {
    origin: Origin,
    requested: Requested,
    task: AbortHandle,
}

impl HttpConnections {
    /// Starts the task of a connection. If there are too many, closes another one first: of the origin with the most
    /// connections the oldest without a complete request, otherwise its oldest. A client that requests quickly keeps its
    /// connection, whatever others do.
    pub(super) fn add<F>(&mut self, peer: SocketAddr, serve: impl FnOnce(Requested) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        if CONNECTIONS_MAX <= self.open.len()
            && let Some(index) = self.most_expendable()
        {
            self.open.remove(index).task.abort();
        }
        let requested = Requested::default();
        let task = self.tasks.spawn(serve(Arc::clone(&requested)));
        self.open.push(OpenConnection {
            origin: Origin::of_peer(&Peer::Network(peer)),
            requested,
            task,
        });
    }

    /// Forgets connections as they end. Never returns.
    ///
    /// Cancel-safe.
    pub(super) async fn reap(&mut self) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        std::future::pending::<()>().await;
    }

    fn forget(&mut self, ended: Id) {
        self.open.retain(|connection| connection.task.id() != ended);
    }

    fn most_expendable(&self) -> Option<usize> {
        let mut counts: HashMap<&Origin, usize> = HashMap::new();
        for connection in &self.open {
            *counts.entry(&connection.origin).or_default() += 1;
        }
        let rank = |connection: &OpenConnection| {
            let count = counts.get(&connection.origin).copied();
            (count, !connection.requested.load(Ordering::Relaxed))
        };
        // `max_by_key` returns the last of equals, and the oldest is the first.
        let each = self.open.iter().enumerate().rev();
        let index = each.max_by_key(|(_, connection)| rank(connection));
        index.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// The ports of connections from these addresses, in the order in which they would be closed.
    async fn open(connections: &mut HttpConnections, peers: &[(&str, bool)]) {
        for (peer, has_requested) in peers {
            let serve = |requested: Requested| {
                requested.store(*has_requested, Ordering::Relaxed);
                pending()
            };
            connections.add(peer.parse().unwrap(), serve);
        }
    }

    #[tokio::test]
    async fn the_oldest_of_the_busiest_origin_without_a_request_is_closed_first() {
        let mut connections = HttpConnections::default();
        let peers = [
            ("10.0.0.1:1", false),
            ("10.0.0.2:1", true),
            ("10.0.0.2:2", false),
            ("10.0.0.2:3", false),
        ];
        open(&mut connections, &peers).await;
        for closed in [2, 2, 0] {
            assert_eq!(connections.most_expendable(), Some(closed));
            connections.open.remove(closed);
        }
    }

    #[tokio::test]
    async fn the_number_of_connections_is_bounded() {
        let mut connections = HttpConnections::default();
        let peers = [("10.0.0.1:1", false)].repeat(3 * CONNECTIONS_MAX);
        open(&mut connections, &peers).await;
        assert_eq!(connections.open.len(), CONNECTIONS_MAX);
        // Those that were closed have ended, and are forgotten once.
        let reaped = tokio::time::timeout(std::time::Duration::from_millis(10), connections.reap());
        assert!(reaped.await.is_err());
        assert_eq!(connections.open.len(), CONNECTIONS_MAX);
        assert_eq!(connections.tasks.len(), CONNECTIONS_MAX);
    }
}
