//! A session over embassy-net: a cut cable, a reset, and a host that does not read cost no sample.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use embassy_futures::select::{Either, select};
use embassy_net::tcp::TcpSocket;
use embassy_time::{Duration, Instant, Timer};
use firmware_example::{Plan, run_session, tail};
use framing_core::session::Device;
use framing_uplink::embassy::{EmbassyClock, Tcp};
use framing_uplink::{Full, Ring, Session, SessionMemory, SessionReport, Stop};

use crate::application::PLAN;
use crate::cable::{Cable, Lab, Machine, address};
use crate::host::{HEARTBEAT_S, START_MS, State};
use crate::network::SERVER;
use crate::support::Bench;

const SAMPLES: u32 = 40;

/// One sample every two seconds; the ring has room for about 37.
const PLAN_40: Plan = Plan {
    period_ms: 2_000,
    samples: Some(SAMPLES),
    stop_ms: 300_000,
    ..PLAN
};

/// A device and a host on one cable.
struct World {
    lab: Lab,
    cable: &'static Cable,
    device: Machine,
    state: Rc<RefCell<State>>,
    /// Whether the host resets its connection.
    resets: Rc<Cell<bool>>,
}

impl World {
    fn new() -> Self {
        let mut lab = Lab::new();
        let cable = Cable::new();
        Self {
            device: cable.machine(&mut lab, 0, address(1)),
            lab,
            cable,
            state: Rc::default(),
            resets: Rc::default(),
        }
    }

    /// Starts the host. It reads nothing in these seconds.
    fn serve(&mut self, pause: std::ops::Range<u64>) {
        let machine = self.cable.machine(&mut self.lab, 1, address(2));
        let (state, resets) = (Rc::clone(&self.state), Rc::clone(&self.resets));
        self.lab.spawn(async move {
            loop {
                let (receive, send) = (vec![0; 256].leak(), vec![0; 256].leak());
                let mut socket = TcpSocket::new(machine.stack, receive, send);
                socket.set_timeout(Some(Duration::from_secs(20)));
                socket.set_keep_alive(Some(Duration::from_secs(3)));
                socket.accept(SERVER.port()).await.expect("it listens");
                state.borrow_mut().accept();
                converse(&mut socket, &state, &resets, &pause).await;
                socket.abort();
                let _ = socket.flush().await;
            }
        });
    }

    /// Does something at this time.
    fn at(&mut self, secs: u64, action: impl FnOnce() + 'static) {
        self.lab.spawn(async move {
            Timer::at(Instant::from_secs(secs)).await;
            action();
        });
    }

    /// Runs the application to its end. Asserts that the host has every sample once.
    #[track_caller]
    fn run(mut self) -> SessionReport {
        let reported = Rc::new(Cell::new(None));
        let (Machine { stack, frames }, result) = (self.device, Rc::clone(&reported));
        self.lab.spawn(async move {
            let (ring, stop, mut bench) = (
                Ring::<448>::new(Full::DropOldest),
                Stop::new(),
                Bench::default(),
            );
            let (mut receive, mut send) = ([0; 128], [0; 512]);
            let mut tcp = Tcp::new(stack, SERVER, &mut receive, &mut send).with_frames(frames);
            let mut memory = SessionMemory::<4096>::new();
            let mut session =
                Session::new(Device::new("d").unwrap(), &mut memory, Full::DropOldest, 7)
                    .with_tail(tail);
            let running = run_session(
                PLAN_40,
                &ring,
                &mut session,
                &stop,
                &mut bench,
                &EmbassyClock,
                &mut tcp,
            );
            result.set(Some(running.await));
        });
        self.lab
            .run(Duration::from_secs(1_000), || reported.get().is_some());
        let report = reported.get().expect("it is done");
        let (samples, gaps) = self.state.borrow().recorded();
        let numbers: Vec<_> = samples.iter().map(|sample| sample["n"] as u32).collect();
        assert_eq!(numbers, (0..SAMPLES).collect::<Vec<_>>(), "{report:?}");
        assert_eq!((gaps, report.acknowledged), (0, SAMPLES), "{report:?}");
        assert!(report.ended, "{report:?}");
        report
    }
}

/// The host's side of a connection.
async fn converse(
    socket: &mut TcpSocket<'_>,
    state: &RefCell<State>,
    resets: &Cell<bool>,
    pause: &std::ops::Range<u64>,
) {
    let mut beat = Instant::now();
    let now_ns = || START_MS * 1_000_000 + Instant::now().as_micros() * 1_000;
    while !resets.take() {
        let down: Vec<u8> = state.borrow_mut().down.drain(..).collect();
        let mut rest = &down[..];
        while !rest.is_empty() {
            match socket.write(rest).await {
                Ok(len) => rest = &rest[len..],
                Err(_) => return,
            }
        }
        let is_paused = pause.contains(&Instant::now().as_secs());
        let mut bytes = [0; 64];
        let reading = async {
            if is_paused {
                std::future::pending().await
            }
            socket.read(&mut bytes).await
        };
        match select(reading, Timer::after_millis(100)).await {
            Either::First(Ok(len @ 1..)) => {
                let mut state = state.borrow_mut();
                state.up.extend_from_slice(&bytes[..len]);
                state.read(now_ns());
            }
            Either::First(_) => return,
            Either::Second(()) => {}
        }
        if beat.elapsed() >= Duration::from_secs(HEARTBEAT_S.into()) {
            beat = Instant::now();
            state.borrow_mut().acknowledge(now_ns());
        }
    }
}

#[test]
fn an_undisturbed_session_over_tcp_has_one_connection() {
    let mut world = World::new();
    world.serve(0..0);
    let report = world.run();
    assert_eq!((report.connections, report.unwelcome), (1, 0));
}

#[test]
fn a_cable_that_is_cut_and_restored_costs_a_session_nothing() {
    // Both directions, and each of them, for a time that TCP survives, and for one that it does not.
    for sides in [&[0, 1][..], &[0], &[1]] {
        for secs in [5, 33] {
            let mut world = World::new();
            world.serve(0..0);
            let cable = world.cable;
            world.at(10, move || {
                sides
                    .iter()
                    .for_each(|side| cable.set_carries_to(*side, false));
            });
            world.at(10 + secs, || cable.set_carries(true));
            let report = world.run();
            assert!(
                (1..=6).contains(&report.connections),
                "{sides:?}: {report:?}"
            );
            assert!(
                secs == 5 || 2 <= report.connections,
                "{sides:?}: {report:?}"
            );
        }
    }
}

#[test]
fn a_reset_by_the_host_costs_a_session_nothing() {
    let mut world = World::new();
    world.serve(0..0);
    for secs in [0, 7, 20, 21] {
        let resets = Rc::clone(&world.resets);
        world.at(secs, move || resets.set(true));
    }
    let report = world.run();
    assert!((4..=5).contains(&report.connections), "{report:?}");
}

#[test]
fn a_host_that_reads_nothing_and_sends_heartbeats_is_waited_for() {
    // Longer than a silent host is waited for: its window is zero, and heartbeats come. 512 bytes wait in the send buffer.
    let mut world = World::new();
    world.serve(5..40);
    let report = world.run();
    assert_eq!(report.connections, 1, "{report:?}");
}
