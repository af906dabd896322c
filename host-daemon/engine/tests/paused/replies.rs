//! Replies to devices that read slowly or not at all, and replies during a shutdown.

use std::time::Duration;

use blocksd_engine::batch::ClosePolicy;
use blocksd_engine::connection::policy::{Policy, ReplyKind, Timeouts};
use blocksd_engine::reason::CloseReason;
use framing_core::{AnyFraming, Blocks};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

use crate::daemon::{Daemon, PIPE_LEN};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the reply in bytes: more than the capacity of a pipe.
const REPLY_LEN: usize = 16 * PIPE_LEN;
/// Length of the reply on the wire: with the header of the message and the end mark.
const WIRE_LEN: usize = 4 + REPLY_LEN + 4;

/// A file, and a policy that sends it as the reply.
fn reply() -> (NamedTempFile, Policy) {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(REPLY_LEN as u64).unwrap();
    let policy = Policy {
        close: ClosePolicy {
            at_end: true,
            ..ClosePolicy::default()
        },
        timeouts: Timeouts {
            reply: Some(TIMEOUT),
            ..Timeouts::default()
        },
        reply: Some(ReplyKind::File(file.path().into())),
        ..Policy::new(AnyFraming::Blocks(Blocks))
    };
    (file, policy)
}

/// Sends one message, and the end of the series.
async fn ask(device: &mut DuplexStream) {
    device.write_all(b"\0\0\0\x02hi\0\0\0\0").await.unwrap();
}

/// Reads to the end, at most `len` bytes at a time, with a pause after each read. Returns the number of bytes.
async fn read_all(device: &mut DuplexStream, len: usize, pause: Duration) -> usize {
    let (mut buffer, mut all) = (vec![0; len], 0);
    loop {
        match device.read(&mut buffer).await {
            Ok(0) | Err(_) => return all,
            Ok(len) => all += len,
        }
        sleep(pause).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_read_its_reply_is_closed_after_the_timeout() {
    let (_file, policy) = reply();
    let daemon = Daemon::start(policy);
    let mut device = daemon.connect(1).await;
    ask(&mut device).await;
    let begin = Instant::now();
    let story = daemon.until_closed(1).await;
    story.assert_closed(CloseReason::ReplyTimeout, begin, TIMEOUT);
    assert_eq!((&story.messages[..], story.ends), (&[2][..], 1));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_reads_64_kib_within_each_timeout_gets_the_whole_reply() {
    let (_file, policy) = reply();
    let daemon = Daemon::start(policy);
    let mut device = daemon.connect(1).await;
    ask(&mut device).await;
    let begin = Instant::now();
    let read = read_all(&mut device, PIPE_LEN, TIMEOUT * 4 / 5).await;
    assert_eq!(read, WIRE_LEN);
    assert!(TIMEOUT * 10 < begin.elapsed());
    let story = daemon.until_closed(1).await;
    assert_eq!(story.closed.unwrap().1, CloseReason::End);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_reads_only_a_few_bytes_at_a_time_is_closed() {
    let (_file, policy) = reply();
    let daemon = Daemon::start(policy);
    // The pipe is small, so some write succeeds after each read.
    let mut device = daemon.connect_through(1, 4096).await;
    ask(&mut device).await;
    let begin = Instant::now();
    let pause = Duration::from_millis(100);
    let reading = tokio::spawn(async move { read_all(&mut device, 400, pause).await });
    let story = daemon.until_closed(1).await;
    story.assert_closed(CloseReason::ReplyTimeout, begin, TIMEOUT);
    assert!(reading.await.unwrap() < WIRE_LEN);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_a_reply_that_is_read() {
    let (_file, policy) = reply();
    let daemon = Daemon::start(policy);
    let mut device = daemon.connect(1).await;
    ask(&mut device).await;
    let mut begun = vec![0; PIPE_LEN];
    device.read_exact(&mut begun).await.unwrap();
    let pause = Duration::from_millis(20);
    let reading = tokio::spawn(async move { read_all(&mut device, PIPE_LEN, pause).await });
    let (stories, _) = daemon.stop().await;
    assert_eq!(stories[0].closed.unwrap().1, CloseReason::End);
    assert_eq!(reading.await.unwrap(), WIRE_LEN - begun.len());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_cuts_off_a_reply_that_is_not_read() {
    let (_file, policy) = reply();
    let daemon = Daemon::start(policy);
    let mut device = daemon.connect(1).await;
    ask(&mut device).await;
    device.read_exact(&mut [0; 100]).await.unwrap();
    let (stories, time) = daemon.stop().await;
    assert_eq!(stories[0].closed.unwrap().1, CloseReason::Shutdown);
    // The engine waits longer than this before it drops connections that do not end.
    let most = Duration::from_millis(1100);
    assert!(time < most, "the shutdown took {time:?}");
}
