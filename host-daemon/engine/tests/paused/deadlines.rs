//! Timeouts of silent devices and of incomplete messages, and the byte from which each timeout counts.

use std::time::Duration;

use blocksd_engine::Engine;
use blocksd_engine::batch::{ClosePolicy, OversizePolicy};
use blocksd_engine::connection::policy::{Policy, Timeouts};
use blocksd_engine::reason::CloseReason;
use framing_core::{AnyFraming, Blocks, Limits, Lines, Netstring, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::daemon::Daemon;

const SECOND: Duration = Duration::from_secs(1);
/// The timeout under test.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than every timeout here.
const LONG: Duration = Duration::from_secs(60 * 60);

fn policy(framing: AnyFraming, timeouts: Timeouts) -> Policy {
    Policy {
        timeouts,
        close: ClosePolicy {
            at_end: true,
            ..ClosePolicy::default()
        },
        ..Policy::new(framing)
    }
}

fn blocks(timeouts: Timeouts) -> Policy {
    policy(AnyFraming::Blocks(Blocks), timeouts)
}

fn header() -> Timeouts {
    Timeouts {
        header: Some(TIMEOUT),
        ..Timeouts::default()
    }
}

fn message() -> Timeouts {
    Timeouts {
        message: Some(TIMEOUT),
        ..Timeouts::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_header_is_closed_after_its_timeout() {
    let daemon = Daemon::start(blocks(header()));
    let mut device = daemon.connect(1).await;
    sleep(LONG).await;
    device.write_all(b"\0\0").await.unwrap();
    let begin = Instant::now();
    let story = daemon.until_closed(1).await;
    story.assert_closed(CloseReason::HeaderTimeout, begin, TIMEOUT);
    assert_eq!(story.faults.len(), 1, "{story:?}");
    assert_eq!(
        device.read(&mut [0]).await.unwrap(),
        0,
        "the connection is not closed"
    );
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_message_is_closed_after_its_own_timeout_and_not_that_of_its_header() {
    let timeouts = Timeouts {
        header: Some(TIMEOUT / 5),
        ..message()
    };
    let daemon = Daemon::start(blocks(timeouts));
    let mut device = daemon.connect(1).await;
    device.write_all(b"\0\0\0\x01a\0\0\0\x05he").await.unwrap();
    let begin = Instant::now();
    let story = daemon.until_closed(1).await;
    story.assert_closed(CloseReason::BlockTimeout, begin, TIMEOUT);
    assert_eq!((&story.messages[..], story.faults.len()), (&[1][..], 1));
}

#[tokio::test(start_paused = true)]
async fn single_bytes_do_not_extend_a_timeout() {
    for (framing, timeouts, wire, reason) in [
        (
            AnyFraming::Netstring(Netstring),
            header(),
            &b"123456789"[..],
            CloseReason::HeaderTimeout,
        ),
        (
            AnyFraming::Lines(Lines),
            message(),
            b"xxxxxxxxx",
            CloseReason::BlockTimeout,
        ),
    ] {
        let daemon = Daemon::start(policy(framing, timeouts));
        let mut device = daemon.connect(1).await;
        let begin = Instant::now();
        let mut is_open = true;
        for byte in wire {
            is_open &= device.write_all(&[*byte]).await.is_ok();
            sleep(4 * SECOND).await;
        }
        let story = daemon.until_closed(1).await;
        story.assert_closed(reason, begin, TIMEOUT);
        assert!(!is_open, "{framing}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_streamed_message_without_an_end_is_closed_after_its_timeout() {
    let close = ClosePolicy {
        at_end: true,
        oversize: OversizePolicy::Stream,
    };
    let limits = Limits {
        block_max: 1 << 20,
        skip_max: u32::MAX,
    };
    let daemon = Daemon::start(Policy {
        close,
        limits,
        ..blocks(message())
    });
    let mut device = daemon.connect(1).await;
    device.write_all(&[0xff; 4]).await.unwrap();
    let begin = Instant::now();
    // The loop ends when the daemon closes the connection.
    while device.write_all(&[b'x'; 1000]).await.is_ok() && begin.elapsed() < LONG {
        sleep(SECOND / 20).await;
    }
    let story = daemon.until_closed(1).await;
    story.assert_closed(CloseReason::BlockTimeout, begin, TIMEOUT);
    assert_eq!(story.faults.len(), 1, "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn each_message_has_its_own_timeout_and_the_silence_between_messages_has_none() {
    let timeouts = Timeouts {
        header: Some(TIMEOUT),
        ..message()
    };
    let daemon = Daemon::start(blocks(timeouts));
    let mut device = daemon.connect(1).await;
    // Each write ends one message and begins another. Together they take longer than one timeout.
    device.write_all(b"\0\0\0\x02a").await.unwrap();
    for _ in 0..6 {
        sleep(8 * SECOND).await;
        device.write_all(b"b\0\0\0\x02a").await.unwrap();
    }
    device.write_all(b"b").await.unwrap();
    sleep(LONG).await;
    device.write_all(b"\0\0\0\0").await.unwrap();
    let story = daemon.until_closed(1).await;
    assert_eq!(story.closed.unwrap().1, CloseReason::End);
    assert_eq!(story.messages, [2; 7]);
}

#[tokio::test(start_paused = true)]
async fn a_message_after_a_skipped_one_has_its_own_timeout() {
    let limits = Limits {
        block_max: 4,
        skip_max: Limits::SKIP_MAX,
    };
    let daemon = Daemon::start(Policy {
        limits,
        ..blocks(message())
    });
    let mut device = daemon.connect(1).await;
    device.write_all(b"\0\0\0\x07too l").await.unwrap();
    sleep(7 * SECOND).await;
    // One byte of the next message, whose timeout expires later than that of the skipped one.
    device.write_all(b"ng\0").await.unwrap();
    sleep(7 * SECOND).await;
    device.write_all(b"\0\0\x01a\0\0\0\0").await.unwrap();
    let story = daemon.until_closed(1).await;
    assert_eq!(story.closed.unwrap().1, CloseReason::End);
    assert_eq!((&story.messages[..], story.faults.len()), (&[1][..], 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_no_incomplete_message() {
    let timeouts = Timeouts {
        header: Some(TIMEOUT),
        ..message()
    };
    let daemon = Daemon::start(policy(AnyFraming::Stream(Stream), timeouts));
    let mut device = daemon.connect(1).await;
    device.write_all(b"one").await.unwrap();
    sleep(LONG).await;
    device.write_all(b"two").await.unwrap();
    drop(device);
    let story = daemon.until_closed(1).await;
    assert_eq!(story.closed.unwrap().1, CloseReason::Eof);
    assert!(story.faults.is_empty(), "{story:?}");
}

#[tokio::test(start_paused = true)]
async fn time_spent_in_backpressure_does_not_count() {
    let daemon = Daemon::of(Engine::builder(), blocks(message()), 4, false);
    let mut device = daemon.connect(1).await;
    let sent = tokio::spawn(async move {
        // Each message takes several reads, so one message is incomplete while the daemon waits for its sink.
        let block = [&900_000_u32.to_be_bytes()[..], &[b'x'; 900_000]].concat();
        for _ in 0..30 {
            device.write_all(&block).await?;
        }
        device.write_all(&[0; 4]).await
    });
    sleep(LONG).await;
    assert!(!sent.is_finished(), "the daemon has read everything");
    daemon.take_events();
    sent.await.unwrap().unwrap();
    let story = daemon.until_closed(1).await;
    assert_eq!(story.closed.unwrap().1, CloseReason::End, "{story:?}");
    assert_eq!(story.messages, [900_000; 30]);
}

#[tokio::test(start_paused = true)]
async fn without_timeouts_an_incomplete_message_may_take_any_time() {
    let daemon = Daemon::start(blocks(Timeouts::default()));
    let mut device = daemon.connect(1).await;
    sleep(LONG).await;
    device.write_all(b"\0\0").await.unwrap();
    sleep(LONG).await;
    device.write_all(b"\0\x01").await.unwrap();
    sleep(LONG).await;
    device.write_all(b"a\0\0\0\0").await.unwrap();
    let story = daemon.until_closed(1).await;
    assert_eq!(story.closed.unwrap().1, CloseReason::End);
    assert_eq!(story.messages, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_device_is_idle_after_its_last_byte_and_not_before() {
    let timeouts = Timeouts {
        idle: Some(TIMEOUT),
        ..Timeouts::default()
    };
    let daemon = Daemon::start(blocks(timeouts));
    let mut device = daemon.connect(1).await;
    // The pause before each byte is shorter than the timeout; all of them together are longer.
    for byte in b"\0\0\0\x03abc" {
        sleep(8 * SECOND).await;
        device.write_all(&[*byte]).await.unwrap();
    }
    let begin = Instant::now();
    let story = daemon.until_closed(1).await;
    story.assert_closed(CloseReason::Idle, begin, TIMEOUT);
    assert_eq!(story.messages, [3]);
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_has_a_timeout_and_silence_after_it_has_none() {
    let timeouts = Timeouts {
        first_byte: Some(TIMEOUT),
        ..Timeouts::default()
    };
    let daemon = Daemon::start(blocks(timeouts));
    let mut speaking = daemon.connect(1).await;
    let _silent = daemon.connect(2).await;
    let begin = Instant::now();
    sleep(8 * SECOND).await;
    speaking.write_all(b"\0").await.unwrap();
    let story = daemon.until_closed(2).await;
    story.assert_closed(CloseReason::FirstByteTimeout, begin, TIMEOUT);
    sleep(LONG).await;
    speaking.write_all(b"\0\0\x01a\0\0\0\0").await.unwrap();
    let story = daemon.until_closed(1).await;
    assert_eq!(story.closed.unwrap().1, CloseReason::End);
}
