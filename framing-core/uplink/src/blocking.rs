//! Without an executor: [`run`] drives an uplink to its end, [`poll_once`] within a loop of your own, and [`stream`] sends over a
//! blocking transport that only writes.

use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use embedded_io::Write;
use framing_core::{Framing, SendError, blocking::Writer};

use crate::source::{RingSource, Source};

/// Polls a future until it is ready, and calls `idle` in between: a short sleep, the work of a poll loop, or an instruction that
/// waits for an interrupt.
///
/// `idle` must return soon: the clock and the transport of the future are looked at only between its calls.
///
/// ```
/// use framing_uplink::blocking;
///
/// let mut turns = 0;
/// let sum = blocking::run(async { 1 + 2 }, || turns += 1);
/// assert_eq!((sum, turns), (3, 0));
/// ```
pub fn run<F: Future>(future: F, mut idle: impl FnMut()) -> F::Output {
    let mut future = pin!(future);
    loop {
        match poll_once(future.as_mut()) {
            Some(output) => return output,
            None => idle(),
        }
    }
}

/// Polls a future once: for a loop that also polls a network stack and samples. Returns the output when the future is ready; do
/// not poll it again then.
///
/// ```
/// use std::pin::pin;
///
/// use framing_uplink::{Full, Ring, blocking};
///
/// let ring = Ring::<32>::new(Full::DropOldest);
/// let mut waiting = pin!(ring.ready());
/// assert_eq!(blocking::poll_once(waiting.as_mut()), None);
/// ring.push(b"a sample").unwrap();
/// assert_eq!(blocking::poll_once(waiting.as_mut()), Some(true));
/// ```
pub fn poll_once<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Sends the messages of a ring over a blocking transport until the ring is closed, ends the series if the framing can, and
/// returns the number of messages that this transport took.
///
/// While the ring is empty, calls `sleep` in a critical section, so that it never sleeps with a message waiting: an interrupt that
/// adds one, or closes the ring, cannot come between the check and the sleep. `cortex_m::asm::wfi` is right there, and so is
/// the instruction `wfi` of RISC-V: an interrupt that is pending ends it, also while interrupts are disabled, and runs after
/// the critical section. Where another thread or core fills the ring, it waits while `sleep` runs: return soon.
///
/// Writing alone does not show what was delivered: every message that the transport took is in doubt. Over all transports, the
/// number of messages is [`RingSource::taken`] + [`RingSource::left`] + [`Ring::lost`](crate::Ring::lost).
///
/// # Errors
/// If the transport fails; call it again with the next one. The message that failed is sent again from its first byte.
pub fn stream<W: Write, F: Framing, const N: usize, const M: usize>(
    io: W,
    framing: F,
    source: &mut RingSource<'_, N, M>,
    mut sleep: impl FnMut(),
) -> Result<u32, SendError<W::Error>> {
    let mut writer = Writer::new(io, framing);
    let taken_before = source.taken();
    while !source.is_ended() {
        match source.peek() {
            Some(message) => {
                writer.send(message)?;
                source.sent();
            }
            None => source.sleep_if_idle(&mut sleep),
        }
    }
    writer.finish()?;
    Ok(source.taken().wrapping_sub(taken_before))
}
