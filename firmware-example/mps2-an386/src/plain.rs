//! The uplink as a plain series: [`run`].

use firmware_example::net::{EmbassyClock, Tcp};
use firmware_example::{Plan, Queue};

use crate::{Board, STOP, arguments};

/// Number of samples that are kept while there is no connection.
const QUEUE_LEN: usize = 32;

static QUEUE: Queue<QUEUE_LEN> = Queue::new();

/// Samples and sends until the plan is done, and prints the report. Returns whether the series was ended.
pub async fn run(plan: Plan, server: &mut Tcp<'_>) -> bool {
    let report = firmware_example::run(
        plan,
        &QUEUE,
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
