//! The board: any with an ESP32-C3 or ESP32-C6, on Wi-Fi. It compiles and links; nobody has run it.
//!
//! The build takes the name and the password of the network and the address of the daemon from the environment (`../boards.md`). The
//! samples go over an acknowledged session, whose messages outlive a reset. What happens to the network is printed on USB.

#![no_std]
#![no_main]

use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use embassy_time::Timer;
use esp_hal::clock::CpuClock;
use esp_hal::interrupt::software::SoftwareInterruptControl;
use esp_hal::rng::Rng;
use esp_hal::timer::timg::TimerGroup;
use esp_hal::{ram, system};
use esp_println::println;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{self, ControllerConfig, Interface, WifiController};
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

/// The messages that the daemon does not have on its disk yet. The start-up code clears this section at power-on only, so a
/// reset keeps them.
#[unsafe(link_section = ".rtc_fast.persistent.session")]
static mut MEMORY: MaybeUninit<SessionMemory<4096>> = MaybeUninit::uninit();

type Driver = Counted<'static, Interface<'static>>;

esp_bootloader_esp_idf::esp_app_desc!();

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    static RESOURCES: StaticCell<StackResources<4>> = StaticCell::new();

    let board = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    // The driver of the radio allocates.
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: 64 * 1024);
    esp_alloc::heap_allocator!(size: 36 * 1024);
    let timers = TimerGroup::new(board.TIMG0);
    let interrupts = SoftwareInterruptControl::new(board.SW_INTERRUPT);
    esp_rtos::start(timers.timer0, interrupts.software_interrupt0);

    let station = StationConfig::default()
        .with_ssid(NETWORK)
        .with_password(PASSWORD.into());
    let config = ControllerConfig::default().with_initial_config(wifi::Config::Station(station));
    let (controller, interfaces) = wifi::new(board.WIFI, config).expect("the radio starts");
    let address = interfaces.station.mac_address();
    let random = Rng::new();
    let (stack, runner) = embassy_net::new(
        Counted::new(interfaces.station, &FRAMES),
        embassy_net::Config::dhcpv4(Default::default()),
        RESOURCES.init(StackResources::new()),
        u64::from(random.random()) << 32 | u64::from(random.random()),
    );
    spawner.spawn(network(runner).expect("spawned once"));
    spawner.spawn(join(controller).expect("spawned once"));
    spawner.spawn(application(stack, address, random.random()).expect("spawned once"));
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Driver>) -> ! {
    runner.run().await
}

/// Joins the network, and again whenever it was lost.
#[embassy_executor::task]
async fn join(mut controller: WifiController<'static>) -> ! {
    loop {
        match controller.connect_async().await {
            Ok(_) => {
                println!("joined {NETWORK}");
                let _ = controller.wait_for_disconnect_async().await;
                println!("lost {NETWORK}");
            }
            Err(error) => println!("cannot join {NETWORK}: {error}"),
        }
        Timer::after_secs(1).await;
    }
}

#[embassy_executor::task]
async fn application(stack: Stack<'static>, address: [u8; 6], seed: u32) {
    let server = SERVER.parse().expect("the build has checked it");
    let name = device_name("esp32", &address);
    let device = Device::new(&name).expect("letters, digits and hyphens");
    // SAFETY: used only here, by the one task; its type says that any bytes are valid, and it is made of integers and bytes
    // without padding.
    let memory = unsafe { machine::retained(&raw mut MEMORY) };
    telemetry(stack, &FRAMES, server, device, memory, || 0, seed).await;
}

/// Prints the message, and restarts the board; its uptime and its first sample show that.
#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    system::software_reset()
}
