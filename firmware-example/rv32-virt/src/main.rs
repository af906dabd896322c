//! The board: QEMU's `virt` with a RISC-V core (RV32IMAC) and a virtio network card. It takes no interrupts: it wakes up each
//! millisecond, and looks at the timer and the card.

#![no_std]
#![no_main]

mod clock;
mod net;

use core::fmt::{self, Write};
use core::net::{Ipv4Addr, SocketAddrV4};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};
use embassy_net::{Runner, Stack, StackResources};
use firmware_example::{Machine, Plan, run_session, tail};
use framing_uplink::embassy::{Counted, EmbassyClock, Frames, Tcp};
use framing_uplink::{Device, Full, Ring, Session, SessionMemory, Stop};
use static_cell::{ConstStaticCell, StaticCell};

/// Where QEMU forwards to the daemon (`../run`).
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 100), 1060);
const PLAN: Plan = Plan {
    period_ms: 20,
    samples: Some(20),
    stop_ms: 5_000,
    answer_ms: 2_000,
};

type Driver = Counted<'static, net::Virtio>;

static FRAMES: Frames = Frames::new();
static RING: Ring<512> = Ring::new(Full::DropOldest);
static STOP: Stop = Stop::new();
/// Set when a task was woken.
static WOKEN: AtomicBool = AtomicBool::new(true);

#[riscv_rt::entry]
fn main() -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();

    let executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    start(executor.spawner());
    loop {
        if !WOKEN.swap(false, Ordering::Relaxed) {
            clock::sleep_ms();
            net::wake();
        }
        // SAFETY: polled only here, and never from within a task.
        unsafe { executor.poll() };
    }
}

fn start(spawner: Spawner) {
    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();

    let (stack, runner) = embassy_net::new(
        Counted::new(net::Virtio::start(), &FRAMES),
        embassy_net::Config::dhcpv4(Default::default()),
        RESOURCES.init(StackResources::new()),
        riscv::register::mcycle::read64(),
    );
    spawner.spawn(network(runner).expect("spawned once"));
    spawner.spawn(application(stack).expect("spawned once"));
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Driver>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn application(stack: Stack<'static>) {
    static MEMORY: ConstStaticCell<SessionMemory<4096>> =
        ConstStaticCell::new(SessionMemory::new());
    static RECEIVE: ConstStaticCell<[u8; 128]> = ConstStaticCell::new([0; 128]);
    static SEND: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);

    let mut server = Tcp::new(stack, SERVER, RECEIVE.take(), SEND.take()).with_frames(&FRAMES);
    let device = Device::new("rv32-virt").expect("a device id");
    let mut session = Session::new(device, MEMORY.take(), Full::DropOldest, 1).with_tail(tail);
    let report = run_session(
        PLAN,
        &RING,
        &mut session,
        &STOP,
        &mut Board,
        &EmbassyClock,
        &mut server,
    )
    .await;
    let _ = writeln!(Console, "{report:?}");
    exit(if report.ended { PASS } else { FAIL });
}

struct Board;

impl Machine for Board {
    /// Not measured.
    fn stack_bytes(&mut self) -> u32 {
        0
    }

    fn frames_received(&mut self) -> u32 {
        FRAMES.received()
    }

    fn frames_sent(&mut self) -> u32 {
        FRAMES.sent()
    }
}

/// The UART of the board, which QEMU prints.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the transmit register of the UART.
            unsafe { (0x1000_0000 as *mut u8).write_volatile(byte) };
        }
        Ok(())
    }
}

/// Exit statuses of the emulator: 0, and 1.
const PASS: u32 = 0x5555;
const FAIL: u32 = 1 << 16 | 0x3333;

fn exit(status: u32) -> ! {
    // SAFETY: the register of the test device, which ends the emulator.
    unsafe { (0x10_0000 as *mut u32).write_volatile(status) };
    loop {}
}

/// Called by the executor when a task was woken.
// SAFETY: this name is defined nowhere else, since every platform feature of embassy-executor is off.
#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    WOKEN.store(true, Ordering::Relaxed);
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "{info}");
    exit(FAIL)
}
