//! Names of hosts over embassy-net: a scripted server of DNS on an in-process link, in simulated time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use embassy_futures::select::{Either, select};
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{
    Config, Ipv4Address, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4, tcp::TcpSocket,
};
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_time::{Duration, Instant, MockDriver, Timer};
use embedded_io_async::ErrorKind;
use framing_uplink::Connect;
use framing_uplink::embassy::{Server, Tcp};

const PORT: u16 = 1060;

/// What the server of DNS does with a query.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    /// It answers with this last number of an address.
    Address(u8),
    /// NXDOMAIN.
    NoName,
    Nothing,
}

type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of the link: frames to it, and from it.
struct Port {
    arrived: Queue,
    departing: Queue,
    last: u8,
}

struct Arrived(Vec<u8>);

struct Departing(Queue);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0)
    }
}

impl TxToken for Departing {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.borrow_mut().push_back(frame);
        result
    }
}

impl Driver for Port {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Departing;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Arrived, Departing)> {
        let frame = self.arrived.borrow_mut().pop_front()?;
        Some((Arrived(frame), self.transmit(cx)?))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Departing> {
        Some(Departing(Rc::clone(&self.departing)))
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet([2, 0, 0, 0, 0, self.last])
    }
}

/// A machine at `10.0.0.last`, whose server of DNS is at `10.0.0.2`.
fn machine(
    arrived: &Queue,
    departing: &Queue,
    last: u8,
) -> (Stack<'static>, Runner<'static, Port>) {
    let driver = Port {
        arrived: Rc::clone(arrived),
        departing: Rc::clone(departing),
        last,
    };
    let mut v4 = StaticConfigV4 {
        address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, last), 24),
        gateway: None,
        dns_servers: Default::default(),
    };
    v4.dns_servers.push(Ipv4Address::new(10, 0, 0, 2)).unwrap();
    let resources: &'static mut StackResources<4> = Box::leak(Box::new(StackResources::new()));
    embassy_net::new(driver, Config::ipv4_static(v4), resources, last.into())
}

/// Answers queries of DNS.
async fn resolve(stack: Stack<'static>, answer: Answer, names: &RefCell<Vec<String>>) {
    let (mut in_meta, mut out_meta) = ([PacketMetadata::EMPTY; 4], [PacketMetadata::EMPTY; 4]);
    let (mut receive, mut send) = ([0; 1024], [0; 1024]);
    let mut socket = UdpSocket::new(stack, &mut in_meta, &mut receive, &mut out_meta, &mut send);
    socket.bind(53).unwrap();
    loop {
        let mut query = [0; 512];
        let (len, from) = socket.recv_from(&mut query).await.unwrap();
        let query = &query[..len];
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let name = &query[13..end - 5];
        let dotted = |byte: &u8| if *byte < 32 { '.' } else { char::from(*byte) };
        names.borrow_mut().push(name.iter().map(dotted).collect());
        // Flags, and the numbers of questions and of answers.
        let (flags, count) = match answer {
            Answer::Address(_) => ([0x81, 0x80], 1),
            Answer::NoName => ([0x81, 0x83], 0),
            Answer::Nothing => continue,
        };
        let mut reply = [
            &query[..2],
            &flags,
            &[0, 1, 0, count, 0, 0, 0, 0],
            &query[12..end],
        ]
        .concat();
        if let Answer::Address(last) = answer {
            // The name of the question, type A, class IN, one minute.
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, last]);
        }
        socket.send_to(&reply, from).await.unwrap();
    }
}

/// Connects by a name; returns the error, the names that were asked for, and the milliseconds that it took.
fn connect(answer: Answer, is_listening: bool) -> (Option<ErrorKind>, Vec<String>, u64) {
    let (up, down) = (Queue::default(), Queue::default());
    let (device, mut device_runner) = machine(&down, &up, 1);
    let (host, mut host_runner) = machine(&up, &down, 2);
    let names = RefCell::default();
    let serving = async {
        let (mut receive, mut send) = ([0; 128], [0; 128]);
        let mut socket = TcpSocket::new(host, &mut receive, &mut send);
        if is_listening {
            socket.accept(PORT).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let connecting = async {
        let (mut receive, mut send) = ([0; 128], [0; 128]);
        let server = Server::Name("daemon.example", PORT);
        let mut tcp = Tcp::new(device, server, &mut receive, &mut send);
        let begun = Instant::now();
        let limited = select(tcp.connect(), Timer::after(Duration::from_secs(60))).await;
        let Either::First(connected) = limited else {
            panic!("it never ends");
        };
        (connected.err(), begun.elapsed().as_millis())
    };
    let mut all = pin!(select(
        connecting,
        select(
            select(device_runner.run(), host_runner.run()),
            select(resolve(host, answer, &names), serving),
        ),
    ));
    // Everything is polled each millisecond.
    let (error, took_ms) = loop {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(Either::First(output)) = all.as_mut().poll(&mut context) {
            break output;
        }
        MockDriver::get().advance(Duration::from_millis(1));
    };
    (error, names.take(), took_ms)
}

/// One test, since the simulated clock is that of the process.
#[test]
fn a_name_is_resolved_or_the_kind_of_the_failure_is_returned() {
    let (error, names, _) = connect(Answer::Address(2), true);
    assert_eq!(error, None);
    assert_eq!(names, ["daemon.example"]);

    let (error, ..) = connect(Answer::Address(2), false);
    // So embassy-net reports a refusal.
    assert_eq!(error, Some(ErrorKind::ConnectionReset), "no listener");

    let (error, names, took_ms) = connect(Answer::NoName, true);
    assert_eq!(error, Some(ErrorKind::AddrNotAvailable), "no such name");
    assert!(!names.is_empty());
    assert!(took_ms < 1_000, "{took_ms} ms");

    // The address of a host that is not there.
    let (error, ..) = connect(Answer::Address(3), true);
    assert_eq!(error, Some(ErrorKind::TimedOut), "no host");

    let (error, names, took_ms) = connect(Answer::Nothing, true);
    assert_eq!(error, Some(ErrorKind::TimedOut), "no answer");
    assert!(2 <= names.len(), "it asks again: {names:?}");
    assert!((9_000..11_000).contains(&took_ms), "{took_ms} ms");
}
