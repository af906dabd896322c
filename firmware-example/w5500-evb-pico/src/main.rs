//! The board: a W5500-EVB-Pico, an RP2040 with Ethernet (W5500, over SPI). It compiles and links; nobody has run it.
//!
//! It gets its address by DHCP; the build takes the address of the daemon from the environment (`../boards.md`). The samples go
//! over an acknowledged session, whose messages outlive a reset.

#![no_std]
#![no_main]

use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use embassy_net_wiznet::chip::W5500;
use embassy_rp::clocks::RoscRng;
use embassy_rp::flash::{Blocking, Flash};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, FLASH, SPI0};
use embassy_rp::spi::{self, Spi};
use embassy_rp::{Peripherals, bind_interrupts, dma};
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use firmware_example::board::{device_name, telemetry};
use framing_uplink::embassy::{Counted, Frames};
use framing_uplink::{Device, SessionMemory};
use static_cell::{ConstStaticCell, StaticCell};

/// Address and port of the daemon.
const SERVER: &str = env!("SERVER");

/// Size of the flash chip, in bytes.
const FLASH_SIZE: usize = 2 * 1024 * 1024;

static FRAMES: Frames = Frames::new();

/// The messages that the daemon does not have on its disk yet: minutes of samples. The start-up code leaves this section as it
/// is, so a reset keeps them.
#[unsafe(link_section = ".uninit.session")]
static mut MEMORY: MaybeUninit<SessionMemory<65_536>> = MaybeUninit::uninit();

type Driver = Counted<'static, embassy_net_wiznet::Device<'static>>;
type Bus = ExclusiveDevice<Spi<'static, SPI0, spi::Async>, Output<'static>, Delay>;
type Chip = embassy_net_wiznet::Runner<'static, W5500, Bus, Input<'static>, Output<'static>>;

bind_interrupts!(struct Interrupts {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
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
    static STATE: ConstStaticCell<embassy_net_wiznet::State<4, 4>> =
        ConstStaticCell::new(embassy_net_wiznet::State::new());
    static RESOURCES: StaticCell<StackResources<4>> = StaticCell::new();

    let address = hardware_address(&mut Flash::new_blocking(board.FLASH));
    let mut settings = spi::Config::default();
    settings.frequency = 50_000_000;
    let spi = Spi::new(
        board.SPI0,
        board.PIN_18,
        board.PIN_19,
        board.PIN_16,
        board.DMA_CH0,
        board.DMA_CH1,
        Interrupts,
        settings,
    );
    let select = Output::new(board.PIN_17, Level::High);
    let bus = ExclusiveDevice::new(spi, select, Delay).expect("the pin cannot fail");
    let interrupt = Input::new(board.PIN_21, Pull::Up);
    let reset = Output::new(board.PIN_20, Level::High);
    let (device, chip) = embassy_net_wiznet::new(address, STATE.take(), bus, interrupt, reset)
        .await
        .expect("the chip answers");
    spawner.spawn(drive(chip).expect("spawned once"));

    let mut random = RoscRng;
    let (stack, runner) = embassy_net::new(
        Counted::new(device, &FRAMES),
        embassy_net::Config::dhcpv4(Default::default()),
        RESOURCES.init(StackResources::new()),
        random.next_u64(),
    );
    spawner.spawn(network(runner).expect("spawned once"));
    spawner.spawn(application(stack, address, random.next_u32()).expect("spawned once"));
}

#[embassy_executor::task]
async fn drive(chip: Chip) -> ! {
    chip.run().await
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Driver>) -> ! {
    runner.run().await
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

/// A locally administered hardware address, derived from the unique id of the flash chip.
fn hardware_address(flash: &mut Flash<'_, FLASH, Blocking, FLASH_SIZE>) -> [u8; 6] {
    let mut id = [0; 8];
    flash
        .blocking_unique_id(&mut id)
        .expect("the flash chip answers");
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
