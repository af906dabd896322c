//! Sending without an executor: the queue is filled from an interrupt, and emptied here.

use embedded_io::Write;
use framing_core::{Blocks, SendError, blocking::Writer};

use crate::queue::Samples;
use crate::uplink::Source;

/// Sends the samples as they come until their queue is closed, ends the series, and returns how many blocks this
/// transport took. `idle` is called where nothing waits: sleep there until the next interrupt.
///
/// A transport that only writes says nothing about delivery: all that it took is in doubt. Over all transports, the
/// samples are [`Samples::taken`] + [`Samples::left`] + [`Queue::lost`](crate::Queue::lost).
///
/// # Errors
/// Where the transport failed; call it again with the next one. The block that was being sent is sent again, whole.
pub fn stream<W: Write, const N: usize>(
    io: W,
    samples: &mut Samples<'_, N>,
    mut idle: impl FnMut(),
) -> Result<u32, SendError<W::Error>> {
    let mut writer = Writer::new(io, Blocks);
    let taken_before = samples.taken();
    while !samples.is_ended() {
        match samples.peek() {
            Some(block) => {
                writer.send(block)?;
                samples.sent();
            }
            None => idle(),
        }
    }
    writer.finish()?;
    Ok(samples.taken() - taken_before)
}
