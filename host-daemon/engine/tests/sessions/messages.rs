//! Messages, gaps and acknowledgements, and the end of connections.

use std::time::Duration;

use blocksd_engine::connection::policy::SessionMode;
use blocksd_engine::reason::CloseReason;
use blocksd_engine::session::{GapCause, HelloKind, Recovered};
use framing_core::session::wire::NUMBER_MAX;
use tokio::io::AsyncWriteExt;

use crate::device::{Down, END, cont, hello, message};
use crate::host::Host;

#[tokio::test]
async fn messages_are_acknowledged_when_they_are_durable() {
    let (mut host, mut device, session) = Host::with_session(2).await;
    device
        .send(&[&cont(session, 0), &message(b"one"), &message(b"two")])
        .await;
    host.until_messages(2).await;
    assert_eq!(host.opened, [("boiler".to_owned(), HelloKind::Began)]);
    // A ping is answered at once, and nothing is durable.
    device.send(&[&END, &cont(session, 2)]).await;
    // The first CONT names the expected number, too.
    assert_eq!(device.read().await, Down::ping_answer(0));
    assert_eq!(device.read().await, Down::ping_answer(0));
    host.sync();
    assert_eq!(device.read().await, Down::ack(2));
    assert_eq!(host.ends, 0, "an end before a CONT only makes room for it");
    device.send(&[&message(b"three"), &END]).await;
    host.until_ended().await;
    host.sync();
    assert_eq!(device.read().await, Down::ack(3));
    assert_eq!(host.numbers(), [0, 1, 2]);
}

#[tokio::test]
async fn a_broken_protocol_is_answered_and_costs_nothing_else() {
    let open = || hello(5, 0, 1, 0);
    for bytes in [
        [open(), cont(6, 0), message(b"x")],
        [open(), message(b"not a CONT"), Vec::new()],
        [open(), message(&[3; 300]), Vec::new()],
        [open(), END.to_vec(), message(b"x")],
    ] {
        let mut host = Host::auto().await;
        let mut device = host.connect().await;
        device.send(&[&bytes.concat()]).await;
        assert!(matches!(device.read().await, Down::Welcome { .. }));
        assert_eq!(device.read().await, Down::closing(9, 0));
        drop(device);
        host.until_closed(1).await;
        assert_eq!(host.closed, [CloseReason::Protocol]);
        assert!(host.log.is_empty() && host.plain.is_empty());
    }
}

#[tokio::test]
async fn the_newest_connection_continues_the_session() {
    let (mut host, mut old, session) = Host::with_session(2).await;
    old.send(&[&cont(session, 0), &message(b"zero"), &message(b"one")])
        .await;
    host.until_messages(2).await;
    assert!(matches!(old.read().await, Down::Ack { .. }));
    let mut new = host.connect().await;
    new.send(&[&hello(session, 0, 3, 0)]).await;
    let welcome = new.read().await;
    let check = crc32fast::hash(b"one");
    let expected = Down::Welcome {
        acked: 0,
        resume: 2,
        session,
        new: false,
        check,
    };
    assert_eq!(welcome, expected);
    let superseded = Down::closing(5, 1);
    assert_eq!(old.read().await, superseded);
    // It begins with its first message again: the host skips the messages that it has.
    new.send(&[
        &cont(session, 0),
        &message(b"zero"),
        &message(b"one"),
        &message(b"two"),
        &END,
    ])
    .await;
    host.until_ended().await;
    host.sync();
    // The CONT names another number than the expected one, so it is no ping.
    assert_eq!(new.read().await, Down::ack(3));
    assert_eq!(host.numbers(), [0, 1, 2]);
    // A HELLO of a connection that was accepted earlier changes nothing.
    let mut late = host.connect().await;
    let mut newest = host.connect().await;
    newest.open(session, 3, 0).await;
    assert_eq!(new.read().await, superseded);
    late.send(&[&hello(session, 3, 0, 0)]).await;
    assert!(matches!(late.read().await, Down::Closing { code: 5, .. }));
    newest
        .send(&[&cont(session, 3), &message(b"three"), &END])
        .await;
    assert_eq!(newest.read().await, Down::ping_answer(3));
    host.until_messages(4).await;
    // The third time in a minute, the sender is sent away for longer.
    let mut third = host.connect().await;
    third.open(session, 4, 0).await;
    assert_eq!(newest.read().await, Down::closing(5, 60));
}

#[tokio::test]
async fn a_message_over_the_limit_uses_its_number_when_its_last_byte_has_come() {
    let mut host = Host::start(SessionMode::Auto, |policy| policy.limits.block_max = 100).await;
    let mut device = host.connect().await;
    let session = device.open(0, 0, 3).await;
    let long = message(&[7; 5000]);
    device
        .send(&[&cont(session, 0), &message(b"zero"), &long[..4999]])
        .await;
    host.until(|host| host.faults == 1).await;
    assert_eq!(device.read().await, Down::ping_answer(0));
    host.sync();
    assert_eq!(device.read().await, Down::ack(1));
    assert!(host.gaps.is_empty());
    device.send(&[&long[4999..], &message(b"two"), &END]).await;
    host.until_ended().await;
    assert_eq!(host.gaps, [(1, 2, GapCause::Refused)]);
    assert_eq!(host.numbers(), [0, 2]);
    host.sync();
    assert_eq!(device.read().await, Down::ack(3));
    // It is cut: its number is not used.
    device.send(&[&cont(session, 3), &long[..2000]]).await;
    host.until(|host| host.faults == 2).await;
    drop(device);
    host.until_closed(1).await;
    assert_eq!(host.session.as_ref().unwrap().written(), 3);
}

#[tokio::test]
async fn gaps_are_passed_with_their_cause() {
    let mut host = Host::auto().await;
    let known = Recovered {
        device: "boiler".into(),
        session: 5,
        next: 10,
        check: 0,
    };
    host.sessions.recover([known]);
    let mut device = host.connect().await;
    // 10 to 19 were acknowledged elsewhere, and 20 to 24 were given up.
    device.send(&[&hello(5, 25, 3, 5)]).await;
    let welcome = Down::Welcome {
        acked: 10,
        resume: 25,
        session: 5,
        new: false,
        check: 0,
    };
    assert_eq!(device.read().await, welcome);
    device
        .send(&[
            &cont(5, 25),
            &message(b"25"),
            &END,
            &cont(5, 27),
            &message(b"27"),
        ])
        .await;
    host.until_messages(2).await;
    let gaps = [
        (10, 20, GapCause::Unknown),
        (20, 25, GapCause::Device),
        (26, 27, GapCause::Device),
    ];
    assert_eq!(host.gaps, gaps);
    assert_eq!(host.numbers(), [25, 27]);
    // A gap without a message after it is passed at once.
    device.send(&[&END, &cont(5, 30)]).await;
    host.until(|host| host.gaps.len() == 4).await;
    assert_eq!(host.gaps[3], (28, 30, GapCause::Device));
    // The host has more than the sender: that is another ring.
    let mut other = host.connect().await;
    other.send(&[&hello(5, 0, 3, 0)]).await;
    let Down::Welcome {
        session,
        new: true,
        resume: 0,
        ..
    } = other.read().await
    else {
        panic!("not another session");
    };
    assert_ne!(session, 5);
}

#[tokio::test]
async fn a_failed_sync_makes_devices_send_again() {
    let (mut host, mut device, session) = Host::with_session(2).await;
    device.send(&[&cont(session, 0), &message(b"zero")]).await;
    host.until_messages(1).await;
    assert_eq!(device.read().await, Down::ping_answer(0));
    host.sync();
    assert_eq!(device.read().await, Down::ack(1));
    device.send(&[&message(b"one")]).await;
    host.until_messages(2).await;
    host.sessions.reset();
    assert_eq!(device.read().await, Down::closing(7, 0));
    drop(device);
    host.until_closed(1).await;
    assert_eq!(host.closed, [CloseReason::SyncFailed]);
    assert_eq!(host.received, 2);
    let mut device = host.connect().await;
    device.send(&[&hello(session, 1, 1, 0)]).await;
    let welcome = Down::Welcome {
        acked: 1,
        resume: 1,
        session,
        new: false,
        check: 0,
    };
    assert_eq!(device.read().await, welcome);
    device
        .send(&[&cont(session, 1), &message(b"one"), &END])
        .await;
    host.until_messages(3).await;
    assert_eq!(host.numbers(), [0, 1, 1]);
}

#[tokio::test]
async fn after_a_fin_everything_is_acknowledged_before_the_close() {
    let (mut host, mut device, session) = Host::with_session(1).await;
    device.send(&[&cont(session, 0), &message(b"zero")]).await;
    device.stream.shutdown().await.unwrap();
    host.until_messages(1).await;
    assert_eq!(device.read().await, Down::ping_answer(0));
    host.sync();
    assert_eq!(device.read().await, Down::ack(1));
    assert_eq!(device.read().await, Down::Closed);
    host.until_closed(1).await;
    assert_eq!(host.closed, [CloseReason::Eof]);
}

#[tokio::test]
async fn a_shutdown_waits_briefly_for_the_last_commit() {
    let (mut host, mut device, session) = Host::with_session(1).await;
    device.send(&[&cont(session, 0), &message(b"zero")]).await;
    host.until_messages(1).await;
    assert_eq!(device.read().await, Down::ping_answer(0));
    // All tasks run in this thread, and the clock stands still while they run.
    tokio::time::pause();
    host.handle.stop();
    for _ in 0..40 {
        tokio::time::advance(Duration::from_millis(10)).await;
        yield_to_others().await;
    }
    tokio::time::resume();
    host.sync();
    assert_eq!(device.read().await, Down::ack(1));
    assert_eq!(device.read().await, Down::closing(8, 1));
    drop(device);
    host.until_closed(1).await;
    assert_eq!(host.closed, [CloseReason::Shutdown]);
}

#[tokio::test]
async fn numbers_end_below_two_to_the_56th() {
    let last = NUMBER_MAX - 2;
    let mut host = Host::auto().await;
    let mut device = host.connect().await;
    let session = device.open(0, last, 2).await;
    device
        .send(&[&cont(session, last), &message(b"two"), &message(b"one")])
        .await;
    host.until_messages(2).await;
    host.sync();
    assert_eq!(device.read().await, Down::ping_answer(last));
    assert_eq!(device.read().await, Down::ack(NUMBER_MAX));
    device.send(&[&message(b"none")]).await;
    assert_eq!(device.read().await, Down::closing(9, 0));
    drop(device);
    host.until_closed(1).await;
    assert_eq!(host.log.len(), 2);
}

async fn yield_to_others() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
