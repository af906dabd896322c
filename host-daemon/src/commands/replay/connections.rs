//! The outgoing connection of each recorded connection. Start with [`OpenConnections`].

use std::collections::HashMap;
use std::sync::Arc;

use framing_core::AnyFraming;
use tokio_util::sync::CancellationToken;

use crate::commands::replay::dialer::{Dialer, OutgoingConnection};
use crate::commands::replay::totals::ReplayTotals;
use crate::error::CommandError;

/// Most connections for devices whose messages do not say which connection they came over.
const UNNUMBERED_MAX: usize = 512;

/// The connections that are open.
#[derive(Debug)]
pub(super) struct OpenConnections {
    dialer: Dialer,
    /// By their number in the recording.
    numbered: HashMap<u64, OutgoingConnection>,
    /// Messages without a number: a connection for each device and framing.
    unnumbered: HashMap<(Arc<str>, String), OutgoingConnection>,
}

impl OpenConnections {
    /// Connects to `address`.
    pub(super) fn new(address: &str, totals: Arc<ReplayTotals>, stop: CancellationToken) -> Self {
        Self {
            dialer: Dialer::new(address, totals, stop),
            numbered: HashMap::new(),
            unnumbered: HashMap::new(),
        }
    }

    /// Number of connections that were opened.
    pub(super) const fn opened(&self) -> usize {
        self.dialer.opened()
    }

    /// Opens a connection with a new number. One that has the number is of an earlier run of the daemon, and ends.
    pub(super) async fn open(
        &mut self,
        device: &Arc<str>,
        conn: u64,
    ) -> Result<&mut OutgoingConnection, CommandError> {
        if let Some(earlier) = self.numbered.remove(&conn) {
            self.dialer.close(earlier);
        }
        let opened = self.dial(device, conn).await?;
        Ok(self.numbered.entry(conn).insert_entry(opened).into_mut())
    }

    /// The connection of a message: that with its number, or that of its device and framing. Opens it if the recording
    /// does not. `used` is the number of this event.
    pub(super) async fn get(
        &mut self,
        device: &Arc<str>,
        conn: u64,
        framing: AnyFraming,
        used: u64,
    ) -> Result<&mut OutgoingConnection, CommandError> {
        if conn == 0 {
            return self.get_unnumbered(device, framing, used).await;
        }
        let fits = |it: &OutgoingConnection| {
            it.device == *device && it.recorded.is_none_or(|recorded| recorded == framing)
        };
        match self.numbered.remove(&conn) {
            Some(known) if fits(&known) => {
                Ok(self.numbered.entry(conn).insert_entry(known).into_mut())
            }
            other => {
                if let Some(other) = other {
                    self.dialer.close(other);
                }
                self.open(device, conn).await
            }
        }
    }

    /// The connection of an event, if it is open.
    pub(super) fn find(&mut self, device: &str, conn: u64) -> Option<&mut OutgoingConnection> {
        match self.numbered.get_mut(&conn) {
            Some(connection) => (&*connection.device == device).then_some(connection),
            // The messages of this connection may have no number.
            None => {
                let mut all = self.unnumbered.iter_mut();
                all.find_map(|((of, _), it)| (&**of == device).then_some(it))
            }
        }
    }

    /// Removes a connection that is to be closed.
    pub(super) fn remove(&mut self, device: &str, conn: u64) -> Option<OutgoingConnection> {
        let is_same = self.numbered.get(&conn)?.device.as_ref() == device;
        is_same.then(|| self.numbered.remove(&conn)).flatten()
    }

    /// Removes all connections, in the order of their numbers.
    pub(super) fn remove_all(&mut self) -> Vec<OutgoingConnection> {
        let mut numbered: Vec<_> = self.numbered.drain().collect();
        numbered.sort_unstable_by_key(|(conn, _)| *conn);
        let numbered = numbered.into_iter().map(|(_, connection)| connection);
        let unnumbered = self.unnumbered.drain().map(|(_, connection)| connection);
        numbered.chain(unnumbered).collect()
    }

    /// Closes a connection that was removed, after everything in its queue was sent. Does not wait.
    pub(super) fn close(&mut self, connection: OutgoingConnection) {
        self.dialer.close(connection);
    }

    /// Waits until all connections have ended.
    pub(super) async fn finish(&mut self) {
        self.dialer.finish().await;
    }

    async fn get_unnumbered(
        &mut self,
        device: &Arc<str>,
        framing: AnyFraming,
        used: u64,
    ) -> Result<&mut OutgoingConnection, CommandError> {
        let key = (Arc::clone(device), framing.to_string());
        let connection = match self.unnumbered.remove(&key) {
            Some(known) => known,
            None => {
                while UNNUMBERED_MAX <= self.unnumbered.len() && self.close_idle() {}
                self.dial(device, 0).await?
            }
        };
        let connection = self.unnumbered.entry(key).insert_entry(connection);
        let connection = connection.into_mut();
        connection.used = used;
        Ok(connection)
    }

    async fn dial(
        &mut self,
        device: &Arc<str>,
        conn: u64,
    ) -> Result<OutgoingConnection, CommandError> {
        while self.dialer.is_full(self.len()) && self.close_idle() {}
        let open = self.len();
        self.dialer.open(device, conn, open).await
    }

    fn len(&self) -> usize {
        self.numbered.len() + self.unnumbered.len()
    }

    /// Closes the connection without a number that was used the longest ago. A later message opens another one. Returns
    /// whether there was one.
    fn close_idle(&mut self) -> bool {
        let idle = self.unnumbered.iter().min_by_key(|(_, it)| it.used);
        let key = idle.map(|(key, _)| key.clone());
        let closed = key.and_then(|key| self.unnumbered.remove(&key));
        match closed {
            Some(connection) => {
                self.dialer.close(connection);
                true
            }
            None => false,
        }
    }
}
