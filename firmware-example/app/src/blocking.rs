//! Sends without an executor: an interrupt fills the queue, and [`stream`] empties it.

use embedded_io::Write;
use framing_core::{Blocks, SendError, blocking::Writer};

use crate::queue::Samples;
use crate::uplink::Source;

/// Sends samples from the queue until it is closed, ends the series, and returns the number of blocks that this
/// transport took.
///
/// While the queue is empty, calls `sleep` in a critical section, so that it never sleeps with a sample queued: an
/// interrupt that adds one, or closes the queue, cannot come between the check and the sleep. `cortex_m::asm::wfi` is right
/// there, and so is the instruction `wfi` of RISC-V: an interrupt that is pending ends it, also while interrupts are
/// disabled, and runs after the critical section. Where another thread or core fills the queue, it waits while `sleep`
/// runs: return soon.
///
/// Writing alone does not show what was delivered: every block that the transport took is in doubt. Over all transports,
/// the number of samples is [`Samples::taken`] + [`Samples::left`] + [`Queue::lost`](crate::Queue::lost).
///
/// # Errors
/// If the transport fails; call it again with the next one. The block that failed is sent again from its first byte.
pub fn stream<W: Write, const N: usize>(
    io: W,
    samples: &mut Samples<'_, N>,
    mut sleep: impl FnMut(),
) -> Result<u32, SendError<W::Error>> {
    let mut writer = Writer::new(io, Blocks);
    let taken_before = samples.taken();
    while !samples.is_ended() {
        match samples.peek() {
            Some(block) => {
                writer.send(block)?;
                samples.sent();
            }
            None => samples.sleep_if_idle(&mut sleep),
        }
    }
    writer.finish()?;
    Ok(samples.taken() - taken_before)
}
