//! The log of the board: its timestamp, and its uplink to the daemon.

use embassy_futures::select::select;
use embassy_net::Stack;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use framing_defmt::{DefmtFrames, FRAME_MAX};
use framing_uplink::embassy::{EmbassyClock, Tcp, wait_for_address};
use framing_uplink::logs::Logs;
use framing_uplink::{Clock, Stop, run_series};
use static_cell::ConstStaticCell;

use crate::FRAMES;
use crate::arguments::{self, Arguments};

defmt::timestamp!("{=u64:us}", EmbassyClock.now_us());

static STOP: Stop = Stop::new();
static SENT: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// Sends the log until [`end`] is called.
#[embassy_executor::task]
pub async fn send(stack: Stack<'static>, arguments: &'static Arguments) {
    static RECEIVE: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);
    static SEND: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);

    let stack_size = machine::stack_size_bytes();
    defmt::info!("mps2-an386, {=u32} bytes of stack", stack_size);
    select(wait_for_address(stack), STOP.requested()).await;
    if let Some(config) = stack.config_v4() {
        defmt::info!("address {=[u8; 4]}", config.address.address().octets());
    }
    if let Some(server) = arguments.logs {
        let mut server = Tcp::new(stack, server, RECEIVE.take(), SEND.take()).with_frames(&FRAMES);
        let mut logs = Logs::<_, FRAME_MAX>::new(DefmtFrames, &STOP);
        run_series(
            &arguments.plan.config(),
            &mut logs,
            &STOP,
            &EmbassyClock,
            &mut server,
            arguments::seed() as u32,
        )
        .await;
    }
    SENT.signal(());
}

/// Logs the report of the application, and waits until the whole log is sent, for at most `stop_ms`.
pub async fn end(report: impl defmt::Format) {
    defmt::info!("the application has ended: {}", report);
    STOP.request();
    SENT.wait().await;
}
