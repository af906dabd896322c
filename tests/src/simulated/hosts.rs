//! The simulated hosts: the daemon, and devices that run the firmware's application.

use std::sync::Arc;
use std::time::Duration;

use blocksd::payload::{Decoders, Decoding, Meaning, Style};
use blocksd_engine::batch::{ClosePolicy, Item};
use blocksd_engine::connection::policy::{Policy, ReplyKind, Timeouts};
use blocksd_engine::event::{EventKind, Peer};
use blocksd_engine::listen::transport::Transport;
use blocksd_engine::permit::Bounds;
use blocksd_engine::sink::lossy::Next;
use blocksd_engine::sink::{Delivery, Events, Interest};
use blocksd_engine::{Engine, Error};
use embedded_io::ErrorKind;
use embedded_io_adapters::tokio_1::FromTokio;
use firmware_example::{Machine, Plan, run};
use framing_core::{AnyFraming, Blocks, Limits};
use framing_uplink::{Clock, Connect, Full, Ring, Stop};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turmoil::net::{TcpListener, TcpStream};

use super::wire::Wire;
use super::{World, known};
use crate::disk::Chance;

/// Port of the daemon.
const PORT: u16 = 1060;
/// Length of the sink's queue: short, so that the daemon meets a full queue.
const QUEUE: usize = 4;
/// Timeout of a device's attempt to connect.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A connection that is known to the world.
fn wire(stream: TcpStream, world: &World, device: usize) -> Wire {
    let token = CancellationToken::new();
    let mut known = known(world);
    known.links[device].push(token.clone());
    known.chance = known.chance.wrapping_add(1);
    Wire::new(stream, token, known.chance)
}

/// The daemon over all its lives. Its engine and its events are visible to the test.
pub(super) async fn daemon(world: World) -> turmoil::Result {
    loop {
        let builder = Engine::builder().bounds(Bounds {
            connections: 100,
            per_device: Some(20),
            unfinished: 1 << 20,
            longest: 1 << 16,
            ..Bounds::default()
        });
        let mut engine = builder.build();
        let delivery = Delivery::Backpressure { queue_len: QUEUE };
        let events = engine.subscribe("recording", Interest::All, delivery);
        let life = {
            let mut known = known(&world);
            known.lives += 1;
            known.engine = Some(engine.handle().clone());
            known.lives
        };
        let socket = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let (accepted, connections) = mpsc::channel(4);
        let of_socket = Arc::clone(&world);
        let accepting = tokio::task::spawn_local(async move {
            while let Ok((stream, peer)) = socket.accept().await {
                let wire = wire(stream, &of_socket, device_of(peer.ip()));
                let stream: Box<dyn Transport> = Box::new(wire);
                if accepted.send((stream, Peer::Network(peer))).await.is_err() {
                    break;
                }
            }
        });
        let sink = tokio::task::spawn_local(collect_events(Arc::clone(&world), life, events));
        engine.listen_on_channel("simulated", connections, policy());
        match engine.run().await {
            // The rest is received below, slowly.
            Ok(()) | Err(Error::Undelivered { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        accepting.abort();
        let _ = accepting.await;
        // Only when no more events can arrive.
        known(&world).engine = None;
        sink.await?;
        let away_ms = known(&world).away_ms;
        tokio::time::sleep(Duration::from_millis(away_ms)).await;
    }
}

fn policy() -> Policy {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    Policy {
        encoding: Decoding::Cbor.into(),
        limits: Limits {
            block_max: 1 << 16,
            skip_max: 1 << 16,
        },
        close: ClosePolicy {
            at_end: true,
            ..ClosePolicy::default()
        },
        timeouts: Timeouts {
            first_byte: None,
            idle: seconds(8),
            header: seconds(5),
            message: seconds(5),
            reply: seconds(8),
        },
        reply: Some(ReplyKind::Receipt),
        ..Policy::new(AnyFraming::Blocks(Blocks))
    }
}

/// Receives the daemon's events as a recording would, at times slowly.
async fn collect_events(world: World, life: u64, mut events: Events) {
    let mut chance = Chance(life);
    let mut decoders = Decoders::default();
    while let Next::Event(event) = events.recv().await {
        let slow_ms = known(&world).slow_ms as usize;
        if slow_ms != 0 {
            tokio::time::sleep(Duration::from_millis(chance.of(0..=slow_ms) as u64)).await;
        }
        let mut known = known(&world);
        let of_device = known.story.entry(event.source.device.to_string());
        let observed = of_device.or_default().entry((life, event.source.conn));
        match event.kind {
            EventKind::Opened { .. } => drop(observed.or_default()),
            EventKind::Batch { batch, position } => {
                let observed = observed.or_default();
                let seq = position.seq;
                assert_eq!(
                    seq,
                    observed.samples.len() as u64,
                    "blocks are missing between two events"
                );
                for item in batch.items() {
                    match item {
                        Item::Message(block) => {
                            let meaning = decoders.of(&event.source).read(block);
                            let Ok(Meaning::Value(value)) = meaning else {
                                panic!("no sample: {meaning:?}");
                            };
                            let mut text = String::new();
                            value.write(Style::Json, &mut text).expect("a sample");
                            let value: serde_json::Value =
                                serde_json::from_str(&text).expect("JSON");
                            let figure = |key| value[key].as_u64().expect("a figure");
                            observed.samples.push((figure("n"), figure("lost")));
                        }
                        Item::End => observed.ended = true,
                        Item::Fault(_) => observed.faults += 1,
                        Item::Piece {
                            truncated: true, ..
                        }
                        | Item::Reset
                        | Item::AfterEnd { .. } => {}
                        Item::Piece { .. } => panic!("a piece, although no message is streamed"),
                    }
                }
            }
            EventKind::Closed {
                messages, reason, ..
            } => {
                observed.or_default().closed = Some((messages, reason));
            }
            EventKind::Silent { .. } | EventKind::Back { .. } => {}
            EventKind::Session(_) | EventKind::Gap(_) => unreachable!("no device has a session"),
            EventKind::Suppressed(_) | EventKind::Undecodable(_) => {
                unreachable!("only recordings have it")
            }
        }
    }
}

/// The device with this address. Devices have the addresses after the daemon's, in order.
fn device_of(address: std::net::IpAddr) -> usize {
    let devices = 0..super::DEVICES;
    let device = devices
        .clone()
        .find(|device| turmoil::lookup(super::name(*device)) == address);
    device.expect("a device")
}

struct Simple;

impl Machine for Simple {
    fn stack_bytes(&mut self) -> u32 {
        0
    }

    fn frames_received(&mut self) -> u32 {
        0
    }

    fn frames_sent(&mut self) -> u32 {
        0
    }
}

struct SimulatedClock(Instant);

impl Clock for SimulatedClock {
    fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }

    async fn sleep_until_us(&self, at_us: u64) {
        tokio::time::sleep_until(self.0 + Duration::from_micros(at_us)).await;
    }
}

struct Link {
    world: World,
    device: usize,
}

impl Connect for Link {
    type Connection<'a> = FromTokio<Wire>;

    async fn connect(&mut self) -> Result<Self::Connection<'_>, ErrorKind> {
        let connecting = TcpStream::connect(("daemon", PORT));
        match tokio::time::timeout(CONNECT_MAX, connecting).await {
            Ok(Ok(stream)) => Ok(FromTokio::new(wire(stream, &self.world, self.device))),
            Ok(Err(error)) => Err(error.kind().into()),
            Err(_) => Err(ErrorKind::TimedOut),
        }
    }

    async fn close<'a>(connection: &mut Self::Connection<'a>) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        let closed = connection.inner_mut().shutdown().await;
        closed.map_err(|error| error.kind().into())
    }
}

/// The firmware's application.
pub(super) async fn device(
    world: World,
    device: usize,
    period_ms: u32,
    samples: u32,
    seed: u32,
) -> turmoil::Result {
    let plan = Plan {
        period_ms,
        samples: Some(samples),
        stop_ms: 20_000,
        answer_ms: 10_000,
    };
    let (ring, stop) = (Ring::<1600>::new(Full::DropOldest), Stop::new());
    let clock = SimulatedClock(Instant::now());
    let mut link = Link {
        world: Arc::clone(&world),
        device,
    };
    let report = run(plan, &ring, &stop, &mut Simple, &clock, &mut link, seed).await;
    known(&world).reports.insert(device, report);
    Ok(())
}
