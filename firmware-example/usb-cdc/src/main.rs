//! The board: an RP2040 on USB, as a serial port (CDC-ACM). It needs no network. It compiles and links; nobody has run it.
//!
//! The samples go in the framing `cobs-crc32`, without a session: the daemon listens on `serial:/dev/ttyACM0,framing=cobs-crc32`. While no
//! program has the port open, samples wait in a ring, which drops its oldest ones when full.

#![no_std]
#![no_main]

use core::fmt::Write as _;
use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use embassy_executor::Spawner;
use embassy_rp::bind_interrupts;
use embassy_rp::flash::{Blocking, Flash};
use embassy_rp::peripherals::{FLASH, USB};
use embassy_rp::usb::{self, Driver};
use embassy_usb::class::cdc_acm::{CdcAcmClass, Sender, State};
use embassy_usb::driver::EndpointError;
use embassy_usb::{Builder, Config, UsbDevice};
use firmware_example::{BLOCK_MAX, Machine, Plan, sample, tail};
use framing_core::{CobsCrc32, Framing, encode};
use framing_uplink::embassy::EmbassyClock;
use framing_uplink::{Full, Ring, RingSource, Source};
use heapless::String;
use static_cell::{ConstStaticCell, StaticCell};

/// Size of the flash chip, in bytes.
const FLASH_SIZE: usize = 2 * 1024 * 1024;
/// Size of the packets on the bus, in bytes.
const PACKET: u16 = 64;

/// Minutes of samples.
static RING: Ring<65_536> = Ring::new(Full::DropOldest);

type Port = Sender<'static, Driver<'static, USB>>;

bind_interrupts!(struct Interrupts {
    USBCTRL_IRQ => usb::InterruptHandler<USB>;
});

#[entry]
fn main() -> ! {
    static EXECUTOR: StaticCell<embassy_executor::raw::Executor> = StaticCell::new();

    machine::run(EXECUTOR.init(machine::executor()), start)
}

// Not inlined, because its stack frame would stay allocated forever.
#[inline(never)]
fn start(spawner: Spawner) {
    static SERIAL: StaticCell<String<16>> = StaticCell::new();
    static STATE: StaticCell<State<'static>> = StaticCell::new();
    static CONFIGURATION: ConstStaticCell<[u8; 128]> = ConstStaticCell::new([0; 128]);
    static CAPABILITIES: ConstStaticCell<[u8; 16]> = ConstStaticCell::new([0; 16]);
    static CONTROL: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);

    let board = embassy_rp::init(Default::default());
    // The numbers are for tests, and are not those of a product: https://pid.codes/1209/0001/
    let mut config = Config::new(0x1209, 0x0001);
    config.manufacturer = Some("firmware-example");
    config.product = Some("telemetry");
    config.serial_number = Some(SERIAL.init(serial_number(&mut Flash::new_blocking(board.FLASH))));
    let mut builder = Builder::new(
        Driver::new(board.USB, Interrupts),
        config,
        CONFIGURATION.take(),
        CAPABILITIES.take(),
        &mut [],
        CONTROL.take(),
    );
    let class = CdcAcmClass::new(&mut builder, STATE.init(State::new()), PACKET);
    let (port, _) = class.split();
    spawner.spawn(drive(builder.build()).expect("spawned once"));
    spawner.spawn(take_samples().expect("spawned once"));
    spawner.spawn(application(port).expect("spawned once"));
}

#[embassy_executor::task]
async fn drive(mut device: UsbDevice<'static, Driver<'static, USB>>) -> ! {
    device.run().await
}

#[embassy_executor::task]
async fn take_samples() {
    sample(Plan::default(), &RING, &mut Board, &EmbassyClock).await;
}

/// Sends the samples. The sample that an unplugged cable interrupts is sent again.
#[embassy_executor::task]
async fn application(mut port: Port) {
    let mut samples = RingSource::<_, BLOCK_MAX>::new(&RING).with_tail(tail);
    let mut message = [0; CobsCrc32::wire_len(BLOCK_MAX)];
    while samples.ready().await {
        let len =
            encode(&mut CobsCrc32.encoder(), samples.message(), &mut message).expect("it fits");
        port.wait_connection().await;
        if send(&mut port, &message[..len]).await.is_ok() {
            samples.sent();
        }
    }
}

/// Sends the bytes. A packet of full size does not end a transfer, so an empty one follows.
async fn send(port: &mut Port, bytes: &[u8]) -> Result<(), EndpointError> {
    for packet in bytes.chunks(PACKET.into()) {
        port.write_packet(packet).await?;
    }
    if bytes.len().is_multiple_of(PACKET.into()) {
        port.write_packet(&[]).await?;
    }
    Ok(())
}

struct Board;

impl Machine for Board {
    fn stack_bytes(&mut self) -> u32 {
        machine::stack_used_bytes()
    }

    fn frames_received(&mut self) -> u32 {
        0
    }

    fn frames_sent(&mut self) -> u32 {
        0
    }
}

/// The unique id of the flash chip. The daemon's machine has it in the name of the port, in `/dev/serial/by-id`.
fn serial_number(flash: &mut Flash<'_, FLASH, Blocking, FLASH_SIZE>) -> String<16> {
    let mut id = [0; 8];
    flash
        .blocking_unique_id(&mut id)
        .expect("the flash chip answers");
    let mut number = String::new();
    for byte in id {
        // Cannot fail: there is room for 8 bytes.
        let _ = write!(number, "{byte:02x}");
    }
    number
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
