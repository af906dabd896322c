//! A plain series: one connection after the other, each with a series of messages. Start with [`run_series`].

use core::pin::{Pin, pin};

use embassy_futures::select::{Either, select};
use embassy_futures::yield_now;
use embedded_io_async::{Error as _, ErrorKind, Read, Write};
use framing_core::asynch::{Reader, Writer};
use framing_core::{Encode, Framing, ReceiveError, Received, SendError};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::connect::{Clock, Connect, us};
use crate::fair::Fair;
use crate::log::{info, warning};
use crate::receipt::Tally;
use crate::source::Source;
use crate::stop::Stop;

/// Time limit for closing a connection that the peer has closed, and for resetting one.
pub(crate) const ABORT_MS: u32 = 200;
/// Length of the longest reply that is accepted, in bytes.
const ANSWER_MAX: usize = 64;

/// The outcome of the messages of a plain series. Each is counted exactly once, as delivered, in doubt or lost.
///
/// The number of messages that arrived is at least `delivered` and at most `delivered + in_doubt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SeriesReport {
    /// Messages that the daemon has received, according to its receipt for the series.
    pub delivered: u32,
    /// Messages that a connection took completely and no receipt covers: each may or may not have arrived. They are not
    /// sent again, because they could arrive twice.
    pub in_doubt: u32,
    /// Messages that did not arrive: no connection took them completely, or the receipt does not count them.
    /// Added to them are those that the source has lost, or that are left in it.
    pub lost: u32,
    /// Connections that were established.
    pub connections: u32,
    /// The peer's TCP stack has acknowledged the end mark of the last series; its program may not have read it.
    pub ended: bool,
    /// The peer has replied to the last series. Only a receipt says how much it received.
    pub answered: bool,
}

impl SeriesReport {
    /// Moves the messages of a connection from in doubt to delivered or lost, according to its receipt. `sent` is what the
    /// connection took, including this many greetings.
    fn settle(&mut self, sent: Tally, greetings: u64, receipt: Tally) {
        let is_part = receipt.blocks < sent.blocks && receipt.bytes < sent.bytes;
        if !is_part && receipt != sent {
            warning!(
                "the receipt is for {=u64} messages, {=u64} were sent",
                receipt.blocks,
                sent.blocks
            );
            return;
        }
        // Of the messages that the receipt does not count, one may be the greeting.
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
pub enum SeriesError {
    /// Connecting failed.
    Connect(ErrorKind),
    /// A message, or the end of the series, could not be sent.
    Send(SendError<ErrorKind>),
    /// Receiving failed.
    Receive(ErrorKind),
    /// The peer closed the connection in the middle of the series.
    Closed,
    /// The time limit after the request to stop has passed.
    GaveUp,
}

/// Sends the messages of a source until it ends, over as many connections as necessary.
///
/// After a request to stop it returns within [`Config::stop_ms`], and at most 0.4 s for closing the last connection.
pub async fn run_series<C: Connect, S: Source>(
    config: &Config,
    source: &mut S,
    stop: &Stop,
    clock: &impl Clock,
    connect: &mut C,
    seed: u32,
) -> SeriesReport {
    let mut report = SeriesReport::default();
    let mut backoff = Backoff::new(config.backoff, seed);
    let mut deadline = pin!(async {
        stop.requested().await;
        clock.sleep_ms(config.stop_ms).await;
    });
    while !source.is_ended() {
        let result = connection(
            config,
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
        if error == SeriesError::GaveUp || source.is_ended() {
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
    report.lost = report.lost.saturating_add(source.unsent());
    report
}

/// Runs one connection, from connecting to closing. Resets the back-off if the connection held.
async fn connection<C: Connect, S: Source>(
    config: &Config,
    source: &mut S,
    clock: &impl Clock,
    connect: &mut C,
    report: &mut SeriesReport,
    backoff: &mut Backoff,
    mut deadline: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), SeriesError> {
    let connecting = async {
        // A delay of 0 and a connection that fails at once would starve everything else.
        yield_now().await;
        connect.connect().await
    };
    let mut connection = match select(connecting, deadline.as_mut()).await {
        Either::First(result) => result.map_err(SeriesError::Connect)?,
        Either::Second(()) => return Err(SeriesError::GaveUp),
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
            let mut fair = Fair::new(&mut connection);
            let sent = series(C::framing(), source, &mut fair, report).await?;
            let closed = C::close(&mut connection).await;
            closed.map_err(|kind| SeriesError::Send(SendError::Io(kind)))?;
            if !has_end(&C::framing()) {
                return Ok(());
            }
            let mut fair = Fair::new(&mut connection);
            let answering = answer(C::framing(), &mut fair);
            let answer = select(answering, clock.sleep_ms(config.answer_ms)).await;
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
            Either::Second(()) => Err(SeriesError::GaveUp),
        }
    };
    let lasted_us = clock.now_us().saturating_sub(begun_us);
    if lasted_us >= us(config.held_ms) && C::has_progress(&connection) {
        backoff.reset();
    }
    if result == Err(SeriesError::Closed) {
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
    framing: impl Framing,
    source: &mut impl Source,
    connection: &mut T,
    report: &mut SeriesReport,
) -> Result<Tally, SeriesError> {
    let mut writer = Writer::new(connection, framing);
    let mut sent = Tally::default();
    let greeting = source.greeting();
    if !greeting.is_empty() {
        writer.send(greeting).await.map_err(send_error)?;
        sent.add(greeting);
    }
    loop {
        // Checks the connection before each message: a connection that is over takes messages and cannot deliver them.
        match select(over(writer.io_mut()), source.ready()).await {
            Either::First(error) => return Err(error),
            Either::Second(true) => {}
            Either::Second(false) => break,
        }
        writer.send(source.message()).await.map_err(send_error)?;
        sent.add(source.message());
        source.sent();
        report.in_doubt = report.in_doubt.saturating_add(1);
    }
    writer.finish().await.map_err(send_error)?;
    Ok(sent)
}

/// Waits until the connection is over: it fails, or the peer closes it. Bytes that arrive before the end of the series
/// have no meaning and are skipped.
async fn over(connection: &mut impl Read) -> SeriesError {
    loop {
        match connection.read(&mut [0; 16]).await {
            Ok(0) => return SeriesError::Closed,
            Ok(_) => {}
            Err(error) => return SeriesError::Receive(error.kind()),
        }
    }
}

/// Reads the reply to a series. `None`: no complete reply; `Some(None)`: a reply that is not exactly one receipt.
async fn answer(framing: impl Framing, connection: &mut impl Read) -> Option<Option<Tally>> {
    let mut reader = Reader::new(connection, framing, [0; ANSWER_MAX]);
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

/// Whether the framing has a mark that ends a series.
fn has_end(framing: &impl Framing) -> bool {
    matches!(framing.encoder().end(&mut [0; 8]), Ok(1..))
}

/// Removes the transport's type from its error.
fn send_error<E: embedded_io_async::Error>(error: SendError<E>) -> SeriesError {
    SeriesError::Send(match error {
        SendError::Refused(refusal) => SendError::Refused(refusal),
        SendError::Io(error) => SendError::Io(error.kind()),
        _ => SendError::WriteZero,
    })
}
