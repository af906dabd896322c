//! The uplink over an acknowledged session: one connection after the other, until the host has every message on its disk.
//! Start with [`run_session`].

mod memory;
mod outbox;
mod report;

use core::cell::Cell;
use core::future::pending;
use core::mem::replace;
use core::pin::{Pin, pin};

use embassy_futures::join::join;
use embassy_futures::select::{Either, Either3, select, select3};
use embedded_io_async::{ErrorType, Read, Write};
use framing_core::asynch::Link;
use framing_core::session::wire::{ClosingCode, time_ns};
use framing_core::session::{Device, Heard};

use self::memory::Sender;
use self::outbox::Outbox;
use self::report::session_error;
use crate::log::{info, warning};
use crate::queue::Queue;
use crate::sampler::{Machine, sample};
use crate::uplink::{ABORT_MS, HELD_US};
use crate::{Backoff, Clock, Connect, Plan, Stop};

pub use self::memory::SessionMemory;
pub use self::report::{SessionError, SessionReport};

/// Time limit for the WELCOME.
const WELCOME_US: u64 = 10_000_000;
/// A transport whose directions can be used at the same time, as a session does.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait Split: Connect {
    /// The error of both directions.
    type Error: embedded_io_async::Error;

    /// Splits a connection into its two directions, for as long as the session uses it.
    fn split<'s, 'a>(
        connection: &'s mut Self::Connection<'a>,
    ) -> (
        impl Read<Error = Self::Error>,
        impl Write<Error = Self::Error>,
    )
    where
        Self: 'a,
        'a: 's;

    /// Ends a connection: with a FIN if `is_graceful`, otherwise with a reset. Waits until the peer knows, if that is possible.
    async fn end<'a>(connection: &mut Self::Connection<'a>, is_graceful: bool)
    where
        Self: 'a;
}

/// A session of one device, in the memory that keeps its messages until they are acknowledged.
#[derive(Debug)]
pub struct Session<'m> {
    device: Device<'m>,
    sender: Sender<'m>,
    outbox: Outbox<'m>,
    backoff: Backoff,
    /// Whether the host did not answer the last HELLO.
    is_unanswered: bool,
}

impl<'m> Session<'m> {
    /// Continues the session in this memory, or begins one. `seed` makes the back-off of devices differ.
    ///
    /// The host gives a session to one device id; no two devices have the same one.
    #[must_use]
    pub fn new<const N: usize>(
        device: Device<'m>,
        memory: &'m mut SessionMemory<N>,
        seed: u32,
    ) -> Self {
        let (sender, states) = memory.open();
        let restored = sender.unacknowledged().blocks;
        info!("{=u32} messages are left of an earlier run", restored);
        Self {
            device: device.with_time(),
            sender,
            outbox: Outbox::new(states, restored),
            is_unanswered: false,
            backoff: Backoff::new(seed),
        }
    }

    /// The report so far.
    #[must_use]
    pub fn report(&self) -> SessionReport {
        SessionReport {
            left: self.sender.unacknowledged().blocks,
            ..self.outbox.report
        }
    }

    /// Sends samples until the queue is closed and everything is acknowledged, over as many connections as necessary.
    async fn send<C: Split, const N: usize>(
        &mut self,
        plan: Plan,
        queue: &Queue<N>,
        stop: &Stop,
        clock: &impl Clock,
        connect: &mut C,
    ) {
        let mut deadline = pin!(async {
            stop.requested().await;
            clock.sleep_ms(plan.stop_ms).await;
        });
        let mut wait_ms = 0;
        while !(queue.is_ended() && self.sender.is_settled()) {
            let result = self.connection(queue, clock, connect, wait_ms, deadline.as_mut());
            let Err(error) = result.await else { break };
            let is_refused = C::VERIFIES && error.is_refusal();
            wait_ms = self.wait_ms(error, is_refused);
            warning!(
                "session: link down: {}; again in {=u32} ms; {}",
                error,
                wait_ms,
                self.report()
            );
            if error == SessionError::GaveUp {
                return;
            }
        }
        self.outbox.report.ended = true;
    }

    /// Waits, then runs one connection. Returns when everything is acknowledged, and the queue has ended.
    async fn connection<C: Split, const N: usize>(
        &mut self,
        queue: &Queue<N>,
        clock: &impl Clock,
        connect: &mut C,
        wait_ms: u32,
        mut deadline: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), SessionError> {
        let Self {
            device,
            sender,
            outbox,
            backoff,
            ..
        } = self;
        if C::VERIFIES {
            let time_ns = outbox.certain_time().at(clock.now_us());
            connect.set_time(time_ns.map(|ns| ns / 1_000_000_000));
        }
        let connecting = async {
            clock.sleep_ms(wait_ms).await;
            connect.connect().await
        };
        let keeping = keep(queue, sender, outbox);
        let mut connection = match select3(connecting, keeping, deadline.as_mut()).await {
            Either3::First(result) => result.map_err(SessionError::Connect)?,
            Either3::Second(()) | Either3::Third(()) => return Err(SessionError::GaveUp),
        };
        outbox.report.connections += 1;
        (outbox.is_welcome, outbox.has_progress) = (false, false);
        let begun_us = clock.now_us();
        let watch = Watch(Cell::new(begun_us.saturating_add(WELCOME_US)));
        let result = {
            let (read, write) = C::split(&mut connection);
            let whole = pin!(converse(
                device, sender, outbox, queue, clock, &watch, read, write
            ));
            match select3(whole, watch.expired(clock), deadline).await {
                Either3::First(result) => result,
                Either3::Second(()) => Err(SessionError::Silent),
                Either3::Third(()) => Err(SessionError::GaveUp),
            }
        };
        sender.closed();
        if !outbox.is_welcome {
            outbox.report.unwelcome += 1;
        } else if outbox.has_progress || HELD_US <= clock.now_us().saturating_sub(begun_us) {
            backoff.reset();
        }
        // Graceful if the host may still read the bytes on their way to it.
        let is_graceful = matches!(
            result,
            Ok(()) | Err(SessionError::Closed | SessionError::Closing { .. })
        );
        let ending = C::end(&mut connection, is_graceful);
        select(ending, clock.sleep_ms(ABORT_MS)).await;
        match result {
            Err(SessionError::Silent) if !outbox.is_welcome => Err(SessionError::Unanswered),
            result => result,
        }
    }

    /// Delay before the next attempt, after this error, by which one side may have refused the other. Inlined, it would take 100 bytes more.
    #[inline(never)]
    fn wait_ms(&mut self, error: SessionError, is_refused: bool) -> u32 {
        const VERSION: u8 = ClosingCode::Version as u8;
        const FORBIDDEN: u8 = ClosingCode::Forbidden as u8;
        const UNSUPPORTED: u8 = ClosingCode::Unsupported as u8;
        const AGAIN: u8 = ClosingCode::Again as u8;
        const NO_SESSION: u8 = ClosingCode::NoSession as u8;

        let was_unanswered = self.is_unanswered;
        self.is_unanswered = error == SessionError::Unanswered;
        let (code, retry_s) = match error {
            SessionError::Closing { code, retry_s } => (code, retry_s),
            _ => (0, 0),
        };
        let wait_ms = match code {
            AGAIN if self.outbox.is_welcome && !replace(&mut self.outbox.is_stuck, true) => 0,
            VERSION..=FORBIDDEN | UNSUPPORTED | NO_SESSION => self.backoff.long_wait_ms(),
            // A host that does not speak the protocol never answers; one whose answer was lost does.
            _ if was_unanswered && self.is_unanswered => self.backoff.long_wait_ms(),
            // By a certificate: the next connection would end like this one.
            _ if is_refused => self.backoff.long_wait_ms(),
            _ => self.backoff.wait_ms(),
        };
        wait_ms.max(u32::from(retry_s) * 1_000)
    }
}

/// Runs the whole application over a session until it is stopped: samples, and sends until everything is acknowledged.
pub async fn run_session<const N: usize>(
    plan: Plan,
    queue: &Queue<N>,
    session: &mut Session<'_>,
    stop: &Stop,
    machine: &mut impl Machine,
    clock: &impl Clock,
    connect: &mut impl Split,
) -> SessionReport {
    {
        // Pinned in place: moving a future would take stack for a second copy of it.
        let sampling = pin!(async {
            select(sample(plan, queue, machine, clock), stop.requested()).await;
            stop.request();
            queue.close();
        });
        let sending = pin!(session.send(plan, queue, stop, clock, connect));
        join(sampling, sending).await;
    }
    while let Some((sample, lost)) = queue.pop() {
        session.outbox.take(&mut session.sender, sample, lost);
    }
    let report = &mut session.outbox.report;
    report.refused = report.refused.saturating_add(queue.lost());
    session.report()
}

/// Moves samples from the queue to the ring while there is no connection.
async fn keep<const N: usize>(queue: &Queue<N>, sender: &mut Sender<'_>, outbox: &mut Outbox<'_>) {
    while let Some((sample, lost)) = queue.next().await {
        outbox.take(sender, sample, lost);
    }
    pending().await
}

/// When a silent connection is over, in µs.
struct Watch(Cell<u64>);

impl Watch {
    /// Waits until that time, which can be moved meanwhile.
    async fn expired(&self, clock: &impl Clock) {
        while clock.now_us() < self.0.get() {
            clock.sleep_until_us(self.0.get()).await;
        }
    }
}

/// The session on one connection: opens it, moves samples to the ring, and writes and hears frames at the same time.
#[expect(
    clippy::too_many_arguments,
    reason = "parts of one state, borrowed apart"
)]
async fn converse<R, W, const N: usize>(
    device: &Device<'_>,
    sender: &mut Sender<'_>,
    outbox: &mut Outbox<'_>,
    queue: &Queue<N>,
    clock: &impl Clock,
    watch: &Watch,
    read: R,
    write: W,
) -> Result<(), SessionError>
where
    R: Read,
    W: Write + ErrorType<Error = R::Error>,
{
    let opening = Link::open(sender, read, write, device, clock.now_us());
    let mut link = opening.await.map_err(session_error)?;
    let mut silent_us = WELCOME_US;
    let mut is_ended = false;
    while !(is_ended && link.sender().is_settled()) {
        let held = link.sender().unacknowledged().blocks;
        let mut time = None;
        let next = async {
            if is_ended {
                pending().await
            }
            queue.next().await
        };
        let driving = link.drive_with(|| clock.now_us(), |frame| time = time_ns(frame));
        match select(driving, next).await {
            Either::First(heard) => {
                let now_us = clock.now_us();
                if let Heard::Welcome { heartbeat_s, flags } = heard.map_err(session_error)? {
                    outbox.welcome(link.sender(), flags);
                    silent_us = match heartbeat_s {
                        0 => u64::MAX,
                        heartbeat_s => 3_000_000 * u64::from(heartbeat_s),
                    };
                }
                let left = link.sender().unacknowledged().blocks;
                outbox.heard(held.saturating_sub(left), time, now_us);
                watch.0.set(now_us.saturating_add(silent_us));
            }
            Either::Second(Some((sample, lost))) => outbox.take(link.sender(), sample, lost),
            Either::Second(None) => {
                link.sender().end();
                is_ended = true;
            }
        }
    }
    Ok(())
}
