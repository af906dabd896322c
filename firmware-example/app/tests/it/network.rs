//! The application over embassy-net: what its report says when the network or the server fails, and when it sleeps.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

use embassy_net::tcp::TcpSocket;
use embassy_net::{Config, ConfigV4};
use embassy_time::{Duration, Instant, Timer};
use firmware_example::{Plan, run};
use framing_uplink::embassy::{EmbassyClock, Tcp};
use framing_uplink::{Full, Ring, SeriesReport, Stop};

use crate::application::PLAN;
use crate::cable::{Cable, Lab, Machine, address};
use crate::delivery::assert_honest;
use crate::support::{Bench, Ending, blocks, receipt};

pub(crate) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 1060);

/// What the server does with each connection.
#[derive(Clone, Copy)]
enum Conduct {
    /// It reads, and ends the connection after the peer.
    Reads,
    /// It reads a series, and replies to it with a receipt at once.
    Replies,
    /// It does not read until this time, in seconds since the start.
    ReadsFrom(u64),
    /// It does not read, and resets the connection at this time.
    ResetsAt(u64),
}

/// A device and a server on one cable.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) cable: &'static Cable,
    device: Machine,
    /// Length of the device's send buffer.
    pub(crate) send_len: usize,
    /// The data of each connection.
    pub(crate) wires: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl World {
    pub(crate) fn new(device: Config) -> Self {
        let mut lab = Lab::new();
        let cable = Cable::new();
        Self {
            device: cable.machine(&mut lab, 0, device),
            lab,
            cable,
            send_len: 1_024,
            wires: Rc::default(),
        }
    }

    /// Starts the server, with a receive buffer of this size.
    fn serve(&mut self, conduct: Conduct, buffer_len: usize) {
        let machine = self.cable.machine(&mut self.lab, 1, address(2));
        let wires = Rc::clone(&self.wires);
        self.lab.spawn(async move {
            let (mut receive, mut send) = (vec![0; buffer_len], vec![0; 256]);
            for at in 0.. {
                wires.borrow_mut().push(Vec::new());
                let mut socket = TcpSocket::new(machine.stack, &mut receive, &mut send);
                if socket.accept(SERVER.port()).await.is_ok() {
                    // The reset by a device that gave up may get lost.
                    socket.set_timeout(Some(Duration::from_secs(10)));
                    socket.set_keep_alive(Some(Duration::from_secs(3)));
                    converse(&mut socket, conduct, &wires, at).await;
                }
                socket.abort();
                let _ = socket.flush().await;
            }
        });
    }

    /// Starts the application.
    fn start(&mut self, plan: Plan) -> Rc<Cell<Option<SeriesReport>>> {
        let reported = Rc::new(Cell::new(None));
        let (device, send_len) = (self.device, self.send_len);
        let result = Rc::clone(&reported);
        self.lab.spawn(async move {
            let (ring, stop, mut bench) = (
                Ring::<3584>::new(Full::DropOldest),
                Stop::new(),
                Bench::default(),
            );
            let (mut receive, mut send) = ([0; 128], vec![0; send_len]);
            let Machine { stack, frames } = device;
            let mut tcp = Tcp::new(stack, SERVER, &mut receive, &mut send).with_frames(frames);
            let clock = EmbassyClock;
            let report = run(plan, &ring, &stop, &mut bench, &clock, &mut tcp, 7).await;
            result.set(Some(report));
        });
        reported
    }

    /// Does something at this time.
    pub(crate) fn at(&mut self, secs: u64, action: impl FnOnce() + 'static) {
        self.lab.spawn(async move {
            Timer::at(Instant::from_secs(secs)).await;
            action();
        });
    }

    /// Runs the application to its end. Returns its report, and the number of samples that arrived.
    pub(crate) fn report(&mut self, plan: Plan) -> (SeriesReport, usize) {
        let reported = self.start(plan);
        self.lab
            .run(Duration::from_secs(1_000), || reported.get().is_some());
        let report = reported.get().expect("it is done");
        (report, self.received())
    }

    fn received(&self) -> usize {
        let wires = self.wires.borrow();
        wires.iter().map(|wire| blocks(wire).0.len()).sum()
    }
}

/// The server's side of a connection.
async fn converse(
    socket: &mut TcpSocket<'_>,
    conduct: Conduct,
    wires: &RefCell<Vec<Vec<u8>>>,
    at: usize,
) {
    match conduct {
        Conduct::Reads | Conduct::Replies => {}
        Conduct::ReadsFrom(secs) => Timer::at(Instant::from_secs(secs)).await,
        Conduct::ResetsAt(secs) => return Timer::at(Instant::from_secs(secs)).await,
    }
    let mut bytes = [0; 256];
    while let Ok(len @ 1..) = socket.read(&mut bytes).await {
        wires.borrow_mut()[at].extend_from_slice(&bytes[..len]);
        let series = blocks(&wires.borrow()[at]);
        if let (Conduct::Replies, (blocks, Ending::Mark)) = (conduct, series) {
            let _ = socket.write(&receipt(&blocks)).await;
            break;
        }
    }
    socket.close();
    let _ = socket.flush().await;
    while let Ok(1..) = socket.read(&mut bytes).await {}
}

/// A series of ten samples in ten seconds, and a minute for the rest of it.
const TEN: Plan = Plan {
    period_ms: 1_000,
    samples: Some(10),
    stop_ms: 60_000,
    ..PLAN
};

#[test]
fn an_acknowledged_series_is_ended() {
    for (conduct, answered) in [(Conduct::Reads, false), (Conduct::Replies, true)] {
        let mut world = World::new(address(1));
        world.serve(conduct, 1_024);
        let (report, arrived) = world.report(TEN);
        assert_eq!((report.ended, report.answered), (true, answered));
        assert_eq!((arrived, report.connections, report.lost), (10, 1, 0));
        assert_honest(report, 10, arrived);
    }
}

#[test]
fn a_series_that_the_peer_did_not_acknowledge_is_not_ended() {
    // The cable is cut for good in the middle; at the end, nobody answers.
    let mut world = World::new(address(1));
    world.serve(Conduct::Reads, 1_024);
    let cable = world.cable;
    world.at(4, || cable.set_carries(false));
    let (report, arrived) = world.report(TEN);
    assert!(!report.ended, "{report:?}");
    assert!((1..10).contains(&arrived));
    assert_honest(report, 10, arrived);
    drop(world);

    // The peer resets the connection while it has acknowledged only a part of the series.
    let mut world = World::new(address(1));
    world.serve(Conduct::ResetsAt(20), 256);
    let (report, _) = world.report(TEN);
    assert!(!report.ended, "{report:?}");
    assert_honest(report, 10, 0);
    drop(world);

    // The device loses its address meanwhile.
    let mut world = World::new(address(1));
    world.serve(Conduct::ReadsFrom(1_000), 256);
    let stack = world.device.stack;
    world.at(20, move || stack.set_config_v4(ConfigV4::None));
    let (report, _) = world.report(TEN);
    assert!(!report.ended, "{report:?}");
    assert_honest(report, 10, 0);
}

#[test]
fn a_peer_without_a_window_is_waited_for_while_it_answers() {
    let mut world = World::new(address(1));
    world.serve(Conduct::ReadsFrom(400), 256);
    let plan = Plan {
        stop_ms: 600_000,
        ..TEN
    };
    let (report, arrived) = world.report(plan);
    assert_eq!((report.connections, report.ended), (1, true), "{report:?}");
    assert_eq!((arrived, report.in_doubt), (10, 10));
}

#[test]
fn uplinks_without_an_address_let_the_processor_sleep() {
    let mut world = World::new(Config::dhcpv4(Default::default()));
    let reports = [world.start(TEN), world.start(TEN)];
    let is_done = || reports.iter().all(|report| report.get().is_some());
    world.lab.run(Duration::from_secs(1_000), is_done);
    for report in reports {
        let report = report.get().expect("it is done");
        assert_eq!((report.lost, report.connections), (10, 0));
    }
    // Each looks for an address ten times a second, for 69 s.
    let polls = world.lab.polls();
    assert!(polls < 2 * 69 * 10 + 200, "{polls}");
}

#[test]
fn a_link_that_is_back_is_used_at_once() {
    let mut world = World::new(address(1));
    world.serve(Conduct::Reads, 1_024);
    let cable = world.cable;
    cable.set_link(false);
    // Long enough for attempts without a link to reach the longest back-off.
    world.at(100, || cable.set_link(true));
    let plan = Plan {
        samples: Some(110),
        ..TEN
    };
    let reported = world.start(plan);
    let wires = Rc::clone(&world.wires);
    let is_used = || wires.borrow().first().is_some_and(|wire| !wire.is_empty());
    world.lab.run(Duration::from_secs(1_000), is_used);
    let used_ms = Instant::now().as_millis();
    assert!((100_000..101_000).contains(&used_ms), "{used_ms}");
    world
        .lab
        .run(Duration::from_secs(1_000), || reported.get().is_some());
    let report = reported.get().expect("it is done");
    assert_honest(report, 110, world.received());
}
