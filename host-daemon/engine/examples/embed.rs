//! A small daemon with its own sink and responder: prints how much each device sends, and answers each line with its
//! number.
//!
//! `cargo run -p blocksd-engine --example embed -- 127.0.0.1:1060`, then `nc 127.0.0.1 1060`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use blocksd_engine::batch::Batch;
use blocksd_engine::connection::policy::{Policy, ReplyKind};
use blocksd_engine::connection::responder::{
    Finishing, Received, ReplyError, ReplyStream, Respond, Responder,
};
use blocksd_engine::error::SinkError;
use blocksd_engine::event::{ConnectionInfo, EventKind};
use blocksd_engine::listen::transport::Transport;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Events, Sink};
use blocksd_engine::{Engine, ListenerSpec};
use framing_core::{AnyFraming, Lines};
use tokio::io::AsyncWrite;

/// Adds up the messages and bytes of each device.
#[derive(Debug, Default)]
struct Sums {
    of_devices: BTreeMap<Arc<str>, (u64, u64)>,
}

impl Sink for Sums {
    fn name(&self) -> &'static str {
        "sums"
    }

    fn run(mut self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
        while let Next::Event(event) = events.wait() {
            let device = &event.source.device;
            match event.kind {
                EventKind::Batch { batch, .. } => {
                    let sums = self.of_devices.entry(Arc::clone(device)).or_default();
                    let (messages, bytes) = batch.messages();
                    *sums = (sums.0 + messages, sums.1 + bytes);
                }
                EventKind::Closed { .. } => {
                    let (messages, bytes) =
                        self.of_devices.get(device).copied().unwrap_or_default();
                    println!("{device}: {messages} messages, {bytes} bytes");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Answers each message with its number while the device is still sending.
#[derive(Debug)]
pub(crate) struct Numbers;

impl Respond for Numbers {
    fn responder(&self, _: &ConnectionInfo) -> Box<dyn Responder> {
        Box::new(Numbering::default())
    }
}

#[derive(Debug, Default)]
struct Numbering {
    next: u64,
    unsent: Vec<u8>,
}

impl Responder for Numbering {
    fn on_batch(&mut self, batch: &Batch) -> Result<(), ReplyError> {
        for _ in 0..batch.messages().0 {
            self.next += 1;
            self.unsent.extend(format!("{}\n", self.next).into_bytes());
        }
        Ok(())
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.unsent.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        mut transport: &mut dyn Transport,
    ) -> Poll<Result<(), ReplyError>> {
        let written = Pin::new(&mut transport).poll_write(context, &self.unsent);
        let len = ready!(written).map_err(ReplyError::Connection)?;
        self.unsent.drain(..len);
        Poll::Ready(Ok(()))
    }

    fn finish<'a>(self: Box<Self>, peer: ReplyStream<'a>, _: Received) -> Finishing<'a> {
        Box::pin(async move {
            let mut peer = peer;
            embedded_io_async::Write::write_all(&mut peer, &self.unsent).await?;
            peer.close().await
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "127.0.0.1:1060".to_owned());
    let mut engine = Engine::builder().build();
    engine.add_sink(Box::<Sums>::default(), Delivery::BACKPRESSURE);
    let policy = Policy {
        reply: Some(ReplyKind::Custom(Arc::new(Numbers))),
        ..Policy::new(AnyFraming::Lines(Lines))
    };
    engine
        .listen(vec![ListenerSpec::new(address, policy)])
        .await?;
    for listening in engine.handle().listening() {
        println!("listening on {}", listening.name);
    }
    let handle = engine.handle().clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            handle.stop();
        }
    });
    Ok(engine.run().await?)
}
