//! The uplink over an acknowledged session, whose messages outlive a reset: [`run`].

use core::mem::MaybeUninit;

use firmware_example::net::EmbassyClock;
use firmware_example::{Plan, Queue, Session, SessionMemory, Split, run_session};
use framing_core::session::Device;

use crate::{Board, STOP, arguments};

/// Length of the ring: the messages that are kept until the host has them on its disk.
const RING_LEN: usize = 4096;
/// Number of samples that are kept until they enter the ring.
const QUEUE_LEN: usize = 4;

static QUEUE: Queue<QUEUE_LEN> = Queue::new();

/// The start-up code leaves this section as it is, so a reset keeps the messages.
#[unsafe(link_section = ".uninit.session")]
static mut MEMORY: MaybeUninit<SessionMemory<RING_LEN>> = MaybeUninit::uninit();

/// Samples and sends until the plan is done, and prints the report. Returns whether everything is acknowledged.
pub async fn run(plan: Plan, device: Device<'static>, server: &mut impl Split) -> bool {
    // SAFETY: used only here, by the one task that calls this once; its type says that any bytes are valid, and it is made
    // of integers and bytes without padding.
    let memory = unsafe { machine::retained(&raw mut MEMORY) };
    let mut session = Session::new(device, memory, arguments::seed() as u32);
    let report = run_session(
        plan,
        &QUEUE,
        &mut session,
        &STOP,
        &mut Board,
        &EmbassyClock,
        server,
    )
    .await;
    #[cfg(feature = "defmt")]
    crate::log::end(report).await;
    crate::print(&report);
    report.ended
}
