//! The uplink over an acknowledged session, whose messages outlive a reset: [`run`].

use core::mem::MaybeUninit;

use firmware_example::{Plan, run_session, tail};
use framing_uplink::embassy::EmbassyClock;
use framing_uplink::{Device, Full, Ring, Session, SessionMemory, Split};

use crate::{Board, STOP, arguments};

/// Length of the memory of the session: the messages that are kept until the host has them on its disk.
const MEMORY_LEN: usize = 4032;
/// Length of the ring: samples are in it until the session takes them.
const RING_LEN: usize = 256;

static RING: Ring<RING_LEN> = Ring::new(Full::DropOldest);

/// The start-up code leaves this section as it is, so a reset keeps the messages.
#[unsafe(link_section = ".uninit.session")]
static mut MEMORY: MaybeUninit<SessionMemory<MEMORY_LEN>> = MaybeUninit::uninit();

/// Samples and sends until the plan is done, and prints the report. Returns whether everything is acknowledged.
pub async fn run(plan: Plan, device: Device<'static>, server: &mut impl Split) -> bool {
    // SAFETY: used only here, by the one task that calls this once; its type says that any bytes are valid, and it is made
    // of integers and bytes without padding.
    let memory = unsafe { machine::retained(&raw mut MEMORY) };
    let mut session =
        Session::new(device, memory, Full::DropOldest, arguments::seed() as u32).with_tail(tail);
    let report = run_session(
        plan,
        &RING,
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
