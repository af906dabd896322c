//! The uplink over an acknowledged session: one connection after the other, until the host has every message on its disk.
//! Start with [`Session`].

mod memory;
mod outbox;
mod report;

use core::cell::Cell;
use core::future::pending;
use core::mem::replace;
use core::pin::{Pin, pin};

use embassy_futures::select::{Either, Either3, select, select3};
use embassy_futures::yield_now;
use embedded_io_async::{ErrorType, Read, Write};
use framing_core::asynch::Link;
use framing_core::session::wire::{ClosingCode, time_ns};
use framing_core::session::{Device, Full, Heard};

use self::memory::Sender;
use self::outbox::Outbox;
use self::report::session_error;
use crate::backoff::{Backoff, BackoffBounds};
use crate::config::Config;
use crate::connect::{Clock, Split, us};
use crate::fair::Fair;
use crate::log::{info, warning};
use crate::ring::Ring;
use crate::series::ABORT_MS;
use crate::source::Tail;
use crate::stop::Stop;

pub use self::memory::SessionMemory;
pub use self::report::{SessionError, SessionReport};

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
    /// Continues the session in this memory, or begins one. `full` says what it does with a message when the memory is full:
    /// it gives up its oldest messages, or leaves new ones in the [`Ring`]. `seed` makes the back-off of devices differ.
    ///
    /// The host gives a session to one device id; no two devices have the same one.
    #[must_use]
    pub fn new<const N: usize>(
        device: Device<'m>,
        memory: &'m mut SessionMemory<N>,
        full: Full,
        seed: u32,
    ) -> Self {
        let (sender, states) = memory.open(full);
        let restored = sender.unacknowledged().blocks;
        info!("{=u32} messages are left of an earlier run", restored);
        Self {
            device: device.with_time(),
            sender,
            outbox: Outbox::new(states, full, restored),
            is_unanswered: false,
            backoff: Backoff::new(BackoffBounds::new(), seed),
        }
    }

    /// Appends this to each message when it is taken from the ring.
    #[must_use]
    pub fn with_tail(mut self, tail: Tail) -> Self {
        self.outbox.set_tail(tail);
        self
    }

    /// The report so far.
    #[must_use]
    pub fn report(&self) -> SessionReport {
        SessionReport {
            left: self.sender.unacknowledged().blocks,
            ..self.outbox.report
        }
    }

    /// Sends the messages of a ring until it is closed and everything is acknowledged, over as many connections as necessary.
    /// After a request to stop it returns within [`Config::stop_ms`], and at most 0.2 s for closing the last connection.
    ///
    /// What is left then is in the memory of the session: the next run sends it.
    ///
    /// # Cancel-safety
    /// Dropping the future drops the connection. No message is lost: run it again.
    pub async fn run<C: Split, const N: usize>(
        &mut self,
        config: &Config,
        ring: &Ring<N>,
        stop: &Stop,
        clock: &impl Clock,
        connect: &mut C,
    ) -> SessionReport {
        self.backoff.set_bounds(config.backoff);
        self.send(config, ring, stop, clock, connect).await;
        self.outbox.take_all(&mut self.sender, ring);
        let report = self.report();
        let counts = ring.counts();
        SessionReport {
            refused: report.refused.saturating_add(counts.lost()),
            left: report.left.saturating_add(counts.waiting),
            ..report
        }
    }

    async fn send<C: Split, const N: usize>(
        &mut self,
        config: &Config,
        ring: &Ring<N>,
        stop: &Stop,
        clock: &impl Clock,
        connect: &mut C,
    ) {
        let mut deadline = pin!(async {
            stop.requested().await;
            clock.sleep_ms(config.stop_ms).await;
        });
        let mut wait_ms = 0;
        while !(ring.is_ended() && self.sender.is_settled()) {
            let result = self.connection(config, ring, clock, connect, wait_ms, deadline.as_mut());
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
        config: &Config,
        ring: &Ring<N>,
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
            // A delay of 0 and a connection that fails at once would starve everything else.
            yield_now().await;
            connect.connect().await
        };
        let keeping = keep(ring, sender, outbox);
        let mut connection = match select3(connecting, keeping, deadline.as_mut()).await {
            Either3::First(result) => result.map_err(SessionError::Connect)?,
            Either3::Second(()) | Either3::Third(()) => return Err(SessionError::GaveUp),
        };
        outbox.report.connections += 1;
        (outbox.is_welcome, outbox.has_progress) = (false, false);
        let begun_us = clock.now_us();
        let watch = Watch(Cell::new(begun_us.saturating_add(us(config.welcome_ms))));
        let result = {
            let (read, write) = C::split(&mut connection);
            // What is written ends with the messages of the ring.
            let read = Fair::new(read);
            let whole = pin!(converse(
                config, device, sender, outbox, ring, clock, &watch, read, write
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
        } else if outbox.has_progress
            || us(config.held_ms) <= clock.now_us().saturating_sub(begun_us)
        {
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

/// Moves messages from the ring to the session while there is no connection.
async fn keep<const N: usize>(ring: &Ring<N>, sender: &mut Sender<'_>, outbox: &mut Outbox<'_>) {
    while ring.ready().await {
        if !outbox.take_all(sender, ring) {
            break;
        }
    }
    pending::<()>().await;
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

/// The session on one connection: opens it, moves messages from the ring to the session, and writes and hears frames at the same time.
#[expect(
    clippy::too_many_arguments,
    reason = "parts of one state, borrowed apart"
)]
async fn converse<R, W, const N: usize>(
    config: &Config,
    device: &Device<'_>,
    sender: &mut Sender<'_>,
    outbox: &mut Outbox<'_>,
    ring: &Ring<N>,
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
    let mut silent_us = us(config.welcome_ms);
    // Whether the session has no room for the oldest message of the ring, and keeps those that it has.
    let mut is_full = false;
    let mut is_ended = false;
    while !(is_ended && link.sender().is_settled()) {
        let held = link.sender().unacknowledged().blocks;
        let mut time = None;
        let next = async {
            if is_ended || is_full {
                pending::<()>().await;
            }
            ring.ready().await
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
                outbox.note(link.sender(), ring);
                is_full = false;
                watch.0.set(now_us.saturating_add(silent_us));
            }
            Either::Second(true) => is_full = !outbox.take_all(link.sender(), ring),
            Either::Second(false) => {
                link.sender().end();
                is_ended = true;
            }
        }
    }
    Ok(())
}
