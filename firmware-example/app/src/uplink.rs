//! The way up: one connection after the other, each with a series of blocks.

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

/// How long a connection must have held for the back-off to begin anew: one that a server accepts only to close it
/// must not be tried, and fed, at full speed.
const HELD_US: u64 = 5_000_000;
/// How long closing a connection may take that the other side has closed, and breaking off one.
const ABORT_MS: u32 = 200;
/// Longest answer that is taken, in bytes.
const ANSWER_MAX: usize = 64;

/// Makes connections: what a board has to offer, or a test.
#[allow(
    async_fn_in_trait,
    reason = "for one executor of one thread, as embedded-io-async"
)]
pub trait Connect {
    /// A connection. It is lost when dropped. A read of 0 bytes says that the other side has closed it.
    type Connection<'a>: Read + Write
    where
        Self: 'a;

    /// Connects, or fails in a time of its own choice.
    ///
    /// # Errors
    /// What kind of thing went wrong.
    async fn connect(&mut self) -> Result<Self::Connection<'_>, ErrorKind>;

    /// Closes the sending direction, and waits until the other side has that and all before it.
    ///
    /// # Errors
    /// What kind of thing went wrong; the end of the series may not have arrived.
    async fn close<'a>(connection: &mut Self::Connection<'a>) -> Result<(), ErrorKind>
    where
        Self: 'a;

    /// Lets the other side know that a connection ends out of turn, where dropping it does not.
    async fn abort<'a>(connection: &mut Self::Connection<'a>)
    where
        Self: 'a,
    {
        let _ = connection;
    }
}

/// Where blocks come from. A block stays the same until it was sent.
#[allow(
    async_fn_in_trait,
    reason = "for one executor of one thread, as embedded-io-async"
)]
pub trait Source {
    /// What they are, in a word, for the log.
    const NAME: &'static str;

    /// The first block of every connection, where there is one.
    fn greeting(&self) -> &[u8] {
        &[]
    }

    /// Waits for a block; `false`: there will be none. Dropping the future costs nothing.
    async fn ready(&mut self) -> bool;

    /// The block that is [`ready`](Self::ready). Never empty.
    fn block(&self) -> &[u8];

    /// A connection has taken the whole block.
    fn sent(&mut self);

    /// Whether there will be no block any more.
    fn is_ended(&self) -> bool;
}

/// What became of the blocks: each is counted once, as delivered, in doubt or lost.
///
/// The number of blocks that arrived is at least `delivered` and at most `delivered + in_doubt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Report {
    /// Blocks that the daemon has received, by its receipt for the series.
    pub delivered: u32,
    /// Blocks that a connection took whole and no receipt covers: each may have arrived or not. They are not sent
    /// again, since they could arrive twice.
    pub in_doubt: u32,
    /// Blocks that did not arrive: no connection took them whole, or the receipt does not count them.
    pub lost: u32,
    /// Connections that were made.
    pub connections: u32,
    /// The last series was ended by its mark, and the TCP stack reported it as sent.
    pub ended: bool,
    /// The other side has answered the last series. Only an answer that is a receipt says what it received.
    pub answered: bool,
}

impl Report {
    /// Moves the blocks of a connection out of doubt, as far as its receipt allows. `sent` is what the connection took,
    /// with this many messages of greeting.
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
        // Of the blocks that it does not count, one may be the greeting.
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

/// Why a connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LinkError {
    /// It could not be made.
    Connect(ErrorKind),
    /// A block, or the end of the series, could not be sent.
    Send(SendError<ErrorKind>),
    /// Nothing can be received.
    Receive(ErrorKind),
    /// The other side has closed it in the middle of the series.
    Closed,
    /// There was no time left after the request to stop.
    GaveUp,
}

/// Sends the blocks of a source until it has no more, over as many connections as that takes.
///
/// From the request to stop it takes no longer than [`Plan::stop_ms`].
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
        let begun_us = clock.now_us();
        let result = connection(plan, source, clock, connect, &mut report, deadline.as_mut()).await;
        if clock.now_us().saturating_sub(begun_us) >= HELD_US {
            backoff.reset();
        }
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

/// One connection, from its first byte to its last.
async fn connection<C: Connect, S: Source>(
    plan: Plan,
    source: &mut S,
    clock: &impl Clock,
    connect: &mut C,
    report: &mut Report,
    mut deadline: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), LinkError> {
    let mut connection = match select(connect.connect(), deadline.as_mut()).await {
        Either::First(result) => result.map_err(LinkError::Connect)?,
        Either::Second(()) => return Err(LinkError::GaveUp),
    };
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
    if result == Err(LinkError::Closed) {
        // In order, since the other side may still read what it was sent.
        select(C::close(&mut connection), clock.sleep_ms(ABORT_MS)).await;
    }
    if result.is_err() {
        // So that the other side need not find out.
        select(C::abort(&mut connection), clock.sleep_ms(ABORT_MS)).await;
    }
    result
}

/// Sends the series; returns what the connection took of it.
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
        // The connection first, before each block: one that is over would take what it cannot deliver.
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

/// Waits until the connection is over: it breaks down, or the other side closes it. Bytes that come before the end of
/// the series have no meaning.
async fn over(connection: &mut impl Read) -> LinkError {
    loop {
        match connection.read(&mut [0; 16]).await {
            Ok(0) => return LinkError::Closed,
            Ok(_) => {}
            Err(error) => return LinkError::Receive(error.kind()),
        }
    }
}

/// Reads what a series is answered: nothing, or not to the end (`None`), a receipt and nothing else, or something else.
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

/// The error of a transport, without its type.
fn send_error<E: embedded_io_async::Error>(error: SendError<E>) -> LinkError {
    LinkError::Send(match error {
        SendError::Refused(refusal) => SendError::Refused(refusal),
        SendError::Io(error) => SendError::Io(error.kind()),
        _ => SendError::WriteZero,
    })
}
