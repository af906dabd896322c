//! Two network stacks on one cable, in simulated time. Start with [`Lab`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use embassy_net::{Config, Ipv4Address, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4};
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_time::{Duration, Instant, MockDriver};
use framing_uplink::embassy::{Counted, Frames};

/// Number of rounds without a pause after which tasks count as waking each other without end.
const ROUNDS_MAX: u32 = 10_000;

/// The clock of the whole process is simulated, so only one test may use it at a time.
static CLOCK: Mutex<()> = Mutex::new(());

/// Tasks, each with its own waker, as an executor runs them. Time advances when all of them wait. Drop it before the next
/// one is created, which waits for the clock.
pub(crate) struct Lab {
    tasks: Vec<Task>,
    _clock: MutexGuard<'static, ()>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
    polls: u64,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Lab {
    /// Starts at the time zero.
    pub(crate) fn new() -> Self {
        let clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        MockDriver::get().reset();
        Self {
            tasks: Vec::new(),
            _clock: clock,
        }
    }

    /// Adds a task.
    pub(crate) fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.tasks.push(Task {
            future: Box::pin(future),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            polls: 0,
        });
    }

    /// Runs all tasks until `is_done`, for at most this long.
    pub(crate) fn run(&mut self, limit: Duration, is_done: impl Fn() -> bool) {
        let end = Instant::now() + limit;
        let mut rounds = 0;
        while !is_done() {
            let mut is_idle = true;
            for task in &mut self.tasks {
                if task.woken.0.swap(false, Ordering::Relaxed) {
                    is_idle = false;
                    task.polls += 1;
                    let waker = Waker::from(Arc::clone(&task.woken));
                    if task
                        .future
                        .as_mut()
                        .poll(&mut Context::from_waker(&waker))
                        .is_ready()
                    {
                        task.future = Box::pin(std::future::pending());
                    }
                }
            }
            rounds = if is_idle { 0 } else { rounds + 1 };
            assert!(rounds < ROUNDS_MAX, "the tasks wake each other without end");
            if is_idle {
                assert!(Instant::now() < end, "not done in {limit:?}");
                MockDriver::get().advance(Duration::from_millis(1));
            }
        }
    }

    /// Number of times that tasks were woken.
    pub(crate) fn polls(&self) -> u64 {
        self.tasks.iter().map(|task| task.polls).sum()
    }
}

/// A cable between two machines.
pub(crate) struct Cable {
    ends: [End; 2],
    /// Whether frames to each end arrive.
    carries: [Cell<bool>; 2],
    link: Cell<bool>,
}

#[derive(Default)]
struct End {
    arrived: RefCell<VecDeque<Vec<u8>>>,
    waker: RefCell<Option<Waker>>,
}

impl End {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Cable {
    /// A cable that is whole. It lives as long as the process.
    pub(crate) fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            ends: Default::default(),
            carries: [const { Cell::new(true) }; 2],
            link: Cell::new(true),
        }))
    }

    /// Cuts or restores the cable after a switch. The machines do not notice.
    pub(crate) fn set_carries(&self, carries: bool) {
        (0..2).for_each(|side| self.set_carries_to(side, carries));
    }

    /// The same for frames to this end only.
    pub(crate) fn set_carries_to(&self, side: usize, carries: bool) {
        self.carries[side].set(carries);
    }

    /// Plugs the cable in or out.
    pub(crate) fn set_link(&self, link: bool) {
        self.link.set(link);
        self.set_carries(link);
        self.ends.iter().for_each(End::wake);
    }

    /// Connects a machine to this end of the cable.
    pub(crate) fn machine(&'static self, lab: &mut Lab, side: usize, config: Config) -> Machine {
        let frames: &'static Frames = Box::leak(Box::default());
        let resources: &'static mut StackResources<4> = Box::leak(Box::new(StackResources::new()));
        let driver = Counted::new(Port { cable: self, side }, frames);
        let (stack, runner) = embassy_net::new(driver, config, resources, 7 + side as u64);
        lab.spawn(network(runner));
        Machine { stack, frames }
    }
}

/// A machine on a cable.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) stack: Stack<'static>,
    pub(crate) frames: &'static Frames,
}

/// A static address, with this last number.
pub(crate) fn address(last: u8) -> Config {
    Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, last), 24),
        gateway: None,
        dns_servers: Default::default(),
    })
}

async fn network(mut runner: Runner<'static, Counted<'static, Port>>) {
    runner.run().await
}

/// The driver of a machine.
struct Port {
    cable: &'static Cable,
    side: usize,
}

impl Driver for Port {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Departing;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Arrived, Departing)> {
        let end = &self.cable.ends[self.side];
        *end.waker.borrow_mut() = Some(cx.waker().clone());
        let frame = end.arrived.borrow_mut().pop_front()?;
        Some((Arrived(frame), self.transmit(cx)?))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Departing> {
        Some(Departing(self.cable, 1 - self.side))
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        if self.cable.link.get() {
            LinkState::Up
        } else {
            LinkState::Down
        }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet([2, 0, 0, 0, 0, self.side as u8])
    }
}

struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0)
    }
}

/// A frame to the end of this number.
struct Departing(&'static Cable, usize);

impl TxToken for Departing {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        if self.0.carries[self.1].get() {
            let end = &self.0.ends[self.1];
            end.arrived.borrow_mut().push_back(frame);
            end.wake();
        }
        result
    }
}
