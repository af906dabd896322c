//! The outgoing connection of each recorded connection. Start with [`OpenConnections`].

use std::collections::HashMap;
use std::sync::Arc;

use framing_core::AnyFraming;

use crate::commands::replay::dialer::{Dialer, OutgoingConnection};
use crate::error::CommandError;

/// Most connections whose open is not recorded, and so perhaps not their close. The one that is idle the longest makes room.
const IMPLICIT_MAX: usize = 512;

/// The connections that are open.
#[derive(Debug)]
pub(super) struct OpenConnections {
    dialer: Dialer,
    /// By their number in the recording.
    numbered: HashMap<u64, OutgoingConnection>,
    /// Messages without a number: a connection for each device and framing.
    unnumbered: HashMap<(Arc<str>, String), OutgoingConnection>,
    /// Number of connections whose open is not recorded, in both maps.
    implicit: usize,
}

impl OpenConnections {
    /// Connects with this dialer.
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            numbered: HashMap::new(),
            unnumbered: HashMap::new(),
            implicit: 0,
        }
    }

    /// Number of connections that were opened.
    pub(super) const fn opened(&self) -> usize {
        self.dialer.opened()
    }

    /// Opens a connection with a new number. One that has the number is of an earlier run of the daemon, and ends.
    pub(super) async fn open(&mut self, device: &Arc<str>, conn: u64) -> Result<(), CommandError> {
        let opened = match self.take(conn) {
            // Its first messages were recorded before its open.
            Some(known) if known.is_implicit && known.device == *device => known,
            other => {
                if let Some(other) = other {
                    self.dialer.close(other);
                }
                self.dial(device, conn).await?
            }
        };
        let opened = self.numbered.entry(conn).insert_entry(opened);
        opened.into_mut().is_implicit = false;
        Ok(())
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
        let connection = match self.take(conn) {
            Some(known) if fits(&known) => known,
            other => {
                if let Some(other) = other {
                    self.dialer.close(other);
                }
                self.dial_implicit(device, conn).await?
            }
        };
        self.implicit += usize::from(connection.is_implicit);
        let connection = self.numbered.entry(conn).insert_entry(connection);
        let connection = connection.into_mut();
        connection.used = used;
        Ok(connection)
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
        is_same.then(|| self.take(conn)).flatten()
    }

    /// Removes all connections, in the order of their numbers.
    pub(super) fn remove_all(&mut self) -> Vec<OutgoingConnection> {
        let mut numbered: Vec<_> = self.numbered.drain().collect();
        numbered.sort_unstable_by_key(|(conn, _)| *conn);
        let numbered = numbered.into_iter().map(|(_, connection)| connection);
        self.implicit = 0;
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
                let opened = self.dial_implicit(device, 0).await?;
                self.implicit += 1;
                opened
            }
        };
        let connection = self.unnumbered.entry(key).insert_entry(connection);
        let connection = connection.into_mut();
        connection.used = used;
        Ok(connection)
    }

    /// Removes a connection with a number.
    fn take(&mut self, conn: u64) -> Option<OutgoingConnection> {
        let taken = self.numbered.remove(&conn)?;
        self.implicit -= usize::from(taken.is_implicit);
        Some(taken)
    }

    /// Opens a connection whose open is not recorded. It is not counted yet.
    async fn dial_implicit(
        &mut self,
        device: &Arc<str>,
        conn: u64,
    ) -> Result<OutgoingConnection, CommandError> {
        while IMPLICIT_MAX <= self.implicit && self.close_idle() {}
        let mut opened = self.dial(device, conn).await?;
        opened.is_implicit = true;
        Ok(opened)
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

    /// Closes the connection that was used the longest ago, of those whose open is not recorded. A later message opens
    /// another one. Returns whether there was one.
    fn close_idle(&mut self) -> bool {
        let numbered = self.numbered.iter().filter(|(_, it)| it.is_implicit);
        let numbered = numbered.map(|(conn, it)| (it.used, *conn));
        let unnumbered = self.unnumbered.iter();
        let unnumbered = unnumbered.map(|(key, it)| (it.used, key));
        let closed = match (numbered.min(), unnumbered.min()) {
            (Some((used, conn)), other) if other.is_none_or(|(other, _)| used < other) => {
                self.take(conn)
            }
            (_, Some((_, key))) => {
                let key = key.clone();
                self.implicit -= 1;
                self.unnumbered.remove(&key)
            }
            _ => None,
        };
        let has_closed = closed.is_some();
        if let Some(connection) = closed {
            self.dialer.close(connection);
        }
        has_closed
    }
}
