//! A sensor on embassy-net: sends readings over TCP, and answers commands between them.
//!
//! `cargo run -p framing-core --example embassy_net`
//!
//! `sensor` is the part that runs on a microcontroller. Spawn it and `Runner::run` as tasks of embassy-executor, with the
//! driver of the board. Here a second stack is the station that collects the readings, and the drivers of both stacks are
//! joined in memory.

use std::error::Error;

use embassy_futures::join::{join, join4};
use embassy_futures::select::{Either, select};
use embassy_net::tcp::{TcpReader, TcpSocket, TcpWriter};
use embassy_net::{Config, Ipv4Address, Ipv4Cidr, Stack, StackResources, StaticConfigV4};
use embassy_net_driver_channel::driver::{HardwareAddress, LinkState};
use embassy_net_driver_channel::{RxRunner, State, TxRunner};
use embassy_time::{Duration, TimeoutError, with_timeout};
use framing_core::asynch::{Framed, Reader, Writer};
use framing_core::{Blocks, Received};

const STATION: Ipv4Address = Ipv4Address::new(10, 0, 0, 1);
const SENSOR: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
const PORT: u16 = 1060;
/// Longest command, in bytes.
const COMMAND_MAX: usize = 16;
/// Longest message of the sensor, in bytes.
const MESSAGE_MAX: usize = 64;

/// The sensor's connection. Each half of the socket has a framing of its own, so commands arrive while readings leave.
struct Sensor<'a> {
    messages: Writer<TcpWriter<'a>, Blocks>,
    commands: Reader<TcpReader<'a>, Blocks, [u8; COMMAND_MAX]>,
}

impl Sensor<'_> {
    /// Sends a reading every 10 ms until the station says `stop`.
    async fn run(&mut self) -> Result<(), Failure> {
        for number in 0_u8.. {
            // The timeout drops the receive. A command that has arrived in part stays in the reader.
            match with_timeout(Duration::from_millis(10), self.commands.receive()).await {
                Err(TimeoutError) => self.messages.send_parts(&[b"reading ", &[number]]).await?,
                Ok(Ok(Received::Message(b"stop"))) => break,
                Ok(Ok(Received::Message(b"name"))) => self.messages.send(b"sensor 7").await?,
                Ok(Ok(Received::Message(_))) => self.messages.send(b"unknown command").await?,
                Ok(Ok(Received::End | Received::Closed)) => break,
                Ok(Err(error)) => return Err(error.into()),
            }
        }
        // Ends the series, and waits until the station has acknowledged it. Dropping the socket discards unsent bytes.
        Ok(self.messages.finish().await?)
    }
}

/// Runs on the device: connects to the station and serves it.
async fn sensor(stack: Stack<'_>) -> Result<(), Failure> {
    let (mut rx, mut tx) = ([0; 512], [0; 512]);
    let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
    // Each reading leaves at once.
    socket.set_nagle_enabled(false);
    socket.connect((STATION, PORT)).await.map_err(text)?;
    let (rx, tx) = socket.split();
    let mut sensor = Sensor {
        messages: Writer::new(tx, Blocks),
        commands: Reader::new(rx, Blocks, [0; COMMAND_MAX]),
    };
    sensor.run().await
}

/// The station's connection: one socket in both directions.
struct Station<'a> {
    link: Framed<TcpSocket<'a>, Blocks, [u8; MESSAGE_MAX]>,
}

impl Station<'_> {
    /// Receives three readings, asks for the name, and stops the sensor.
    async fn run(&mut self) -> Result<(), Failure> {
        let mut readings = 0;
        while let Received::Message(message) = self.link.receive().await? {
            if let Some(&[number]) = message.strip_prefix(b"reading ") {
                println!("reading {number}");
                readings += 1;
                if readings == 3 {
                    self.link.send(b"name").await?;
                }
            } else {
                println!("from {}", str::from_utf8(message)?);
                assert_eq!(message, b"sensor 7");
                self.link.send(b"stop").await?;
            }
        }
        assert!(3 <= readings, "the sensor stopped too early");
        Ok(())
    }
}

/// Accepts the sensor and collects its readings.
async fn station(stack: Stack<'_>) -> Result<(), Failure> {
    let (mut rx, mut tx) = ([0; 512], [0; 512]);
    let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
    socket.accept(PORT).await.map_err(text)?;
    let link = Framed::new(socket, Blocks, [0; MESSAGE_MAX]);
    Station { link }.run().await
}

fn main() -> Result<(), Failure> {
    let (mut here, mut there) = (Channel::new(), Channel::new());
    let (here, here_driver) = embassy_net_driver_channel::new(&mut here, HardwareAddress::Ip);
    let (there, there_driver) = embassy_net_driver_channel::new(&mut there, HardwareAddress::Ip);
    let (here_link, here_rx, here_tx) = here.split();
    let (there_link, there_rx, there_tx) = there.split();
    here_link.set_link_state(LinkState::Up);
    there_link.set_link_state(LinkState::Up);

    let mut resources = (StackResources::<1>::new(), StackResources::<1>::new());
    let (here, mut here_runner) =
        embassy_net::new(here_driver, config(STATION), &mut resources.0, 1);
    let (there, mut there_runner) =
        embassy_net::new(there_driver, config(SENSOR), &mut resources.1, 2);

    // On a microcontroller each of these futures is a task.
    let network = join4(
        here_runner.run(),
        there_runner.run(),
        wire(here_tx, there_rx),
        wire(there_tx, here_rx),
    );
    let work = join(station(here), sensor(there));
    match futures::executor::block_on(select(network, work)) {
        Either::First(_) => Err("the network ended".into()),
        Either::Second((station, sensor)) => station.and(sensor),
    }
}

/// Longest packet, in bytes.
const MTU: usize = 576;

type Channel = State<MTU, 4, 4>;

/// Carries packets from one stack to the other.
async fn wire(mut from: TxRunner<'_, MTU>, mut to: RxRunner<'_, MTU>) {
    loop {
        let packet = from.tx_buf().await;
        let len = packet.len();
        to.rx_buf().await[..len].copy_from_slice(packet);
        to.rx_done(len);
        from.tx_done();
    }
}

fn config(address: Ipv4Address) -> Config {
    Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(address, 24),
        gateway: None,
        dns_servers: Default::default(),
    })
}

/// Errors of embassy-net's `connect` and `accept` are not `Error`s.
fn text(error: impl core::fmt::Debug) -> String {
    format!("{error:?}")
}

type Failure = Box<dyn Error>;

#[test]
fn the_example_runs() {
    main().unwrap();
}
