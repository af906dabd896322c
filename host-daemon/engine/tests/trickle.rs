//! A message that arrives byte by byte is copied a few times in total, and not once for each byte.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use allocation_counter::measure;
use blocksd_engine::Engine;
use blocksd_engine::batch::Item;
use blocksd_engine::connection::policy::Policy;
use blocksd_engine::event::{EventKind, Peer};
use blocksd_engine::listen::transport::Transport;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Interest};
use framing_core::{AnyFraming, Blocks};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// A peer whose every byte is a segment of its own.
#[derive(Debug)]
struct ByteByByte(std::vec::IntoIter<u8>);

impl AsyncRead for ByteByByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(byte) = self.0.next() {
            buffer.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteByByte {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for ByteByByte {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The memory that is allocated while a message of this length arrives, in bytes. Each copy of an incomplete message to
/// memory of its own allocates its length.
fn allocated(len: u32) -> u64 {
    let mut wire = len.to_be_bytes().to_vec();
    wire.resize(4 + len as usize, b'x');
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut received = Vec::new();
    let counted = measure(|| {
        runtime.block_on(async {
            let mut engine = Engine::builder().build();
            let mut events = engine.subscribe(
                "test",
                Interest::All,
                Delivery::Backpressure { queue_len: 16 },
            );
            let (connections, accepted) = mpsc::channel(1);
            engine.listen_on_channel("memory", accepted, Policy::new(AnyFraming::Blocks(Blocks)));
            let handle = engine.handle().clone();
            let running = tokio::spawn(engine.run());
            let peer = Peer::Network(SocketAddr::from(([192, 0, 2, 1], 7)));
            let transport: Box<dyn Transport> = Box::new(ByteByByte(wire.into_iter()));
            connections.send((transport, peer)).await.unwrap();
            while let Next::Event(event) = events.recv().await {
                match event.kind {
                    EventKind::Batch { batch, .. } => {
                        received.extend(batch.items().filter_map(|item| match item {
                            Item::Message(message) => Some(message.len()),
                            _ => None,
                        }));
                    }
                    EventKind::Closed { .. } => handle.stop(),
                    _ => {}
                }
            }
            running.await.unwrap().unwrap();
        });
    });
    assert_eq!(received, [len as usize]);
    counted.bytes_total
}

#[test]
fn a_message_that_arrives_byte_by_byte_is_not_copied_for_each_byte() {
    let base = allocated(1);
    for len in [16 << 10, 60 << 10, 128 << 10, 512 << 10] {
        let bytes = allocated(len) - base;
        // A copy for each byte is half the square of the length: 128 MiB for the shortest of these.
        let most = (8 << 20) + 16 * u64::from(len);
        assert!(bytes < most, "{bytes} bytes for a message of {len}");
    }
}
