//! The board: QEMU's `mps2-an386`, a Cortex-M4F with an Ethernet controller. Start with `application`.

#![no_std]
#![no_main]

mod arguments;
mod clock;
mod lan9118;
#[cfg(feature = "defmt")]
mod log;
#[cfg(feature = "plain")]
mod plain;
#[cfg(feature = "session")]
mod session;
#[cfg(feature = "tls")]
mod tls;

#[cfg(not(any(feature = "plain", feature = "session")))]
compile_error!("choose an uplink: the feature `session` or `plain`");
#[cfg(all(feature = "plain", feature = "tls"))]
compile_error!("an image with TLS has no plain series: use `--no-default-features`");

use core::fmt::Debug;
use core::panic::PanicInfo;

use arguments::Arguments;
use cortex_m::peripheral::{NVIC, Peripherals, syst::SystClkSource};
use cortex_m_rt::{ExceptionFrame, entry, exception};
use cortex_m_semihosting::{debug, hprintln};
use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use firmware_example::Machine;
use framing_uplink::Stop;
use framing_uplink::embassy::{Counted, Frames, Tcp};
use lan9118::Lan9118;
use static_cell::{ConstStaticCell, StaticCell};

/// Length of the send buffer of a connection. A session keeps its messages elsewhere until they are acknowledged.
const SEND_LEN: usize = if cfg!(feature = "plain") { 1024 } else { 512 };
/// Number of sockets: telemetry, DHCP, and the log.
const SOCKETS: usize = 2 + cfg!(feature = "defmt") as usize;

type Driver = Counted<'static, Lan9118>;

static FRAMES: Frames = Frames::new();
static STOP: Stop = Stop::new();

#[entry]
fn main() -> ! {
    static EXECUTOR: StaticCell<embassy_executor::raw::Executor> = StaticCell::new();
    static LINE: ConstStaticCell<[u8; arguments::LINE_MAX]> =
        ConstStaticCell::new([0; arguments::LINE_MAX]);
    static BUFFERS: ConstStaticCell<lan9118::Buffers> =
        ConstStaticCell::new(lan9118::Buffers::new());

    let arguments = match Arguments::read(LINE.take()) {
        Ok(arguments) => arguments,
        Err(error) => panic!("{error}"),
    };
    clock::start();
    let controller = match Lan9118::start(BUFFERS.take()) {
        Ok(controller) => controller,
        Err(error) => panic!("{error}"),
    };
    keep_qemu_turning();
    for interrupt in [clock::INTERRUPT, lan9118::INTERRUPT] {
        // SAFETY: both are configured, and handled below.
        unsafe { NVIC::unmask(Interrupt(interrupt)) };
    }
    machine::run(EXECUTOR.init(machine::executor()), |spawner| {
        start(spawner, controller, arguments);
    })
}

// Not inlined, because its stack frame would stay allocated forever.
#[inline(never)]
fn start(spawner: Spawner, controller: Lan9118, arguments: Arguments) {
    static ARGUMENTS: StaticCell<Arguments> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();

    let arguments = ARGUMENTS.init(arguments);

    if arguments.panic {
        panic!("as the command line asked for");
    }
    let (stack, runner) = embassy_net::new(
        Counted::new(controller, &FRAMES),
        arguments.network(),
        RESOURCES.init(StackResources::new()),
        arguments::seed(),
    );
    spawner.spawn(network(runner).expect("spawned once"));
    #[cfg(feature = "defmt")]
    spawner.spawn(log::send(stack, arguments).expect("spawned once"));
    spawner.spawn(application(stack, arguments).expect("spawned once"));
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Driver>) -> ! {
    runner.run().await
}

/// Samples and sends until the plan is done, and ends the emulator.
#[embassy_executor::task]
async fn application(stack: Stack<'static>, arguments: &'static Arguments) {
    static RECEIVE: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);
    static SEND: ConstStaticCell<[u8; SEND_LEN]> = ConstStaticCell::new([0; SEND_LEN]);

    #[cfg_attr(feature = "tls", expect(unused_mut, reason = "TLS takes it"))]
    let mut server =
        Tcp::new(stack, arguments.telemetry, RECEIVE.take(), SEND.take()).with_frames(&FRAMES);
    #[cfg(feature = "tls")]
    let mut server = tls::over(server);
    #[cfg(feature = "session")]
    if let Some(device) = arguments.device {
        leave(session::run(arguments.plan, device, &mut server).await);
    }
    #[cfg(feature = "plain")]
    leave(plain::run(arguments.plan, &mut server).await);
}

/// Prints the report of an uplink at the end.
fn print(report: &dyn Debug) {
    let (used, size) = (machine::stack_used_bytes(), machine::stack_size_bytes());
    let rounds = machine::rounds();
    hprintln!("{report:?}, {used} of {size} bytes of stack used, tasks woken {rounds} times");
}

struct Board;

impl Machine for Board {
    fn stack_bytes(&mut self) -> u32 {
        machine::stack_used_bytes()
    }

    fn frames_received(&mut self) -> u32 {
        FRAMES.received()
    }

    fn frames_sent(&mut self) -> u32 {
        FRAMES.sent()
    }
}

/// An interrupt of the board, by its number.
#[derive(Clone, Copy)]
struct Interrupt(i16);

// SAFETY: a number of the board's interrupts, all of them below 240.
unsafe impl cortex_m::interrupt::InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self.0.unsigned_abs()
    }
}

/// Starts a 1 ms tick, which only QEMU needs. Its network (slirp) notices a new connection when the emulator's main loop
/// runs, and a guest that sleeps without a timer does not run that loop. Connecting would then take 1 s.
fn keep_qemu_turning() {
    if let Some(mut peripherals) = Peripherals::take() {
        peripherals.SYST.set_clock_source(SystClkSource::Core);
        peripherals.SYST.set_reload(25_000 - 1);
        peripherals.SYST.clear_current();
        peripherals.SYST.enable_counter();
        peripherals.SYST.enable_interrupt();
    }
}

#[exception]
fn SysTick() {}

// SAFETY: safe to be called at any interrupt.
#[exception]
unsafe fn DefaultHandler(interrupt: i16) {
    match interrupt {
        clock::INTERRUPT => clock::on_interrupt(),
        lan9118::INTERRUPT => lan9118::on_interrupt(),
        other => panic!("no handler for interrupt {other}"),
    }
}

// SAFETY: it only reports, and exits.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    panic!("{frame:?}")
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    hprintln!("{info}");
    leave(false)
}

/// Ends the emulator with an exit status of success or failure.
fn leave(well: bool) -> ! {
    debug::exit(if well { Ok(()) } else { Err(()) });
    // Reached only with a debugger, which has noticed the exit.
    loop {
        cortex_m::asm::bkpt();
    }
}
