//! Panics in code of the embedding program end one connection or one sink, and are reported.

use std::io::{self, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use blocksd_engine::batch::Batch;
use blocksd_engine::connection::policy::{Policy, ReplyKind};
use blocksd_engine::connection::responder::{
    Finishing, Received, ReplyError, ReplyStream, Respond, Responder,
};
use blocksd_engine::error::SinkError;
use blocksd_engine::event::{ConnectionInfo, EventKind, Peer};
use blocksd_engine::listen::transport::Transport;
use blocksd_engine::reason::CloseReason;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Events, Interest, Sink, Supervision, Supervisor};
use blocksd_engine::{Engine, EngineHandle};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

mod common;

use common::{DEADLINE, closed, connect, lines, listening};

/// The method of a responder that panics for the first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Create,
    NeedsMessages,
    OnBatch,
    PollReady,
    PollWrite,
    Finish,
    PollFinish,
    Drop,
}

#[derive(Debug)]
struct Faulty {
    at: At,
    is_first: bool,
}

impl Faulty {
    fn panic_at(&self, at: At) {
        assert!(!(self.is_first && self.at == at), "on purpose");
    }
}

impl Respond for Faulty {
    fn responder(&self, connection: &ConnectionInfo) -> Box<dyn Responder> {
        let it = Self {
            at: self.at,
            is_first: connection.conn == 1,
        };
        it.panic_at(At::Create);
        Box::new(it)
    }
}

impl Responder for Faulty {
    fn needs_messages(&self) -> bool {
        self.panic_at(At::NeedsMessages);
        true
    }

    fn on_batch(&mut self, _: &Batch) -> Result<(), ReplyError> {
        self.panic_at(At::OnBatch);
        Ok(())
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        self.panic_at(At::PollReady);
        match self.at {
            At::PollWrite => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        _: &mut dyn Transport,
    ) -> Poll<Result<(), ReplyError>> {
        self.panic_at(At::PollWrite);
        Poll::Pending
    }

    fn finish<'a>(self: Box<Self>, peer: ReplyStream<'a>, _: Received) -> Finishing<'a> {
        self.panic_at(At::Finish);
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.panic_at(At::PollFinish);
            peer.close().await
        })
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.panic_at(At::Drop);
        }
    }
}

fn open_connections(handle: &EngineHandle) -> u64 {
    let closed: u64 = handle.counters().closed_by_reason().iter().sum();
    handle.counters().totals().connections - closed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_responder_that_panics_ends_its_connection_only() {
    for at in [
        At::Create,
        At::NeedsMessages,
        At::OnBatch,
        At::PollReady,
        At::PollWrite,
        At::Finish,
        At::PollFinish,
        At::Drop,
    ] {
        let responder = Faulty {
            at,
            is_first: false,
        };
        let policy = Policy {
            reply: Some(ReplyKind::Custom(Arc::new(responder))),
            ..lines()
        };
        let (mut engine, addr) = listening(policy).await;
        let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
        let handle = engine.handle().clone();
        let running = tokio::spawn(engine.run());
        for reason in [CloseReason::ReplyFailed, CloseReason::Eof] {
            let mut device = connect(addr);
            let _ = device.write_all(b"one\ntwo\n");
            let _ = device.shutdown(Shutdown::Write);
            let mut messages = 0;
            let closed = loop {
                let next = common::next(&mut events).await;
                match next.kind {
                    EventKind::Batch { batch, .. } => messages += batch.messages().0,
                    EventKind::Closed {
                        messages, reason, ..
                    } => break (messages, reason),
                    _ => {}
                }
            };
            // Every message that is counted as received was sent to the sinks.
            assert_eq!(closed, (messages, reason), "{at:?}");
        }
        assert_eq!(open_connections(&handle), 0, "{at:?}");
        assert_eq!(handle.listening().len(), 1);
        handle.stop();
        running.await.unwrap().unwrap();
    }
}

/// A responder that reports to be ready, but never writes.
#[derive(Clone, Debug, Default)]
struct AlwaysReady {
    polls: Arc<AtomicU64>,
}

impl Respond for AlwaysReady {
    fn responder(&self, _: &ConnectionInfo) -> Box<dyn Responder> {
        Box::new(self.clone())
    }
}

impl Responder for AlwaysReady {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(())
    }

    fn finish<'a>(self: Box<Self>, peer: ReplyStream<'a>, _: Received) -> Finishing<'a> {
        Box::pin(peer.close())
    }
}

/// A responder that reports success at every write, but writes nothing.
#[derive(Debug)]
struct AlwaysWrites;

impl Respond for AlwaysWrites {
    fn responder(&self, _: &ConnectionInfo) -> Box<dyn Responder> {
        Box::new(Self)
    }
}

impl Responder for AlwaysWrites {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        _: &mut dyn Transport,
    ) -> Poll<Result<(), ReplyError>> {
        Poll::Ready(Ok(()))
    }

    fn finish<'a>(self: Box<Self>, peer: ReplyStream<'a>, _: Received) -> Finishing<'a> {
        Box::pin(peer.close())
    }
}

#[test]
fn a_responder_that_is_always_ready_does_not_block_the_runtime() {
    let ready = AlwaysReady::default();
    let polls = Arc::clone(&ready.polls);
    let responders: [Arc<dyn Respond>; 2] = [Arc::new(ready), Arc::new(AlwaysWrites)];
    for responder in responders {
        let (sender, ended) = std::sync::mpsc::channel();
        let polls = Arc::clone(&polls);
        // The connection and the test share one thread.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let policy = Policy {
                    reply: Some(ReplyKind::Custom(responder)),
                    ..lines()
                };
                let (mut engine, addr) = listening(policy).await;
                let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
                let handle = engine.handle().clone();
                let running = tokio::spawn(engine.run());
                let mut device = connect(addr);
                device.write_all(b"one\n").unwrap();
                while !matches!(
                    common::next(&mut events).await.kind,
                    EventKind::Batch { .. }
                ) {}
                // An idle connection is not polled.
                let before = polls.load(Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert_eq!(polls.load(Ordering::Relaxed), before);
                handle.stop();
                assert_eq!(closed(&mut events).await, (1, CloseReason::Shutdown));
                running.await.unwrap().unwrap();
            });
            let _ = sender.send(());
        });
        assert_eq!(ended.recv_timeout(DEADLINE), Ok(()));
    }
}

/// A transport that panics when it is polled for reading.
#[derive(Debug)]
struct FaultyTransport(UnixStream);

impl Transport for FaultyTransport {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("on purpose");
    }
}

impl AsyncRead for FaultyTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for FaultyTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_that_panics_ends_its_connection_only() {
    let mut engine = Engine::builder().build();
    let mut events = engine.subscribe("mine", Interest::All, Delivery::BACKPRESSURE);
    let (sender, connections) = tokio::sync::mpsc::channel(2);
    engine.listen_on_channel("channel", connections, lines());
    let handle = engine.handle().clone();
    let running = tokio::spawn(engine.run());
    let (near, _far) = UnixStream::pair().unwrap();
    let peer = Peer::Local("channel".into());
    let faulty: Box<dyn Transport> = Box::new(FaultyTransport(near));
    sender.send((faulty, peer.clone())).await.unwrap();
    assert_eq!(closed(&mut events).await, (0, CloseReason::Reset));
    let (near, mut far) = UnixStream::pair().unwrap();
    sender.send((Box::new(near), peer)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut far, b"one\n")
        .await
        .unwrap();
    drop(far);
    assert_eq!(closed(&mut events).await, (1, CloseReason::Eof));
    assert_eq!(open_connections(&handle), 0);
    handle.stop();
    running.await.unwrap().unwrap();
}

/// A sink that panics at its first event.
#[derive(Debug)]
struct Panics;

impl Sink for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn run(self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
        let _ = events.wait();
        panic!("on purpose");
    }
}

/// A sink that counts its events slowly, so that it ends last.
#[derive(Debug)]
struct Slow(Arc<AtomicU64>);

impl Sink for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn run(self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
        while let Next::Event(_) = events.wait() {
            std::thread::sleep(Duration::from_millis(50));
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_sink_is_an_error_of_the_run_and_the_other_sinks_finish() {
    for delivery in [Delivery::LOSSY, Delivery::BACKPRESSURE] {
        let (mut engine, addr) = listening(lines()).await;
        let count = Arc::<AtomicU64>::default();
        engine.add_sink(Box::new(Panics), delivery);
        engine.add_sink(Box::new(Slow(Arc::clone(&count))), Delivery::BACKPRESSURE);
        let handle = engine.handle().clone();
        let running = tokio::spawn(engine.run());
        let mut device = connect(addr);
        device.write_all(b"one\n").unwrap();
        device.shutdown(Shutdown::Write).unwrap();
        io::Read::read_to_end(&mut device, &mut Vec::new()).unwrap();
        if delivery == Delivery::LOSSY {
            handle.stop();
        }
        let ended = tokio::time::timeout(DEADLINE, running).await.unwrap();
        let error = ended.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the sink `panics` failed");
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "panicked: on purpose");
        // The connection opened, sent a message, and closed.
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}

/// A sink that ends late, with a supervisor that panics.
#[derive(Debug)]
struct Unsupervised;

impl Sink for Unsupervised {
    fn name(&self) -> &'static str {
        "unsupervised"
    }

    fn run(self: Box<Self>, mut events: Events) -> Result<(), SinkError> {
        while let Next::Event(_) = events.wait() {}
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    fn supervisor(&self) -> Supervisor {
        Box::new(|| -> Supervision { panic!("on purpose") })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_supervisor_is_an_error_of_the_run() {
    let (mut engine, _) = listening(lines()).await;
    engine.add_sink(Box::new(Unsupervised), Delivery::BACKPRESSURE);
    engine.handle().stop();
    let error = engine.run().await.unwrap_err();
    assert_eq!(error.to_string(), "the sink `unsupervised` failed");
}
