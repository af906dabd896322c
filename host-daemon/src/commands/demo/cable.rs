//! The cable between a device and its recorder: a relay that can be cut, and leads to another recorder. Start with
//! [`Cable::lay`].

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A relay for one connection at a time.
#[derive(Debug)]
pub(super) struct Cable {
    address: SocketAddr,
    recorder: watch::Sender<Option<SocketAddr>>,
    cuts: watch::Sender<u64>,
    connections: watch::Receiver<u64>,
    relaying: JoinHandle<()>,
}

impl Cable {
    /// Lays a cable that leads nowhere: each connection is closed at once.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) async fn lay() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (recorder, to) = watch::channel(None);
        let (cuts, cut) = watch::channel(0);
        let (connected, connections) = watch::channel(0);
        let relaying = tokio::spawn(relay(listener, to, cut, connected));
        Ok(Self {
            address,
            recorder,
            cuts,
            connections,
            relaying,
        })
    }

    /// The end of the device.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads the next connections to a recorder, or nowhere.
    pub(super) fn lead_to(&self, recorder: Option<SocketAddr>) {
        self.recorder.send_replace(recorder);
    }

    /// The number of connections that have reached a recorder.
    pub(super) fn connections(&self) -> u64 {
        *self.connections.borrow()
    }

    /// Waits until more than `count` connections have reached a recorder.
    pub(super) async fn connections_over(&self, count: u64) {
        let mut connections = self.connections.clone();
        // The relay runs until this is dropped, unless it cannot accept: then no device can be reached any more.
        if connections.wait_for(|now| count < *now).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Cuts the connection: both ends are reset, and bytes on the way are lost.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

async fn relay(
    listener: TcpListener,
    to: watch::Receiver<Option<SocketAddr>>,
    mut cuts: watch::Receiver<u64>,
    connections: watch::Sender<u64>,
) {
    while let Ok((mut device, _)) = listener.accept().await {
        let Some(address) = *to.borrow() else {
            continue;
        };
        let Ok(mut recorder) = TcpStream::connect(address).await else {
            continue;
        };
        for end in [&device, &recorder] {
            // Without it, messages are only later.
            let _ = end.set_nodelay(true);
        }
        cuts.mark_unchanged();
        connections.send_modify(|count| *count += 1);
        tokio::select! {
            // An end that is gone is seen at the other end.
            _ = copy_bidirectional(&mut device, &mut recorder) => {}
            _ = cuts.changed() => {
                for end in [&device, &recorder] {
                    // Without it, the ends are closed in order.
                    let _ = end.set_zero_linger();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_cut_resets_both_ends_and_the_next_connection_passes() {
        let cable = Cable::lay().await.unwrap();
        let mut refused = TcpStream::connect(cable.address()).await.unwrap();
        assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0);
        assert_eq!(cable.connections(), 0);

        let recorder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        cable.lead_to(Some(recorder.local_addr().unwrap()));
        for count in 0..2 {
            let mut device = TcpStream::connect(cable.address()).await.unwrap();
            let (mut accepted, _) = recorder.accept().await.unwrap();
            cable.connections_over(count).await;
            device.write_all(b"up").await.unwrap();
            let mut bytes = [0; 2];
            accepted.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"up");
            cable.cut();
            for end in [&mut device, &mut accepted] {
                let error = end.read(&mut [0]).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        }
    }
}
