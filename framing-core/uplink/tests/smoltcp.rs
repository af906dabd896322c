//! The adapter for smoltcp: a device and a scripted peer, on a link that loses packets, in simulated time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::pin;
use std::rc::Rc;

use embedded_io_async::{ErrorKind, Read as _, Write as _};
use framing_core::blocking::Reader;
use framing_core::{Blocks, Received};
use framing_uplink::smoltcp::{SharedStack, SmolTcp};
use framing_uplink::{
    Config, Connect, Full, Ring, RingSource, SeriesReport, Split, Stop, blocking, run_series,
};
use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr};

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 1060);
const MESSAGES: u32 = 100;

/// What the peer does with a connection.
#[derive(Clone, Copy, PartialEq)]
enum Conduct {
    /// It reads a series, and replies with a receipt.
    Replies,
    /// It resets the connection after this many bytes.
    Resets(usize),
    /// It reads nothing.
    Stalls,
    /// It reads nothing, and closes its direction.
    Closes,
}

/// Packets on their way to each end, and how many of a thousand are lost.
struct Link {
    to: [VecDeque<Vec<u8>>; 2],
    lost_per_mille: u64,
    random: u64,
    lost: u32,
}

impl Link {
    fn send(&mut self, side: usize, packet: Vec<u8>) {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if self.random % 1_000 < self.lost_per_mille {
            self.lost += 1;
        } else {
            self.to[side].push_back(packet);
        }
    }
}

/// One end of the link.
struct Port(Rc<RefCell<Link>>, usize);

struct Arrived(Vec<u8>);

struct Departing<'a>(&'a RefCell<Link>, usize);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Departing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.borrow_mut().send(self.1, packet);
        result
    }
}

impl Device for Port {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Departing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Departing<'_>)> {
        let packet = self.0.borrow_mut().to[self.1].pop_front()?;
        Some((Arrived(packet), Departing(&self.0, 1 - self.1)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Departing<'_>> {
        Some(Departing(&self.0, 1 - self.1))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1_500;
        capabilities
    }
}

fn interface(port: &mut Port, last: u8) -> Interface {
    let config = InterfaceConfig::new(HardwareAddress::Ip);
    let mut interface = Interface::new(config, port, Instant::ZERO);
    interface.update_ip_addrs(|addresses| {
        let address = Ipv4Addr::new(10, 0, 0, last);
        addresses.push(IpCidr::new(address.into(), 24)).unwrap();
    });
    interface
}

fn sockets(receive_len: usize, send_len: usize) -> (SocketSet<'static>, SocketHandle) {
    let mut sockets = SocketSet::new(Vec::new());
    let buffer = |len| SocketBuffer::new(vec![0; len]);
    let handle = sockets.add(Socket::new(buffer(receive_len), buffer(send_len)));
    (sockets, handle)
}

/// The other end: what it received on each connection.
struct Peer {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// For each connection; the last one also for all later ones.
    conducts: Vec<Conduct>,
    is_listening: bool,
    wires: Vec<Vec<u8>>,
    state: State,
    has_replied: bool,
}

impl Peer {
    fn tick(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.port, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        self.state = socket.state();
        if !socket.is_open() && socket.remote_endpoint().is_none() && self.is_listening {
            socket.set_timeout(Some(Duration::from_secs(20)));
            socket.set_keep_alive(Some(Duration::from_secs(3)));
            socket.listen(SERVER.port()).unwrap();
            self.wires.push(Vec::new());
            self.has_replied = false;
        }
        if !socket.is_active() {
            return;
        }
        let at = self.wires.len() - 1;
        let conduct = self.conducts[at.min(self.conducts.len() - 1)];
        let wire = &mut self.wires[at];
        if matches!(conduct, Conduct::Replies | Conduct::Resets(_)) {
            let mut bytes = [0; 256];
            while let Ok(len @ 1..) = socket.recv_slice(&mut bytes) {
                wire.extend_from_slice(&bytes[..len]);
            }
        }
        match conduct {
            Conduct::Resets(len) if len <= wire.len() => socket.abort(),
            Conduct::Closes if socket.may_send() => socket.close(),
            Conduct::Replies => {
                let (messages, is_ended) = messages(wire);
                if is_ended && !self.has_replied {
                    self.has_replied = true;
                    let bytes: usize = messages.iter().map(Vec::len).sum();
                    let text = format!("{{\"blocks\":{},\"bytes\":{bytes}}}", messages.len());
                    let len = [0, 0, 0, text.len() as u8];
                    let reply = [&len[..], text.as_bytes(), &[0; 4]].concat();
                    assert_eq!(socket.send_slice(&reply), Ok(reply.len()));
                    socket.close();
                }
            }
            _ => {}
        }
    }
}

/// The messages of a connection, and whether their series has ended.
fn messages(wire: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (mut reader, mut messages) = (Reader::new(wire, Blocks, [0; 128]), Vec::new());
    loop {
        match reader.receive() {
            Ok(Received::Message(message)) => messages.push(message.to_vec()),
            Ok(Received::End) => return (messages, true),
            _ => return (messages, false),
        }
    }
}

/// A device and a peer.
struct World {
    link: Rc<RefCell<Link>>,
    peer: Peer,
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    now_ms: Rc<Cell<i64>>,
}

impl World {
    fn new(conducts: &[Conduct]) -> Self {
        let link = Rc::new(RefCell::new(Link {
            to: Default::default(),
            lost_per_mille: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            lost: 0,
        }));
        let (mut port, mut other) = (Port(Rc::clone(&link), 0), Port(Rc::clone(&link), 1));
        let (sockets_, handle) = sockets(128, 1_024);
        let (peer_sockets, peer_handle) = sockets(256, 256);
        Self {
            interface: interface(&mut port, 1),
            port,
            sockets: sockets_,
            handle,
            peer: Peer {
                interface: interface(&mut other, 2),
                port: other,
                sockets: peer_sockets,
                handle: peer_handle,
                conducts: conducts.to_vec(),
                is_listening: true,
                wires: Vec::new(),
                state: State::Closed,
                has_replied: false,
            },
            link,
            now_ms: Rc::default(),
        }
    }

    /// Drives a use of the adapter to its end; `each` sees the peer after each millisecond.
    fn drive<R>(
        &mut self,
        mut each: impl FnMut(&mut Peer, i64),
        using: impl AsyncFnOnce(&SharedStack<'_, '_>, &mut SmolTcp<'_, '_, '_>) -> R,
    ) -> R {
        let stack = SharedStack::new(&mut self.interface, &mut self.sockets);
        let mut tcp = SmolTcp::new(&stack, self.handle, SERVER, 7);
        let mut using = pin!(using(&stack, &mut tcp));
        loop {
            self.now_ms.set(self.now_ms.get() + 1);
            assert!(self.now_ms.get() < 1_000_000, "it never ends");
            let now = Instant::from_millis(self.now_ms.get());
            stack.poll(now, &mut self.port);
            self.peer.tick(now);
            each(&mut self.peer, self.now_ms.get());
            if let Some(output) = blocking::poll_once(using.as_mut()) {
                return output;
            }
        }
    }

    /// Sends a series. Asserts that its report is honest.
    fn series(&mut self) -> SeriesReport {
        let ring = Ring::<8192>::new(Full::Refuse);
        for number in 0..MESSAGES {
            ring.push(format!("{number:050}").as_bytes()).unwrap();
        }
        ring.close();
        let report = self.drive(
            |_, _| {},
            async |stack, tcp| {
                let mut source = RingSource::<8192, 64>::new(&ring);
                let stop = Stop::new();
                run_series(&Config::new(), &mut source, &stop, stack, tcp, 7).await
            },
        );
        let wires = self.peer.wires.iter();
        let arrived: Vec<_> = wires.flat_map(|wire| messages(wire).0).collect();
        assert!(arrived.is_sorted_by(|a, b| a < b), "in order, and once");
        let count = arrived.len() as u32;
        let sum = report.delivered + report.in_doubt + report.lost;
        assert_eq!(sum, MESSAGES, "{report:?}");
        let may_have_arrived = report.delivered..=report.delivered + report.in_doubt;
        assert!(may_have_arrived.contains(&count), "{count}: {report:?}");
        report
    }
}

#[test]
fn a_series_arrives_whole_and_is_ended() {
    let mut world = World::new(&[Conduct::Replies]);
    let report = world.series();
    assert_eq!((report.connections, report.delivered), (1, MESSAGES));
    assert_eq!((report.ended, report.answered), (true, true), "{report:?}");
}

#[test]
fn a_link_that_loses_packets_costs_no_message() {
    let mut lost = 0;
    for seed in 1..=8 {
        let mut world = World::new(&[Conduct::Replies]);
        world.link.borrow_mut().random = seed * 0x9e37_79b9;
        world.link.borrow_mut().lost_per_mille = 100;
        let report = world.series();
        lost += world.link.borrow().lost;
        assert!(report.ended, "seed {seed}: {report:?}");
        assert_eq!(
            (report.connections, report.lost),
            (1, 0),
            "seed {seed}: {report:?}"
        );
    }
    assert!(8 <= lost, "{lost} packets");
}

#[test]
fn a_reset_or_a_stall_by_the_peer_is_followed_by_the_next_connection() {
    for conduct in [Conduct::Resets(500), Conduct::Stalls, Conduct::Closes] {
        let mut world = World::new(&[conduct, Conduct::Replies]);
        let report = world.series();
        assert_eq!((report.connections, report.ended), (2, true), "{report:?}");
        assert_eq!(report.lost, 0, "{report:?}");
        // What the first connection took and was not delivered: at most its buffers.
        assert!((1..=40).contains(&report.in_doubt), "{report:?}");
    }
}

#[test]
fn a_connection_that_is_refused_or_not_answered_is_an_error_of_its_kind() {
    let mut world = World::new(&[Conduct::Replies]);
    world.peer.is_listening = false;
    let refused = world.drive(|_, _| {}, async |_, tcp| tcp.connect().await.err());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));

    world.link.borrow_mut().lost_per_mille = 1_000;
    let begun_ms = world.now_ms.get();
    let unanswered = world.drive(|_, _| {}, async |_, tcp| tcp.connect().await.err());
    assert_eq!(unanswered, Some(ErrorKind::TimedOut));
    let waited_ms = world.now_ms.get() - begun_ms;
    assert!((10_000..11_000).contains(&waited_ms), "{waited_ms} ms");
}

#[test]
fn a_close_succeeds_only_if_the_peer_has_acknowledged_all_of_it() {
    let mut world = World::new(&[Conduct::Stalls]);
    let closed = world.drive(
        |_, _| {},
        async |_, tcp| {
            let mut connection = tcp.connect().await.unwrap();
            connection.write_all(b"short").await.unwrap();
            SmolTcp::close(&mut connection).await
        },
    );
    assert_eq!(closed, Ok(()));

    // The link is cut before the data, or between the data and the FIN.
    for is_flushed in [false, true] {
        let mut world = World::new(&[Conduct::Stalls]);
        let link = Rc::clone(&world.link);
        let closed = world.drive(
            |_, _| {},
            async |_, tcp| {
                let mut connection = tcp.connect().await.unwrap();
                if is_flushed {
                    connection.write_all(b"short").await.unwrap();
                    connection.flush().await.unwrap();
                }
                link.borrow_mut().lost_per_mille = 1_000;
                if !is_flushed {
                    connection.write_all(b"short").await.unwrap();
                }
                SmolTcp::close(&mut connection).await
            },
        );
        assert_eq!(closed, Err(ErrorKind::ConnectionReset), "{is_flushed}");
    }
}

#[test]
fn progress_is_what_the_peer_has_acknowledged() {
    let mut world = World::new(&[Conduct::Stalls]);
    let link = Rc::clone(&world.link);
    let progress = world.drive(
        |_, _| {},
        async |_, tcp| {
            let mut connection = tcp.connect().await.unwrap();
            link.borrow_mut().lost_per_mille = 1_000;
            connection.write_all(b"short").await.unwrap();
            let before = SmolTcp::has_progress(&connection);
            link.borrow_mut().lost_per_mille = 0;
            connection.flush().await.unwrap();
            (before, SmolTcp::has_progress(&connection))
        },
    );
    assert_eq!(progress, (false, true));
}

#[test]
fn an_abort_resets_and_an_end_with_grace_does_not() {
    for (is_graceful, state) in [(true, State::CloseWait), (false, State::Closed)] {
        let mut world = World::new(&[Conduct::Stalls]);
        let seen = Rc::new(Cell::new(State::Closed));
        let note = Rc::clone(&seen);
        world.drive(
            |peer, _| {
                // The peer listens again after a reset.
                note.set(match peer.state {
                    State::Listen => State::Closed,
                    state => state,
                });
            },
            async |stack, tcp| {
                let mut connection = tcp.connect().await.unwrap();
                connection.write_all(b"short").await.unwrap();
                connection.flush().await.unwrap();
                SmolTcp::end(&mut connection, is_graceful).await;
                drop(connection);
                framing_uplink::Clock::sleep_ms(stack, 100).await;
            },
        );
        assert_eq!(seen.get(), state);
    }
}

#[test]
fn a_silent_peer_is_probed_and_given_up() {
    let mut world = World::new(&[Conduct::Stalls]);
    let link = Rc::clone(&world.link);
    // It is idle for a minute, and alive.
    let now_ms = Rc::clone(&world.now_ms);
    let read = world.drive(
        |_, now_ms| link.borrow_mut().lost_per_mille = if now_ms < 60_000 { 0 } else { 1_000 },
        async |_, tcp| tcp.connect().await.unwrap().read(&mut [0; 8]).await,
    );
    assert_eq!(read, Err(ErrorKind::ConnectionReset));
    assert!((65_000..75_000).contains(&now_ms.get()), "{now_ms:?}");
}
