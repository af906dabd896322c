//! The board: a Nucleo-F429ZI on Ethernet. It compiles and links; it has never been run here.
//!
//! It gets its address by DHCP; set [`SERVER`] to the address of the daemon. The samples go over an acknowledged session, whose
//! messages outlive a reset. The blue button ends it.

#![no_std]
#![no_main]

use core::fmt::Write as _;
use core::mem::MaybeUninit;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use embassy_stm32::eth::{Ethernet, GenericPhy, InterruptHandler, PacketQueue, Sma};
use embassy_stm32::gpio::{Input, Pull};
use embassy_stm32::peripherals::{ETH, ETH_SMA, RNG};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::{bind_interrupts, rcc, time::mhz, uid};
use embassy_time::Timer;
use firmware_example::{Machine, Plan, run_session, tail};
use framing_defmt::{DefmtFrames, FRAME_MAX};
use framing_uplink::embassy::{Counted, EmbassyClock, Frames, Tcp};
use framing_uplink::logs::Logs;
use framing_uplink::{Clock, Config, Device, Full, Ring, Session, SessionMemory, Stop, run_series};
use heapless::String;
use static_cell::{ConstStaticCell, StaticCell};

/// Address of the daemon, with its ports for samples and for the log.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const TELEMETRY: SocketAddrV4 = SocketAddrV4::new(SERVER, 1060);
const LOGS: SocketAddrV4 = SocketAddrV4::new(SERVER, 1061);

type Driver = Counted<'static, Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>>;

static FRAMES: Frames = Frames::new();
static RING: Ring<512> = Ring::new(Full::DropOldest);
static STOP: Stop = Stop::new();
static STOP_LOGS: Stop = Stop::new();

/// The messages that the daemon does not have on its disk yet: minutes of samples. The start-up code leaves this section as it
/// is, so a reset keeps them.
#[unsafe(link_section = ".uninit.session")]
static mut MEMORY: MaybeUninit<SessionMemory<32_768>> = MaybeUninit::uninit();

bind_interrupts!(struct Interrupts {
    ETH => InterruptHandler;
    HASH_RNG => rng::InterruptHandler<RNG>;
});

defmt::timestamp!("{=u64:us}", EmbassyClock.now_us());

#[entry]
fn main() -> ! {
    static EXECUTOR: StaticCell<embassy_executor::raw::Executor> = StaticCell::new();

    machine::run(EXECUTOR.init(machine::executor()), start)
}

// Not inlined, because its stack frame would stay allocated forever.
#[inline(never)]
fn start(spawner: Spawner) {
    static PACKETS: ConstStaticCell<PacketQueue<4, 4>> = ConstStaticCell::new(PacketQueue::new());
    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();

    let board = embassy_stm32::init(clocks());
    let mut random = Rng::new(board.RNG, Interrupts);
    let ethernet = Ethernet::new(
        PACKETS.take(),
        board.ETH,
        Interrupts,
        board.PA1,
        board.PA7,
        board.PC4,
        board.PC5,
        board.PG13,
        board.PB13,
        board.PG11,
        hardware_address(),
        board.ETH_SMA,
        board.PA2,
        board.PC1,
    );
    let (stack, runner) = embassy_net::new(
        Counted::new(ethernet, &FRAMES),
        embassy_net::Config::dhcpv4(Default::default()),
        RESOURCES.init(StackResources::new()),
        random.next_u64(),
    );
    let button = Input::new(board.PC13, Pull::Down);
    spawner.spawn(network(runner).expect("spawned once"));
    spawner.spawn(stop_at(button).expect("spawned once"));
    spawner.spawn(logs(stack, random.next_u32()).expect("spawned once"));
    spawner.spawn(application(stack, random.next_u32()).expect("spawned once"));
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Driver>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn stop_at(button: Input<'static>) {
    while button.is_low() {
        Timer::after_millis(20).await;
    }
    STOP.request();
}

#[embassy_executor::task]
async fn logs(stack: Stack<'static>, seed: u32) {
    static RECEIVE: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);
    static SEND: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);

    let mut server = Tcp::new(stack, LOGS, RECEIVE.take(), SEND.take()).with_frames(&FRAMES);
    let mut logs = Logs::<_, FRAME_MAX>::new(DefmtFrames, &STOP_LOGS);
    run_series(
        &Config::new(),
        &mut logs,
        &STOP_LOGS,
        &EmbassyClock,
        &mut server,
        seed,
    )
    .await;
}

#[embassy_executor::task]
async fn application(stack: Stack<'static>, seed: u32) {
    static RECEIVE: ConstStaticCell<[u8; 128]> = ConstStaticCell::new([0; 128]);
    static SEND: ConstStaticCell<[u8; 4096]> = ConstStaticCell::new([0; 4096]);

    let mut server = Tcp::new(stack, TELEMETRY, RECEIVE.take(), SEND.take()).with_frames(&FRAMES);
    let id = device_id();
    let device = Device::new(&id).expect("letters, digits and a hyphen");
    // SAFETY: used only here, by the one task; its type says that any bytes are valid, and it is made of integers and bytes
    // without padding.
    let memory = unsafe { machine::retained(&raw mut MEMORY) };
    let mut session = Session::new(device, memory, Full::DropOldest, seed).with_tail(tail);
    let report = run_session(
        Plan::default(),
        &RING,
        &mut session,
        &STOP,
        &mut Board,
        &EmbassyClock,
        &mut server,
    )
    .await;
    defmt::info!("the application has ended: {}", report);
    STOP_LOGS.request();
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

/// 168 MHz from the 8 MHz of the on-board debugger, and 48 MHz for the random number generator.
fn clocks() -> embassy_stm32::Config {
    let mut config = embassy_stm32::Config::default();
    config.rcc.hse = Some(rcc::Hse {
        freq: mhz(8),
        mode: rcc::HseMode::Bypass,
    });
    config.rcc.pll_src = rcc::PllSource::HSE;
    config.rcc.pll = Some(rcc::Pll {
        prediv: rcc::PllPreDiv::DIV4,
        mul: rcc::PllMul::MUL168,
        divp: Some(rcc::PllPDiv::DIV2),
        divq: Some(rcc::PllQDiv::DIV7),
        divr: None,
    });
    config.rcc.sys = rcc::Sysclk::PLL1_P;
    config.rcc.ahb_pre = rcc::AHBPrescaler::DIV1;
    config.rcc.apb1_pre = rcc::APBPrescaler::DIV4;
    config.rcc.apb2_pre = rcc::APBPrescaler::DIV2;
    config
}

/// The name of the board at the daemon: the unique id of the chip.
fn device_id() -> String<32> {
    let mut id = String::new();
    // Cannot fail: there is room for 12 bytes.
    let _ = write!(id, "nucleo-");
    for byte in uid::uid() {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// A locally administered hardware address, derived from the unique id of the chip.
fn hardware_address() -> [u8; 6] {
    let id = uid::uid();
    let mut address = [0x02, 0, 0, 0, 0, 0];
    for (at, byte) in id.iter().enumerate() {
        address[1 + at % 5] ^= byte;
    }
    address
}

// SAFETY: it only restarts the board.
#[exception]
unsafe fn HardFault(_frame: &ExceptionFrame) -> ! {
    SCB::sys_reset()
}

/// Restarts the board; its uptime and its first sample show that.
#[panic_handler]
fn on_panic(_info: &PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
