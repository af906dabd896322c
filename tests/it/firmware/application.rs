//! The firmware's application on a desktop, against the real daemon: over Tokio, and blocking over the standard library.
//! library.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use blocksd_tests::board::{Port, in_flight, values, values_by_connection};
use blocksd_tests::process::Server;
use embedded_io::ErrorKind;
use embedded_io_adapters::std::FromStd;
use embedded_io_adapters::tokio_1::FromTokio;
use firmware_example::{BLOCK_MAX, Machine, Plan, Sample, run, tail};
use framing_core::Blocks;
use framing_uplink::{Clock, Connect, Full, Ring, RingSource, SeriesReport, Stop, blocking};
use tokio::io::AsyncWriteExt;

struct Desktop;

impl Machine for Desktop {
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

struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }

    async fn sleep_until_us(&self, at_us: u64) {
        tokio::time::sleep_until((self.0 + Duration::from_micros(at_us)).into()).await;
    }
}

struct Tcp(SocketAddr);

impl Connect for Tcp {
    type Connection<'a> = FromTokio<tokio::net::TcpStream>;

    async fn connect(&mut self) -> Result<Self::Connection<'_>, ErrorKind> {
        let connecting = tokio::net::TcpStream::connect(self.0).await;
        connecting.map(FromTokio::new).map_err(kind)
    }

    async fn close<'a>(connection: &mut Self::Connection<'a>) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        connection.inner_mut().shutdown().await.map_err(kind)
    }
}

fn kind(error: std::io::Error) -> ErrorKind {
    error.kind().into()
}

/// Runs the application until everything is sent.
fn application(addr: SocketAddr, plan: Plan) -> SeriesReport {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (ring, stop) = (Ring::<1600>::new(Full::DropOldest), Stop::new());
    let clock = TokioClock(Instant::now());
    runtime.expect("a runtime").block_on(run(
        plan,
        &ring,
        &stop,
        &mut Desktop,
        &clock,
        &mut Tcp(addr),
        1,
    ))
}

#[test]
fn the_application_over_tokio_survives_restarts_and_accounts_for_every_sample() {
    const SAMPLES: u32 = 600;
    for signal in ["TERM", "KILL"] {
        let port = Port::reserve();
        let listen = port.listen();
        let args = ["--listen", &listen, "--reply", "receipt"];
        let mut server = Server::start(&args);
        let plan = Plan {
            period_ms: 5,
            samples: Some(SAMPLES),
            stop_ms: 20_000,
            ..Plan::default()
        };
        let addr = port.addr();
        let running = thread::spawn(move || application(addr, plan));
        let mut connections = Vec::new();
        for _ in 0..3 {
            server.wait_for("block", 10);
            server.process.signal(signal);
            connections.extend(values_by_connection(&server.end().1));
            server = Server::start(&args);
        }
        let report = running.join().expect("no panic");
        let (ended, events) = server.stop();
        assert_eq!(ended.totals()["fault"], 0, "{signal}");
        connections.extend(values_by_connection(&events));
        let taken: u64 = in_flight(&connections).iter().sum();
        let [before @ .., last] = &connections[..] else {
            panic!("the daemon was never restarted");
        };
        let (delivered, in_doubt) = (last.len(), before.concat().len() + taken as usize);
        let wanted = SeriesReport {
            delivered: delivered as u32,
            in_doubt: in_doubt as u32,
            lost: SAMPLES - (delivered + in_doubt) as u32,
            // More connections if one was made to a daemon that was about to end.
            connections: report.connections.max(4),
            ended: true,
            answered: true,
        };
        assert_eq!(report, wanted, "{signal}");
    }
}

#[test]
fn the_blocking_sender_over_std_ends_its_series() {
    let mut server = Server::start(&["--decode", "cbor"]);
    let ring = Ring::<3200>::new(Full::DropOldest);
    let mut samples = RingSource::<_, BLOCK_MAX>::new(&ring).with_tail(tail);
    let mut number = 0;
    // Simulates an interrupt.
    let idle = || {
        let sample = Sample {
            number,
            ..Sample::default()
        };
        ring.push(&sample.encode()).expect("it is short");
        number += 1;
        if number == 20 {
            ring.close();
        }
    };
    let io = FromStd::new(TcpStream::connect(server.addr()).expect("it listens"));
    let sent = blocking::stream(io, Blocks, &mut samples, idle);
    assert_eq!(sent.expect("the daemon reads"), 20);
    server.wait_for("close", 1);
    let (ended, events) = server.stop();
    assert_eq!(values(&events).len(), 20);
    assert_eq!(in_flight(&[values(&events)]), [0; 0]);
    assert_eq!((ended.totals()["serie"], ended.totals()["fault"]), (1, 0));
}
