//! The application on a desktop: over Tokio and a real socket.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Bench, Ending, blocks, decode};
use embedded_io::ErrorKind;
use embedded_io_adapters::tokio_1::FromTokio;
use firmware_example::{Plan, run};
use framing_uplink::{Clock, Connect, Full, Ring, SeriesReport, Stop};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }

    async fn sleep_until_us(&self, at_us: u64) {
        tokio::time::sleep_until((self.0 + Duration::from_micros(at_us)).into()).await;
    }
}

struct Server(SocketAddr);

impl Connect for Server {
    type Connection<'a> = FromTokio<TcpStream>;

    async fn connect(&mut self) -> Result<FromTokio<TcpStream>, ErrorKind> {
        let stream = TcpStream::connect(self.0)
            .await
            .map_err(|error| ErrorKind::from(error.kind()))?;
        Ok(FromTokio::new(stream))
    }

    async fn close<'a>(connection: &mut FromTokio<TcpStream>) -> Result<(), ErrorKind>
    where
        Self: 'a,
    {
        connection
            .inner_mut()
            .shutdown()
            .await
            .map_err(|error| ErrorKind::from(error.kind()))
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_series_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = Server(listener.local_addr().unwrap());
    let receiving = thread::spawn(move || {
        let mut wire = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut wire).unwrap();
        wire
    });
    let (ring, stop) = (Ring::<1792>::new(Full::DropOldest), Stop::new());
    let plan = Plan {
        period_ms: 1,
        samples: Some(50),
        ..Plan::default()
    };
    let clock = TokioClock(Instant::now());
    let report = run(
        plan,
        &ring,
        &stop,
        &mut Bench::default(),
        &clock,
        &mut server,
        1,
    )
    .await;
    assert_eq!(
        report,
        SeriesReport {
            delivered: 0,
            in_doubt: 50,
            lost: 0,
            connections: 1,
            ended: true,
            answered: false
        }
    );
    let (blocks, ending) = blocks(&receiving.join().unwrap());
    let numbers: Vec<_> = blocks.iter().map(|block| decode(block)["n"]).collect();
    assert_eq!(numbers, (0..50).map(f64::from).collect::<Vec<_>>());
    assert_eq!(ending, Ending::Mark);
}
