//! The uplink: one connection after the other, each with a series of blocks. Start with [`uplink`].

use core::pin::{Pin, pin};

use embassy_futures::select::{Either, select};
use embedded_io_async::{Error as _, ErrorKind, Read, Write};
use framing_core::asynch::{Reader, Writer};
use framing_core::{Blocks, ReceiveError, Received, SendError};

use crate::backoff::Backoff;
use crate::log::{info, warning};
use crate::receipt::Tally;
use crate::stop::Stop;
use crate::{Clock, Plan};

/// Time that a connection must last, besides an acknowledgement, for the back-off to be reset. A server that accepts
/// connections only to close them would otherwise be tried, and sent data, at full speed.
pub(crate) const HELD_US: u64 = 5_000_000;
/// Time limit for closing a connection that the peer has closed, and for resetting one.
pub(crate) const ABORT_MS: u32 = 200;
/// Length of the longest reply that is accepted, in bytes.
const ANSWER_MAX: usize = 64;

/// Makes connections. Implemented by each board, and by tests.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait Connect {
    /// A connection. Dropping it closes it. A read of 0 bytes means that the peer has closed it.
    type Connection<'a>: Read + Write
    where
        Self: 'a;

    /// Whether the sides verify each other. Then [`PermissionDenied`](ErrorKind::PermissionDenied), from any operation, means
    /// that one refuses the other: a session waits long before it connects again.
    const VERIFIES: bool = false;

    /// Connects, or fails after a timeout chosen by the implementation.
    ///
    /// # Errors
    /// The kind of the failure.
    async fn connect(&mut self) -> Result<Self::Connection<'_>, ErrorKind>;

    /// Closes the sending direction, and waits until the peer has acknowledged that and all data before it.
    ///
    /// Return `Ok` only if that is known: [`Report::ended`] is set by it. The flush of a transport may mean less.
    ///
    /// # Errors
    /// The kind of the failure; the end of the series may not have arrived.
    async fn close<'a>(connection: &mut Self::Connection<'a>) -> Result<(), ErrorKind>
    where
        Self: 'a;

    /// Resets a connection that fails, where dropping it does not notify the peer.
    async fn abort<'a>(connection: &mut Self::Connection<'a>)
    where
        Self: 'a,
    {
        let _ = connection;
    }

    /// Whether the peer has acknowledged data of this connection, or `true` if that cannot be known.
    fn has_progress<'a>(connection: &Self::Connection<'a>) -> bool
    where
        Self: 'a,
    {
        let _ = connection;
        true
    }

    /// Notes the time of the host before a connection, if it is known and the transport [verifies](Self::VERIFIES) certificates.
    fn set_time(&mut self, unix_s: Option<u64>) {
        let _ = unix_s;
    }
}

/// A source of blocks. A block stays the same until it was sent.
#[allow(
    async_fn_in_trait,
    reason = "for a single-threaded executor, as in embedded-io-async"
)]
pub trait Source {
    /// Name of the source in the log.
    const NAME: &'static str;

    /// The first block of every connection, or empty.
    fn greeting(&self) -> &[u8] {
        &[]
    }

    /// Waits for a block; returns `false` if the source has ended. Dropping the future loses nothing.
    async fn ready(&mut self) -> bool;

    /// The block that is [`ready`](Self::ready). Never empty.
    fn block(&self) -> &[u8];

    /// Called when a connection has taken the complete block.
    fn sent(&mut self);

    /// Whether the source has ended: no more blocks will follow.
    fn is_ended(&self) -> bool;
}

/// The outcome of the blocks. Each is counted exactly once, as delivered, in doubt or lost.
///
/// The number of blocks that arrived is at least `delivered` and at most `delivered + in_doubt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Report {
    /// Blocks that the daemon has received, according to its receipt for the series.
    pub delivered: u32,
    /// Blocks that a connection took completely and no receipt covers: each may or may not have arrived. They are not
    /// sent again, because they could arrive twice.
    pub in_doubt: u32,
    /// Blocks that did not arrive: no connection took them completely, or the receipt does not count them.
    pub lost: u32,
    /// Connections that were established.
    pub connections: u32,
    /// The peer's TCP stack has acknowledged the end mark of the last series; its program may not have read it.
    pub ended: bool,
    /// The peer has replied to the last series. Only a receipt says how much it received.
    pub answered: bool,
}

impl Report {
    /// Moves the blocks of a connection from in doubt to delivered or lost, according to its receipt. `sent` is what the
    /// connection took, including this many greetings.
    fn settle(&mut self, sent: Tally, greetings: u64, receipt: Tally) {
        let is_part = receipt.blocks < sent.blocks && receipt.bytes < sent.bytes;
        if !is_part && receipt != sent {
            warning!(
                "the receipt is for {=u64} blocks, {=u64} were sent",
                receipt.blocks,
                sent.blocks
            );
            return;
        }
        // Of the blocks that the receipt does not count, one may be the greeting.
        let own = sent.blocks - greetings;
        let delivered = if is_part {
            receipt.blocks.saturating_sub(greetings)
        } else {
            own
        };
        let lost = own.saturating_sub(receipt.blocks);
        let count = |blocks| u32::try_from(blocks).unwrap_or(u32::MAX);
        self.delivered = self.delivered.saturating_add(count(delivered));
        self.lost = self.lost.saturating_add(count(lost));
        self.in_doubt = self.in_doubt.saturating_sub(count(delivered + lost));
    }
}

/// Why a connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LinkError {
    /// Connecting failed.
    Connect(ErrorKind),
    /// A block, or the end of the series, could not be sent.
    Send(SendError<ErrorKind>),
    /// Receiving failed.
    Receive(ErrorKind),
    /// The peer closed the connection in the middle of the series.
    Closed,
    /// The time limit after the request to stop has passed.
    GaveUp,
}

/// Sends the blocks of a source until it ends, over as many connections as necessary.
///
/// After a request to stop it returns within [`Plan::stop_ms`].
pub async fn uplink<C: Connect, S: Source>(
    plan: Plan,
    source: &mut S,
    stop: &Stop,
    clock: &impl Clock,
    connect: &mut C,
    seed: u32,
) -> Report {
    let mut report = Report::default();
    let mut backoff = Backoff::new(seed);
    let mut deadline = pin!(async {
        stop.requested().await;
        clock.sleep_ms(plan.stop_ms).await;
    });
    while !source.is_ended() {
        let result = connection(
            plan,
            source,
            clock,
            connect,
            &mut report,
            &mut backoff,
            deadline.as_mut(),
        )
        .await;
        let Err(error) = result else {
            report.ended = true;
            break;
        };
        if error == LinkError::GaveUp || source.is_ended() {
            warning!("{=str}: series not ended: {}", S::NAME, error);
            break;
        }
        let wait_ms = backoff.wait_ms();
        warning!(
            "{=str}: link down: {}; again in {=u32} ms",
            S::NAME,
            error,
            wait_ms
        );
        if let Either::Second(()) = select(clock.sleep_ms(wait_ms), deadline.as_mut()).await {
            break;
        }
    }
    report
}

/// Runs one connection, from connecting to closing. Resets the back-off if the connection held.
async fn connection<C: Connect, S: Source>(
    plan: Plan,
    source: &mut S,
    clock: &impl Clock,
    connect: &mut C,
    report: &mut Report,
    backoff: &mut Backoff,
    mut deadline: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), LinkError> {
    let mut connection = match select(connect.connect(), deadline.as_mut()).await {
        Either::First(result) => result.map_err(LinkError::Connect)?,
        Either::Second(()) => return Err(LinkError::GaveUp),
    };
    let begun_us = clock.now_us();
    report.connections += 1;
    info!(
        "{=str}: link up, connection {=u32}",
        S::NAME,
        report.connections
    );
    let result = {
        let whole = pin!(async {
            let sent = series(source, &mut connection, report).await?;
            let closed = C::close(&mut connection).await;
            closed.map_err(|kind| LinkError::Send(SendError::Io(kind)))?;
            let answer = select(answer(&mut connection), clock.sleep_ms(plan.answer_ms)).await;
            if let Either::First(Some(answer)) = answer {
                report.answered = true;
                if let Some(receipt) = answer {
                    let greetings = u64::from(!source.greeting().is_empty());
                    report.settle(sent, greetings, receipt);
                }
            }
            Ok(())
        });
        match select(whole, deadline).await {
            Either::First(result) => result,
            Either::Second(()) => Err(LinkError::GaveUp),
        }
    };
    let lasted_us = clock.now_us().saturating_sub(begun_us);
    if lasted_us >= HELD_US && C::has_progress(&connection) {
        backoff.reset();
    }
    if result == Err(LinkError::Closed) {
        // A graceful close, since the peer may still read what it was sent.
        select(C::close(&mut connection), clock.sleep_ms(ABORT_MS)).await;
    }
    if result.is_err() {
        // Notifies the peer, so that it does not wait for its own timeout.
        select(C::abort(&mut connection), clock.sleep_ms(ABORT_MS)).await;
    }
    result
}

/// Sends the series; returns the count of what the connection took.
async fn series<T: Read + Write>(
    source: &mut impl Source,
    connection: &mut T,
    report: &mut Report,
) -> Result<Tally, LinkError> {
    let mut writer = Writer::new(connection, Blocks);
    let mut sent = Tally::default();
    let greeting = source.greeting();
    if !greeting.is_empty() {
        writer.send(greeting).await.map_err(send_error)?;
        sent.add(greeting);
    }
    loop {
        // Checks the connection before each block: a connection that is over takes blocks and cannot deliver them.
        match select(over(writer.io_mut()), source.ready()).await {
            Either::First(error) => return Err(error),
            Either::Second(true) => {}
            Either::Second(false) => break,
        }
        writer.send(source.block()).await.map_err(send_error)?;
        sent.add(source.block());
        source.sent();
        report.in_doubt = report.in_doubt.saturating_add(1);
    }
    writer.finish().await.map_err(send_error)?;
    Ok(sent)
}

/// Waits until the connection is over: it fails, or the peer closes it. Bytes that arrive before the end of the series
/// have no meaning and are skipped.
async fn over(connection: &mut impl Read) -> LinkError {
    loop {
        match connection.read(&mut [0; 16]).await {
            Ok(0) => return LinkError::Closed,
            Ok(_) => {}
            Err(error) => return LinkError::Receive(error.kind()),
        }
    }
}

/// Reads the reply to a series. `None`: no complete reply; `Some(None)`: a reply that is not exactly one receipt.
async fn answer(connection: &mut impl Read) -> Option<Option<Tally>> {
    let mut reader = Reader::new(connection, Blocks, [0; ANSWER_MAX]);
    let (mut receipt, mut is_first) = (None, true);
    loop {
        match reader.receive().await {
            Ok(Received::End) => return Some(receipt),
            Ok(Received::Closed) => return None,
            Ok(Received::Message(answer)) => {
                info!("answered: {=[u8]:a}", answer);
                receipt = Tally::parse(answer).filter(|_| is_first);
                is_first = false;
            }
            Err(ReceiveError::Fault(fault)) => warning!("answer refused: {}", fault),
            Err(_) => return None,
        }
    }
}

/// Removes the transport's type from its error.
fn send_error<E: embedded_io_async::Error>(error: SendError<E>) -> LinkError {
    LinkError::Send(match error {
        SendError::Refused(refusal) => SendError::Refused(refusal),
        SendError::Io(error) => SendError::Io(error.kind()),
        _ => SendError::WriteZero,
    })
}
