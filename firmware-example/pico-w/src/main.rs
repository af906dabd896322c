//! The board: a Raspberry Pi Pico W, or a Pico 2 W, on Wi-Fi. It compiles and links; nobody has run it.
//!
//! The build takes the name and the password of the network, the address of the daemon, and the firmware of the radio from the
//! environment (`../boards.md`). The samples go over an acknowledged session, whose messages outlive a reset. The LED is on while
//! the board is in the network.

#![no_std]
#![no_main]

use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use cyw43::{Control, JoinOptions, NetDriver, SpiBus, aligned_bytes};
use cyw43_pio::{DEFAULT_CLOCK_DIVIDER, PioSpi};
use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use embassy_rp::clocks::RoscRng;
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::{DMA_CH0, PIO0};
use embassy_rp::pio::{self, Pio};
use embassy_rp::{Peripherals, bind_interrupts, dma};
use embassy_time::Timer;
use firmware_example::board::{device_name, telemetry};
use framing_uplink::embassy::{Counted, Frames};
use framing_uplink::{Device, SessionMemory};
use static_cell::StaticCell;

/// Name and password of the network.
const NETWORK: &str = env!("WIFI_NETWORK");
const PASSWORD: &str = env!("WIFI_PASSWORD");
/// Address and port of the daemon.
const SERVER: &str = env!("SERVER");

static FRAMES: Frames = Frames::new();

/// The messages that the daemon does not have on its disk yet: minutes of samples. The start-up code leaves this section as it
/// is, so a reset keeps them.
#[unsafe(link_section = ".uninit.session")]
static mut MEMORY: MaybeUninit<SessionMemory<65_536>> = MaybeUninit::uninit();

type Driver = Counted<'static, NetDriver<'static>>;
type Radio = cyw43::Runner<'static, SpiBus<Output<'static>, PioSpi<'static, PIO0, 0>>>;

bind_interrupts!(struct Interrupts {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>;
});

#[entry]
fn main() -> ! {
    static EXECUTOR: StaticCell<embassy_executor::raw::Executor> = StaticCell::new();

    machine::run(EXECUTOR.init(machine::executor()), |spawner| {
        let board = embassy_rp::init(Default::default());
        spawner.spawn(start(spawner, board).expect("spawned once"));
    })
}

#[embassy_executor::task]
async fn start(spawner: Spawner, board: Peripherals) {
    static STATE: StaticCell<cyw43::State> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<4>> = StaticCell::new();

    let firmware = aligned_bytes!(concat!(env!("OUT_DIR"), "/43439A0.bin"));
    let regulatory = aligned_bytes!(concat!(env!("OUT_DIR"), "/43439A0_clm.bin"));
    let settings = aligned_bytes!(concat!(env!("OUT_DIR"), "/nvram_rp2040.bin"));

    let mut pio = Pio::new(board.PIO0, Interrupts);
    let spi = PioSpi::new(
        &mut pio.common,
        pio.sm0,
        DEFAULT_CLOCK_DIVIDER,
        pio.irq0,
        Output::new(board.PIN_25, Level::High),
        board.PIN_24,
        board.PIN_29,
        dma::Channel::new(board.DMA_CH0, Interrupts),
    );
    let power = Output::new(board.PIN_23, Level::Low);
    let state = STATE.init(cyw43::State::new());
    let (device, mut control, radio) = cyw43::new(state, power, spi, firmware, settings).await;
    spawner.spawn(drive(radio).expect("spawned once"));
    control.init(regulatory).await;
    let address = control.address().await;

    let mut random = RoscRng;
    let (stack, runner) = embassy_net::new(
        Counted::new(device, &FRAMES),
        embassy_net::Config::dhcpv4(Default::default()),
        RESOURCES.init(StackResources::new()),
        random.next_u64(),
    );
    spawner.spawn(network(runner).expect("spawned once"));
    spawner.spawn(join(control, stack).expect("spawned once"));
    spawner.spawn(application(stack, address, random.next_u32()).expect("spawned once"));
}

#[embassy_executor::task]
async fn drive(radio: Radio) -> ! {
    radio.run().await
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Driver>) -> ! {
    runner.run().await
}

/// Joins the network, and again whenever it was lost.
#[embassy_executor::task]
async fn join(mut control: Control<'static>, stack: Stack<'static>) -> ! {
    loop {
        let options = JoinOptions::new(PASSWORD.as_bytes());
        let is_joined = control.join(NETWORK, options).await.is_ok();
        control.gpio_set(0, is_joined).await;
        Timer::after_secs(1).await;
        while stack.is_link_up() {
            Timer::after_secs(1).await;
        }
        control.gpio_set(0, false).await;
    }
}

#[embassy_executor::task]
async fn application(stack: Stack<'static>, address: [u8; 6], seed: u32) {
    let server = SERVER.parse().expect("the build has checked it");
    let name = device_name(env!("CARGO_PKG_NAME"), &address);
    let device = Device::new(&name).expect("letters, digits and hyphens");
    // SAFETY: used only here, by the one task; its type says that any bytes are valid, and it is made of integers and bytes
    // without padding.
    let memory = unsafe { machine::retained(&raw mut MEMORY) };
    telemetry(
        stack,
        &FRAMES,
        server,
        device,
        memory,
        machine::stack_used_bytes,
        seed,
    )
    .await;
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
