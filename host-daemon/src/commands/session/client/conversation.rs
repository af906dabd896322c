//! One connection of a session: [`converse`].

use std::io;
use std::time::Duration;

use embedded_io_adapters::tokio_1::FromTokio;
use framing_core::asynch::Link;
use framing_core::session::wire::NEW;
use framing_core::session::{Device, Heard, HeardError, LinkError};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, split};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::keeper::next_number;
use super::{HEADER_LEN, SessionClient};
use crate::commands::session::queue::Queue;
use crate::commands::session::reconnect::Achieved;
use crate::error::{SessionEnd, SessionError};
use crate::service::log::print_status;
use crate::tls::client::ClientStream;

/// How long the daemon may take to answer a HELLO.
const ANSWER_S: u64 = 10;
/// The heartbeat that is asked for, in units of 10 s.
const HEARTBEAT_TENS: u8 = 1;
/// Heartbeats after which the daemon is silent.
const HEARTBEATS: u64 = 3;
/// How long to read what is left: frames after a failed write, or the end of a connection.
const REST: Duration = Duration::from_secs(1);
/// Time without data until TCP probes the daemon, which may send no heartbeat.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How a connection has ended.
#[derive(Debug)]
pub(super) enum Conversation {
    /// Everything is acknowledged.
    Done,
    /// Everything in the ring is acknowledged, and the next message needs a longer ring.
    Grow,
    /// The connection is over.
    Ended(SessionEnd, Achieved),
}

/// Sends over one connection, and closes it.
///
/// # Errors
/// [`SessionError::Spool`].
pub(super) async fn converse(
    client: &mut SessionClient,
    mut stream: ClientStream,
    device: &Device<'_>,
    queue: &mut Queue,
) -> Result<Conversation, SessionError> {
    let conversation = exchange(client, &mut stream, device, queue).await?;
    let is_good = matches!(conversation, Conversation::Done | Conversation::Grow);
    if is_good && stream.is_tls() {
        // Everything is acknowledged, so it does not matter how this ends.
        let _ = timeout(REST, end(&mut stream)).await;
    }
    Ok(conversation)
}

/// Ends the connection in both directions.
async fn end(stream: &mut ClientStream) -> io::Result<()> {
    stream.close_write().await?;
    let mut rest = [0; 256];
    while stream.read(&mut rest).await? != 0 {}
    Ok(())
}

async fn exchange(
    client: &mut SessionClient,
    stream: &mut ClientStream,
    device: &Device<'_>,
    queue: &mut Queue,
) -> Result<Conversation, SessionError> {
    // Messages are sent at once. Without keepalive, only the heartbeat shows that a daemon is gone.
    let _ = stream.tcp().set_nodelay(true);
    let _ =
        SockRef::from(stream.tcp()).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    let begin = client.begin;
    let uptime_us = || u64::try_from(begin.elapsed().as_micros()).unwrap_or_default();
    let (first, session) = (
        client.sender.unacknowledged().first,
        client.sender.session(),
    );
    let device = device.with_heartbeat(HEARTBEAT_TENS);
    let mut achieved = Achieved::default();

    let (read, write) = split(stream);
    let (read, write) = (FromTokio::new(read), FromTokio::new(write));
    let mut timeout_s = ANSWER_S;
    let mut deadline = Some(Instant::now() + Duration::from_secs(timeout_s));
    let opening = Link::open(&mut client.sender, read, write, &device, uptime_us());
    let mut link = match timeout_at(Instant::now() + Duration::from_secs(ANSWER_S), opening).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => return Ok(Conversation::Ended(end_of(error).0, achieved)),
        Err(_) => {
            return Ok(Conversation::Ended(
                SessionEnd::Unanswered { timeout_s },
                achieved,
            ));
        }
    };
    let mut welcomed = None;
    // END was asked for after the message before this number.
    let mut ended_at = None;
    let error = loop {
        if welcomed.is_some() {
            // Before a message is sent, it and the session are in the spool.
            let sender = link.sender();
            client.keeper.take(sender, queue)?;
            let next = next_number(sender);
            if sender.is_settled() {
                achieved.is_settled = true;
                if queue.is_done() {
                    return Ok(Conversation::Done);
                }
                let wanted = queue
                    .front()
                    .map_or(0, |message| HEADER_LEN + message.len());
                if client.ring_len < wanted {
                    return Ok(Conversation::Grow);
                }
            } else {
                // Nothing more can be sent before an acknowledgement, which END asks for: one that is on the way is enough,
                // unless nothing follows.
                let acked = sender.unacknowledged().first;
                let is_due = match queue.is_done() {
                    true => ended_at != Some(next),
                    false => ended_at.is_none_or(|ended_at| ended_at <= acked),
                };
                if !queue.wants_more() && is_due {
                    sender.end();
                    ended_at = Some(next);
                }
            }
        }
        let held = link.sender().unacknowledged();
        let waiting = u64::from(held.blocks);
        let is_long = client.ack_wait.note(held.first, waiting, Instant::now());
        tokio::select! {
            heard = link.drive(uptime_us) => match heard {
                Ok(Heard::Welcome { heartbeat_s, flags }) => {
                    welcomed = Some(Instant::now());
                    timeout_s = HEARTBEATS * u64::from(heartbeat_s);
                    client.keeper.welcomed(link.sender());
                    if flags & NEW != 0 {
                        report_new(&client.label);
                    }
                }
                Ok(_) => {}
                Err(error) => break Ok(error),
            },
            () = queue.fill(), if welcomed.is_some() && queue.wants_more() => continue,
            () = reached(deadline) => break Err(welcomed),
            () = reached(is_long), if welcomed.is_some() => {
                client.ack_wait.report(&client.label, waiting);
                continue;
            }
        }
        deadline = match (welcomed, timeout_s) {
            (None, _) => deadline,
            (Some(_), 0) => None,
            (Some(_), timeout_s) => Some(Instant::now() + Duration::from_secs(timeout_s)),
        };
    };
    let (end, closing) = match error {
        Ok(LinkError::Io(error)) => {
            // CLOSING may have come before.
            let rest = async {
                loop {
                    match link.drive(uptime_us).await {
                        Ok(_) => {}
                        Err(error) => break error,
                    }
                }
            };
            match timeout(REST, rest).await {
                Ok(closing @ LinkError::Closing { .. }) => end_of(closing),
                _ => end_of(LinkError::Io(error)),
            }
        }
        Ok(error) => end_of(error),
        Err(None) => (SessionEnd::Unanswered { timeout_s }, None),
        Err(Some(_)) => (SessionEnd::Silent { timeout_s }, None),
    };
    let end = match (end, welcomed) {
        (SessionEnd::Closed, None) => SessionEnd::Unwelcome,
        (end, _) => end,
    };
    achieved.closing = closing;
    achieved.lasted = welcomed.map_or(Duration::ZERO, |welcomed| welcomed.elapsed());
    // A session that was forgotten is not continued again.
    let has_forgotten = matches!(end, SessionEnd::Protocol(HeardError::OtherRing)) && session != 0;
    achieved.has_progress = first < client.sender.unacknowledged().first || has_forgotten;
    Ok(Conversation::Ended(end, achieved))
}

/// Waits until then, or forever.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Reports that the daemon has begun another session.
fn report_new(label: &str) {
    print_status(format_args!(
        "blocksd: {label}the daemon has begun a new session, because the earlier one was continued without these messages"
    ));
}

/// The end of a connection, and what CLOSING says.
fn end_of(error: LinkError<io::Error>) -> (SessionEnd, Option<(u8, Duration)>) {
    match error {
        LinkError::Io(error) => (SessionEnd::Failed(error), None),
        LinkError::WriteZero => (SessionEnd::Failed(io::ErrorKind::WriteZero.into()), None),
        LinkError::Heard(error) => (SessionEnd::Protocol(error), None),
        LinkError::Closing { code, retry_s } => {
            let retry = Duration::from_secs(retry_s.into());
            (SessionEnd::Closing { code }, Some((code, retry)))
        }
        _ => (SessionEnd::Closed, None),
    }
}
