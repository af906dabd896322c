//! Devices without sessions, for comparison: [`PlainDevices`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use blocksd_tests::session_devices::numbered_payload;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// Bytes that a device writes at once if it does not wait between messages.
const WRITE_LEN: usize = 16 << 10;

/// Devices that send the payloads of sessions, until they are dropped.
pub(crate) struct PlainDevices {
    connected: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl PlainDevices {
    /// Starts devices that send messages of `len` bytes with this pause between two.
    pub(crate) fn start(host: SocketAddr, count: usize, len: usize, pause: Duration) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread");
        let connected = Arc::<AtomicUsize>::default();
        for index in 0..count {
            let connected = Arc::clone(&connected);
            runtime.spawn(async move {
                let id = format!("boiler-{index}");
                let mut stream = TcpStream::connect(host).await.expect("the daemon listens");
                stream.set_nodelay(true).expect("a live socket");
                connected.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(pause.mul_f64(index as f64 / count as f64)).await;
                let mut ticks = tokio::time::interval(pause.max(Duration::from_micros(1)));
                let mut wire = Vec::new();
                for number in 0.. {
                    let payload = numbered_payload(&id, number, len);
                    let len = u32::try_from(payload.len()).expect("short");
                    wire.extend(len.to_be_bytes());
                    wire.extend(payload);
                    if pause.is_zero() && wire.len() < WRITE_LEN {
                        continue;
                    }
                    if !pause.is_zero() {
                        ticks.tick().await;
                    }
                    if stream.write_all(&wire).await.is_err() {
                        return;
                    }
                    wire.clear();
                }
            });
        }
        Self {
            connected,
            _runtime: runtime,
        }
    }

    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }
}
