//! The uplink as a plain series: [`run`].

use firmware_example::Plan;
use framing_uplink::embassy::{EmbassyClock, Tcp};
use framing_uplink::{Full, Ring};

use crate::{Board, STOP, arguments};

/// Length of the ring for samples while there is no connection: about 24 of them.
const RING_LEN: usize = 2560;

static RING: Ring<RING_LEN> = Ring::new(Full::DropOldest);

/// Samples and sends until the plan is done, and prints the report. Returns whether the series was ended.
pub async fn run(plan: Plan, server: &mut Tcp<'_>) -> bool {
    let report = firmware_example::run(
        plan,
        &RING,
        &STOP,
        &mut Board,
        &EmbassyClock,
        server,
        arguments::seed() as u32,
    )
    .await;
    #[cfg(feature = "defmt")]
    crate::log::end(report).await;
    crate::print(&report);
    report.ended
}
